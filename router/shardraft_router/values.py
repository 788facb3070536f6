"""What callers give and get: writes of a batch, read policies, readings."""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs

from shardraft.errors import InvalidArgument, ShardraftError
from shardraft.kv.commands import ABSENT, ANY_REVISION, DELETE, PUT
from shardraft.kv.requests import Consistency


@attrs.frozen(slots=True)
class Put:
    """One write of a batch; ``if_revision`` and ``if_absent`` as with ``Router.put``."""

    key: bytes
    value: bytes
    if_revision: int | None = attrs.field(default=None, kw_only=True)
    if_absent: bool = attrs.field(default=False, kw_only=True)


@attrs.frozen(slots=True)
class Delete:
    """One delete of a batch; ``if_revision`` as with ``Router.delete``."""

    key: bytes
    if_revision: int | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(slots=True)
class Linearizable:
    """Sees every write acknowledged before the call. Answered by the shard's leader."""


@attrs.frozen(slots=True)
class Stale:
    """Whatever a replica has applied. Answered by a learner if there is one, those of the highest tier first."""


@attrs.frozen(slots=True)
class Bounded:
    """At most ``age_seconds_max`` old, proved by the learner that answers. No host offers it yet."""

    age_seconds_max: float


@attrs.frozen(slots=True)
class AtLeast:
    """Not before what a causal ``token`` names. No host offers it yet."""

    token: bytes


LINEARIZABLE: Final = Linearizable()
"""The policy of a read that names none."""
ReadPolicy: TypeAlias = Linearizable | Stale | Bounded | AtLeast
_OFFERED: Final[dict[type, Consistency]] = {Linearizable: Consistency.LINEARIZABLE, Stale: Consistency.STALE}


@attrs.frozen(slots=True)
class HostUnreachable:
    """A host or learner that did not tell its status, and why."""

    endpoint: str
    error: ShardraftError


def consistency_of(policy: ReadPolicy) -> Consistency:
    """How a policy travels; InvalidArgument for one that no host offers, TypeError for what is none."""
    consistency = _OFFERED.get(type(policy))
    if consistency is not None:
        return consistency
    if isinstance(policy, Linearizable):
        return Consistency.LINEARIZABLE
    if isinstance(policy, Stale):
        return Consistency.STALE
    if isinstance(policy, Bounded | AtLeast):
        raise InvalidArgument(f"{type(policy).__name__} reads are not offered yet; use Linearizable() or Stale()")
    raise TypeError(f"a read policy is Linearizable() or Stale(), not {policy!r}")


def condition_of(if_revision: int | None, if_absent: bool) -> int:
    """A condition as it travels. ``if_revision=0`` means absent, as revision 0 does everywhere."""
    if if_revision is None:
        return ABSENT if if_absent else ANY_REVISION
    if isinstance(if_revision, bool) or not isinstance(if_revision, int):
        raise TypeError(f"if_revision must be an int, not {type(if_revision).__name__}")
    if if_absent and if_revision != ABSENT:
        raise InvalidArgument("if_absent and if_revision contradict each other")
    if not 0 <= if_revision < ANY_REVISION:
        raise InvalidArgument(f"{if_revision} is no revision")
    return if_revision


def operation_of(write: Put | Delete) -> tuple[int, bytes, bytes, int]:
    """(kind, key, value, condition) of one write of a batch."""
    if isinstance(write, Put):
        return PUT, write.key, write.value, condition_of(write.if_revision, write.if_absent)
    if isinstance(write, Delete):
        return DELETE, write.key, b"", condition_of(write.if_revision, False)
    raise TypeError(f"a batch holds Put and Delete, not {type(write).__name__}")
