"""A client's batch of writes and what became of it.

A batch is columnar: one column per property, an operation is a position across them. The
encoded batch is what travels and what lies in the log (DESIGN idea 3); these values are its
decoded form. A coalesced batch is no transaction: its operations apply in order, each sees the
earlier ones and has its own outcome. Only an ``atomic`` batch is all or nothing.

The identity of an operation is (session, sequence of its batch, position in it) and stays with
it through every retry (PROTOCOL, "Operations, sessions, revisions").
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, Protocol, TypeAlias

import attrs

from shardraft.types import INTEGER_MAX, Revision, SessionId

PUT: Final = 1
DELETE: Final = 2
"""The kinds of operations, one byte each in ``Batch.kinds``. Numbers are never reused."""

ANY_REVISION: Final = INTEGER_MAX
"""In ``Batch.conditions``: no condition."""
ABSENT: Final = 0
"""In ``Batch.conditions``: the key must be absent. Any other number is the revision it must have."""


class Outcome(IntEnum):
    """What became of one operation, one byte each in ``BatchResult.outcomes``. Numbers are never reused."""

    WRITTEN = 1
    DELETED = 2
    MISSING = 3
    """A delete of an absent key: applied, and nothing changed."""
    CONFLICT = 4
    """Its condition did not hold; not applied."""
    WRONG_SHARD = 5
    """The shard does not hold the key; certainly not applied."""
    ABORTED = 6
    """Another operation of the same atomic batch failed; not applied."""


@attrs.frozen(slots=True)
class Batch:
    """Writes of one session to one shard, frozen when first sent.

    ``session``: 16 random bytes. ``sequence``: the batch's number in its session, any order of
    arrival. ``answered_below``: the client holds results of all sequences below. ``opens_session``
    stands until one batch of the session was acknowledged by this shard. ``epoch``: the shard
    map's version the client used. ``kinds`` has one byte per operation; ``keys`` are routing keys;
    ``values`` are as long (empty for deletes); ``conditions`` is empty when no operation has one,
    else one number per operation. ``positions`` is empty unless the batch was regrouped after a
    map change: then it names, ascending, each operation's position in the batch first sent.
    """

    session: SessionId
    sequence: int
    answered_below: int
    opens_session: bool
    atomic: bool
    epoch: int
    kinds: bytes
    keys: Sequence[bytes]
    values: Sequence[bytes]
    conditions: Sequence[int] = ()
    positions: Sequence[int] = ()


@attrs.frozen(slots=True)
class BatchResult:
    """What became of each operation of a batch, in order.

    Operation ``i`` of the batch has revision ``first_revision + i``, whatever its outcome: a batch of
    n takes n consecutive ones. ``found_revisions`` has one number per CONFLICT outcome, in order:
    the revision the key had (0: absent). ``revisions`` is empty but for a retry of *regrouped* operations,
    which first applied at different times: then it has one number per operation (0: not applied),
    and ``first_revision`` is the first of them.
    """

    first_revision: Revision
    outcomes: bytes
    found_revisions: tuple[Revision, ...] = ()
    revisions: tuple[Revision, ...] = ()

    def revision_of(self, operation: int) -> Revision:
        """The revision of the operation at that place in the batch."""
        return self.revisions[operation] if self.revisions else self.first_revision + operation


class Refusal(IntEnum):
    """Why a whole batch was not applied now. Numbers are never reused."""

    SESSION_EXPIRED = 1
    """Unknown or expired session without ``opens_session``, or a sequence below the window: outcome unknown."""
    SESSIONS_FULL = 2
    """The shard holds ``sessions_max`` sessions, all in use of late; certainly not applied."""
    WINDOW_FULL = 3
    """The sequence is ``session_window_max`` or more above the oldest unanswered one; certainly not applied."""


ApplyResult: TypeAlias = BatchResult | Refusal


@attrs.frozen(slots=True)
class Stored:
    """A key's value and its revision, as they stand in the state of a shard."""

    revision: Revision
    value: bytes


class BatchCodec(Protocol):
    """Encodes and decodes batches; Cap'n Proto in the real world, a plain codec in the simulated one."""

    def encode_batch(self, batch: Batch) -> bytes:
        """The bytes that travel and lie in the log; deterministic."""
        ...

    def decode_batch(self, payload: bytes) -> Batch:
        """The batch in ``payload``. Raises ``InvalidArgument`` when it is malformed (shape only, not limits)."""
        ...
