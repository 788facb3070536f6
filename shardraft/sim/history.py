"""What clients saw: operations on keys, and one key's operations in the terms of the checker."""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from typing import Final

import attrs

from shardraft.kv.commands import ABSENT, ANY_REVISION, Outcome


class OperationKind(IntEnum):
    """What a client asked for."""

    GET = 1
    PUT = 2
    DELETE = 3


@attrs.frozen(slots=True)
class Operation:
    """One operation on one key as its client saw it.

    ``called`` and ``returned`` are positions in one total order of all calls and returns (any
    integers that grow with time; a call and a return of equal position are concurrent).
    ``returned`` is None when the outcome is unknown. A write that was certainly not applied and
    a read that failed are no operations: leave them out.

    ``value`` is what a PUT wrote or a GET saw (None: absent). ``condition`` is as in
    ``Batch.conditions``. ``outcome`` is None for a GET and for an unknown outcome. ``revision``
    is the write's own for WRITTEN and DELETED, the found one for CONFLICT, the value's for a GET.
    """

    key: bytes
    kind: OperationKind
    called: int
    returned: int | None
    value: bytes | None = None
    condition: int = ANY_REVISION
    outcome: Outcome | None = None
    revision: int = 0


class Violation(Exception):
    """The history is illegal; the text says why."""


# A key's state in a configuration is one number: its revision. Negative numbers are wildcards.
HIDDEN: Final = -1
"""As a state: present, written by a write of unknown outcome whose revision nobody told."""
ANY: Final = -1
"""As a need: the write was unconditional."""
PRESENT: Final = -2
"""As a need: a delete found something to delete."""


@attrs.frozen(slots=True)
class KnownWrite:
    """A write that took effect at ``revision`` and needed the state ``need``; ``after`` is the state it leaves."""

    revision: int
    need: int
    after: int
    called: int
    returned: int | None


@attrs.define(slots=True)
class KeyHistory:
    """One key's history in the terms of the sweep. Observations are (called, returned, state seen)."""

    writes: list[KnownWrite] = attrs.field(factory=list)
    observations: list[tuple[int, int, int]] = attrs.field(factory=list)
    unknown_calls: list[tuple[int, bool, int]] = attrs.field(factory=list)
    """(called, leaves the key present, the state it needs)"""


def _need(operation: Operation) -> int:
    return ANY if operation.condition == ANY_REVISION else operation.condition


def read_history(operations: list[Operation]) -> KeyHistory:
    """Operations of one key in the terms of the sweep; raises ``Violation`` for plain impossibilities."""
    history = KeyHistory()
    revision_of = _revisions_of_values(operations)
    unknown: list[Operation] = []
    for operation in operations:
        if operation.kind is OperationKind.GET:
            _read_get(history, operation, revision_of)
        elif operation.returned is not None:
            _read_known(history, operation)
        elif operation.kind is OperationKind.PUT and revision_of.get(operation.value):
            revision = revision_of[operation.value]
            history.writes.append(KnownWrite(revision, _need(operation), revision, operation.called, None))
        else:
            unknown.append(operation)
    history.writes.sort(key=lambda write: write.revision)
    for one, next_one in pairwise(history.writes):
        if one.revision == next_one.revision:
            raise Violation(f"two writes took effect at revision {one.revision}")
    _read_unknown(history, unknown)
    return history


def _revisions_of_values(operations: list[Operation]) -> dict[bytes | None, int]:
    """The revision of every value that was put, 0 while nobody saw it."""
    revision_of: dict[bytes | None, int] = {}
    for operation in operations:
        if operation.kind is OperationKind.PUT and operation.outcome in (None, Outcome.WRITTEN):
            if operation.value in revision_of:
                raise ValueError("values must be unique per key")
            revision_of[operation.value] = operation.revision if operation.outcome else 0
    for operation in operations:
        if operation.kind is OperationKind.GET and revision_of.get(operation.value) == 0:
            revision_of[operation.value] = operation.revision
    return revision_of


def _read_get(history: KeyHistory, operation: Operation, revision_of: dict[bytes | None, int]) -> None:
    if operation.returned is None:
        return
    if operation.value is not None and revision_of.get(operation.value) != operation.revision:
        raise Violation(f"a read saw {operation.value!r} at revision {operation.revision}, nobody wrote that")
    if (operation.value is None) != (operation.revision == 0):
        raise Violation("a read saw a value without a revision, or a revision without a value")
    history.observations.append((operation.called, operation.returned, operation.revision))


def _read_known(history: KeyHistory, operation: Operation) -> None:
    assert operation.returned is not None
    called, returned, revision = operation.called, operation.returned, operation.revision
    if operation.outcome is Outcome.WRITTEN:
        history.writes.append(KnownWrite(revision, _need(operation), revision, called, returned))
    elif operation.outcome is Outcome.DELETED:
        need = _need(operation)
        if need == ABSENT:
            raise Violation("a delete of an absent key deleted something")
        history.writes.append(KnownWrite(revision, PRESENT if need == ANY else need, ABSENT, called, returned))
    elif operation.outcome is Outcome.MISSING:
        history.observations.append((called, returned, ABSENT))
    elif operation.outcome is Outcome.CONFLICT:
        if operation.condition in (ANY_REVISION, revision):
            raise Violation(f"a write was refused although revision {revision} met its condition")
        history.observations.append((called, returned, revision))
    else:
        raise ValueError(f"{operation.outcome!r} is not an outcome of one operation on one key")


def _read_unknown(history: KeyHistory, unknown: list[Operation]) -> None:
    """Keep unknown writes of which anything could be seen; the others may be taken as never applied."""
    needs = {write.need for write in history.writes} | {seen for _, _, seen in history.observations}
    needs |= {_need(operation) for operation in unknown}  # An unknown write may stand on another one.
    told = {write.revision for write in history.writes}
    presence_matters = PRESENT in needs or any(need > 0 and need not in told for need in needs)
    absence_matters = ABSENT in needs
    for operation in unknown:
        present, need = operation.kind is OperationKind.PUT, _need(operation)
        if (presence_matters if present else absence_matters) and (present or need != ABSENT):
            history.unknown_calls.append((operation.called, present, need))
