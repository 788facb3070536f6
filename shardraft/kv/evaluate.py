"""What the operations of a batch do to a state: outcomes and changed keys, with nothing changed yet.

Operations are taken in order and each sees the earlier ones. An unconditional put reads nothing, and a batch of nothing
else (``only_puts``) needs no evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import attrs

from shardraft.kv.commands import ANY_REVISION, DELETE, PUT, Batch, BatchResult, Outcome, Stored
from shardraft.kv.records import Record, encode_record, revision_in
from shardraft.shards.keyspace import KeyRange
from shardraft.types import Revision

Read: TypeAlias = Callable[[bytes], Stored | None]
Changes: TypeAlias = Mapping[bytes, Record | None]

_WRITTEN: Final = int(Outcome.WRITTEN)
_DELETED: Final = int(Outcome.DELETED)
_MISSING: Final = int(Outcome.MISSING)
_CONFLICT: Final = int(Outcome.CONFLICT)
_WRONG_SHARD: Final = int(Outcome.WRONG_SHARD)
_ABORTED: Final = int(Outcome.ABORTED)


def evaluate(batch: Batch, first_revision: Revision, key_range: KeyRange, read: Read) -> tuple[BatchResult, Changes]:
    """The result of ``batch`` and the keys it changes (None: deleted), read from the state through ``read``.

    An operation whose key ``key_range`` does not hold is WRONG_SHARD (PROTOCOL: checked again at apply).
    In an atomic batch that comes first of all, so that it does not depend on values the shard holds.
    """
    keys = batch.keys
    is_inside = key_range.holds_all(keys)
    if batch.atomic and not is_inside:
        outcomes = bytes(_ABORTED if key_range.holds(key) else _WRONG_SHARD for key in keys)
        return BatchResult(first_revision, outcomes), {}
    evaluation = _Evaluation(read)
    for place, key in enumerate(keys):
        if is_inside or key_range.holds(key):
            evaluation.take(batch, place, key, first_revision + place)
        else:
            evaluation.outcomes.append(_WRONG_SHARD)
        if batch.atomic and evaluation.found_revisions:
            return _aborted(len(keys), place, first_revision, evaluation), {}
    result = BatchResult(first_revision, bytes(evaluation.outcomes), tuple(evaluation.found_revisions))
    return result, evaluation.changes


def only_puts(batch: Batch, key_range: KeyRange) -> bool:
    """Whether all of ``batch`` is certain to be written, whatever the state is."""
    if batch.conditions or batch.kinds.count(PUT) != len(batch.keys):
        return False
    return key_range.holds_all(batch.keys)


@lru_cache(maxsize=256)
def all_written(count: int) -> bytes:
    """The outcomes of so many operations, if all were written."""
    # One object for all results of a size, because the session tables keep very many of them.
    return bytes([_WRITTEN]) * count


def select(batch: Batch, places: Sequence[int]) -> Batch:
    """The batch of only the operations at ``places``, each with the position it had when first sent."""
    return attrs.evolve(
        batch,
        kinds=bytes(batch.kinds[place] for place in places),
        keys=[batch.keys[place] for place in places],
        values=[batch.values[place] for place in places],
        conditions=[batch.conditions[place] for place in places] if batch.conditions else (),
        positions=[batch.positions[place] for place in places] if batch.positions else list(places),
    )


class _Evaluation:
    """The state as the next operation of one batch sees it, and what came of those before."""

    __slots__ = ("_read", "changes", "found_revisions", "outcomes")

    def __init__(self, read: Read) -> None:
        self._read = read
        self.changes: dict[bytes, Record | None] = {}
        self.outcomes = bytearray()
        self.found_revisions: list[Revision] = []

    def take(self, batch: Batch, place: int, key: bytes, revision: Revision) -> None:
        kind = batch.kinds[place]
        condition = batch.conditions[place] if batch.conditions else ANY_REVISION
        found_revision = 0
        if condition != ANY_REVISION or kind == DELETE:
            found_revision = self._revision_of(key)
        if condition not in (ANY_REVISION, found_revision):
            self.outcomes.append(_CONFLICT)
            self.found_revisions.append(found_revision)
        elif kind == PUT:
            self.changes[key] = encode_record(key, Stored(revision, batch.values[place]))
            self.outcomes.append(_WRITTEN)
        else:
            assert kind == DELETE, f"an operation of unknown kind {kind} was appended"
            if found_revision:
                self.changes[key] = None
            self.outcomes.append(_DELETED if found_revision else _MISSING)

    def _revision_of(self, key: bytes) -> Revision:
        """The revision that the key has by now, 0 when it is absent."""
        if key in self.changes:
            record = self.changes[key]
            return 0 if record is None else revision_in(record)
        found = self._read(key)
        return 0 if found is None else found.revision


def _aborted(count: int, failed: int, first_revision: Revision, evaluation: _Evaluation) -> BatchResult:
    outcomes = bytearray([_ABORTED]) * count
    outcomes[failed] = _CONFLICT
    return BatchResult(first_revision, bytes(outcomes), tuple(evaluation.found_revisions))
