"""A batch as it stands once it was first sent: frozen, with the payload that every retry repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

from shardraft.errors import ShardraftError
from shardraft.kv.commands import ANY_REVISION, PUT, Batch, BatchCodec
from shardraft.kv.requests import ClientReply
from shardraft.shards.shard_map import ShardMap
from shardraft.types import ShardId
from shardraft_router.core.calls import AtomicCall, PutsCall, WriteCall, WriteGroup
from shardraft_router.core.links import Link
from shardraft_router.core.sessions import Session

NO_POSITIONS: Final[Sequence[int]] = ()
_PUTS: Final = bytes([PUT])

BatchCalls: TypeAlias = Sequence[WriteCall | PutsCall] | Sequence[AtomicCall]
"""What one batch carries: coalesced calls, or one that is all or nothing."""


class BatchOwner(Protocol):
    """The lane that sends a batch and hears what became of it."""

    def batch_answered(self, batch: FrozenBatch, link: Link, reply: ClientReply, now_us: int) -> None: ...

    def batch_lost(self, batch: FrozenBatch, link: Link, now_us: int, reason: ShardraftError) -> None: ...


class FrozenBatch:
    """Operations that keep one identity, (``session``, ``sequence``, position), through every retry.

    ``calls`` are coalesced puts and deletes, or one ``AtomicCall``; ``operations`` is how many operations they are.
    ``regrouped``: it is a piece of a batch that met a change of the map; ``positions`` then names its operations,
    unless it is the whole.
    ``under_way``: an attempt is sent and not answered. ``maybe_applied``: some attempt ended with an unknown
    outcome, so that only a result from the session table can make any operation of it certain. ``cause`` is
    the last refusal.
    """

    __slots__ = (
        "calls", "cause", "lane", "maybe_applied", "operations", "payload", "positions", "regrouped", "sent_us",
        "sequence", "session", "under_way",
    )  # fmt: skip

    def __init__(
        self,
        session: Session,
        sequence: int,
        calls: BatchCalls,
        positions: Sequence[int],
        lane: BatchOwner,
    ) -> None:
        self.session = session
        self.sequence = sequence
        self.calls = calls
        self.positions = positions
        self.regrouped = False
        self.lane = lane
        self.payload = b""
        self.operations = 0
        self.under_way = False
        self.maybe_applied = False
        self.cause: ShardraftError | None = None
        self.sent_us = 0

    @property
    def paced(self) -> int:
        """How many operations a ``Pace`` counts: what is all or nothing is one."""
        return 1 if isinstance(self.calls[0], AtomicCall) else self.operations

    @property
    def is_live(self) -> bool:
        """Whether anybody still waits for a result of it."""
        return any(not call.done for call in self.calls)

    def deadline_us(self) -> int:
        """The latest deadline of its operations: when nobody waits for it any more."""
        return max(call.deadline_us for call in self.calls)

    def answered(self, link: Link, reply: ClientReply, now_us: int) -> None:
        self.lane.batch_answered(self, link, reply, now_us)

    def lost(self, link: Link, now_us: int, reason: ShardraftError) -> None:
        self.lane.batch_lost(self, link, now_us, reason)

    def encode(self, codec: BatchCodec, epoch: int) -> None:
        """Fix the payload for the shard map's version ``epoch``."""
        first = self.calls[0]
        if isinstance(first, AtomicCall):
            kinds, keys, values, conditions = first.kinds, first.keys, first.values, first.conditions
        else:
            kinds, keys, values, conditions = _columns(self.calls)
        self.operations = len(kinds)
        if conditions.count(ANY_REVISION) == len(conditions):
            conditions = ()
        session = self.session
        # The shard that a piece goes to may never have seen the session. Operations of which no attempt may
        # have been applied cannot apply twice, so they may open it; others must not, lest a shard that
        # forgot the session applies them afresh.
        opens = not session.opened or (self.regrouped and not self.maybe_applied)
        self.payload = codec.encode_batch(
            Batch(
                session.session,
                self.sequence,
                session.answered_below,
                opens,
                isinstance(first, AtomicCall),
                epoch,
                kinds,
                keys,
                values,
                conditions,
                self.positions,
            )
        )


def _columns(calls: BatchCalls) -> tuple[bytes, list[bytes], list[bytes], list[int]]:
    """Kinds, keys, values and conditions of all operations, in order."""
    kinds = bytearray()
    keys: list[bytes] = []
    values: list[bytes] = []
    conditions: list[int] = []
    for call in calls:
        if isinstance(call, WriteCall):
            kinds.append(call.kind)
            keys.append(call.key)
            values.append(call.value)
            conditions.append(call.condition)
        else:
            assert isinstance(call, PutsCall)
            kinds += _PUTS * len(call.keys)
            keys += call.keys
            values += call.values
            conditions += [ANY_REVISION] * len(call.keys)
    return bytes(kinds), keys, values, conditions


def singles(calls: BatchCalls) -> list[WriteCall]:
    """A call for each operation of what was coalesced."""
    divided: list[WriteCall] = []
    for call in calls:
        if isinstance(call, PutsCall):
            assert isinstance(call.group, WriteGroup)
            divided += call.group.divide(call)
        else:
            assert isinstance(call, WriteCall)
            divided.append(call)
    return divided


def freeze(session: Session, calls: BatchCalls, lane: BatchOwner) -> FrozenBatch:
    """Give ``calls`` the next sequence of ``session``; from here on they are sent."""
    for call in calls:
        call.sent = True
    return FrozenBatch(session, session.begin(), calls, NO_POSITIONS, lane)


def regroup(batch: FrozenBatch, shard_map: ShardMap) -> dict[ShardId, FrozenBatch] | None:
    """The pieces of ``batch`` by the shard that owns them under ``shard_map``; done calls are left out.

    Operations keep their identity by naming their positions. None: it is all or nothing, and its keys
    lie in several shards.
    """
    first = batch.calls[0]
    if isinstance(first, AtomicCall):
        owners = {shard_map.shard_of(key).shard for key in first.keys}
        return {owners.pop(): _piece(batch, batch.calls, NO_POSITIONS)} if len(owners) == 1 else None
    members: dict[ShardId, tuple[list[WriteCall], list[int]]] = {}
    batch.calls = singles(batch.calls)
    for place, call in enumerate(batch.calls):
        if not call.done:
            calls, positions = members.setdefault(shard_map.shard_of(call.key).shard, ([], []))
            calls.append(call)
            positions.append(batch.positions[place] if batch.positions else place)
    return {
        shard: _piece(
            batch, calls, NO_POSITIONS if len(calls) == len(batch.calls) and not batch.positions else positions
        )
        for shard, (calls, positions) in members.items()
    }


def _piece(batch: FrozenBatch, calls: BatchCalls, positions: Sequence[int]) -> FrozenBatch:
    piece = FrozenBatch(batch.session, batch.sequence, calls, positions, batch.lane)
    piece.maybe_applied, piece.cause, piece.regrouped = batch.maybe_applied, batch.cause, True
    return piece
