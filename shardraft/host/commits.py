"""Turns in flight: what the forming log batch holds, and what each submitted one will release.

Turns may be in flight together, at most ``turns_in_flight_max``. At the limit a host still steps
everything; what would be written waits in the forming batch, and so do the votes and
acknowledgements that rest on it (PROTOCOL, "Terms, votes, turns in flight").
"""

from __future__ import annotations

from collections import deque

import attrs

from shardraft.host.messages import PeerMessage
from shardraft.host.turn import LogBatch
from shardraft.raft.ready import LogWrite
from shardraft.types import HostId, Index, ShardId, Term


@attrs.frozen(slots=True)
class SubmittedTurn:
    """A log batch that the store has: the writes it confirms and the messages it releases when durable."""

    number: int
    begun_us: int
    writes: tuple[LogWrite, ...]
    messages: tuple[tuple[HostId, PeerMessage], ...]


class Commits:
    """The one owner of everything that waits for a log commit."""

    def __init__(self, turns_in_flight_max: int) -> None:
        self._turns_in_flight_max = turns_in_flight_max
        self._writes: list[LogWrite] = []
        self._compactions: list[tuple[ShardId, Index, Term]] = []
        self._messages: list[tuple[HostId, PeerMessage]] = []
        self._submitted: deque[SubmittedTurn] = deque()

    def write(self, write: LogWrite) -> None:
        self._writes.append(write)

    def compact(self, compaction: tuple[ShardId, Index, Term]) -> None:
        self._compactions.append(compaction)

    def hold(self, host: HostId, message: PeerMessage) -> None:
        """Let ``message`` leave once everything written so far is durable."""
        self._messages.append((host, message))

    @property
    def oldest_begun_us(self) -> int | None:
        """When the commit that the disk works on longest was submitted."""
        return self._submitted[0].begun_us if self._submitted else None

    def has_unsubmitted(self, shard: ShardId) -> bool:
        """A write or a compaction of ``shard`` waits in the forming batch."""
        return any(write.shard == shard for write in self._writes) or any(
            compaction[0] == shard for compaction in self._compactions
        )

    def submit(self, number: int, now_us: int) -> LogBatch | None:
        """The batch of this turn, unless nothing is to be written or too many turns are in flight."""
        if not (self._writes or self._compactions or self._messages):
            return None
        if len(self._submitted) >= self._turns_in_flight_max:
            return None
        turn = SubmittedTurn(number, now_us, tuple(self._writes), tuple(self._messages))
        batch = LogBatch(turn.writes, tuple(self._compactions))
        self._writes, self._compactions, self._messages = [], [], []
        self._submitted.append(turn)
        return batch

    def finish(self, number: int) -> SubmittedTurn:
        """The oldest submitted batch is durable."""
        turn = self._submitted.popleft()
        assert turn.number == number, "log commits finish in the order they were submitted"
        return turn
