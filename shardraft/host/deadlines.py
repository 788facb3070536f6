"""When which voter must be looked at: a heap, so that a turn costs nothing for those who wait."""

from __future__ import annotations

import heapq

from shardraft.host.voter import Voter
from shardraft.types import ShardId


class Deadlines:
    """The deadlines of a host's voters, corrected lazily.

    A deadline that moves later, as a follower's does with every message, leaves its place in the heap as
    it is; only when it comes up is it looked at again. One that moves earlier is told by ``arm``, so every
    change of ``Voter.deadline_us`` is followed by a turn of that voter, which ends with it. ``voters`` is
    the host's own table; one that has left it is forgotten when its place comes up.
    """

    __slots__ = ("_armed_us", "_heap", "_voters")

    def __init__(self, voters: dict[ShardId, Voter]) -> None:
        self._voters = voters
        self._heap: list[tuple[int, ShardId]] = []
        self._armed_us: dict[ShardId, int] = {}

    def arm(self, voter: Voter) -> None:
        """The turn of ``voter`` is over: remember its deadline unless its place comes up earlier anyway."""
        shard, deadline_us = voter.shard, voter.deadline_us
        armed_us = self._armed_us.get(shard)
        if armed_us is None or deadline_us < armed_us:
            self._place(shard, deadline_us)

    @property
    def deadline_us(self) -> int | None:
        """The earliest deadline of all; None when there are no voters."""
        heap = self._heap
        while heap:
            armed_us, shard = heap[0]
            deadline_us = self._deadline_of(shard, armed_us)
            if deadline_us is not None and deadline_us <= armed_us:
                return armed_us
            self._move_first(deadline_us)
        return None

    def take_due(self, now_us: int) -> list[Voter]:
        """Every voter whose deadline has passed, earliest first; each is armed again when its turn ends."""
        if not self._heap or self._heap[0][0] > now_us:
            return []  # A place is never later than the deadline that it stands for.
        due: list[Voter] = []
        while (deadline_us := self.deadline_us) is not None and deadline_us <= now_us:
            shard = heapq.heappop(self._heap)[1]
            del self._armed_us[shard]
            due.append(self._voters[shard])
        return due

    def _deadline_of(self, shard: ShardId, armed_us: int) -> int | None:
        """The deadline that a place stands for; None for a place that another one of its voter replaced."""
        if self._armed_us.get(shard) != armed_us:
            return None
        voter = self._voters.get(shard)
        if voter is None:
            del self._armed_us[shard]
            return None
        return voter.deadline_us

    def _move_first(self, deadline_us: int | None) -> None:
        shard = heapq.heappop(self._heap)[1]
        if deadline_us is not None:
            self._place(shard, deadline_us)

    def _place(self, shard: ShardId, deadline_us: int) -> None:
        self._armed_us[shard] = deadline_us
        heapq.heappush(self._heap, (deadline_us, shard))
