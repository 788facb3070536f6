"""Linearizable reads without log entries: ReadIndex, batched into rounds (thesis 6.4).

A leader notes its commit index when a read arrives, then makes sure that it still leads: it sends
a numbered round of heartbeats and waits for a quorum to acknowledge it. A read joins the first
round sent *after* it arrived, since an older round proves nothing about the time since
(PROTOCOL, "Terms, votes, turns in flight"). All reads of one turn share one round.
"""

from __future__ import annotations

from collections import deque

from shardraft.raft.ready import ReadLost, ReadState
from shardraft.types import Index


class ReadIndex:
    """The reads that one leader of one term has not answered; gone with the term.

    ``count`` is how many there are; the leader refuses more than ``read_indexes_max``.
    """

    __slots__ = ("_forming", "_rounds", "_waiting", "count")

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[int] = []
        self._forming: list[ReadState] = []
        self._rounds: deque[tuple[int, list[ReadState]]] = deque()

    @property
    def forming(self) -> bool:
        """Whether reads have arrived since the last round was sent."""
        return bool(self._forming)

    @property
    def unacknowledged(self) -> bool:
        """Whether any round with reads waits for its quorum."""
        return bool(self._rounds)

    def wait(self, context: int) -> None:
        """A read came before the leader committed anything in its own term; its commit index may be out of date."""
        self._waiting.append(context)
        self.count += 1

    def add(self, context: int, commit_index: Index) -> None:
        """A read arrives; it will be answered at ``commit_index``, the commit index of this moment."""
        self._forming.append(ReadState(context, commit_index))
        self.count += 1

    def take_waiting(self) -> list[int]:
        """The reads that waited for the first commit of the term, which has come."""
        taken, self._waiting = self._waiting, []
        self.count -= len(taken)
        return taken

    def begin_round(self, number: int) -> None:
        """Round ``number`` leaves: every read that has arrived so far joins it."""
        if self._forming:
            self._rounds.append((number, self._forming))
            self._forming = []

    def acknowledged(self, number: int) -> list[ReadState]:
        """A quorum acknowledged round ``number``, and so every earlier one: these reads may be answered."""
        answered: list[ReadState] = []
        while self._rounds and self._rounds[0][0] <= number:
            answered += self._rounds.popleft()[1]
        self.count -= len(answered)
        return answered

    def lose_all(self) -> list[ReadLost]:
        """The leader steps down: a change of term voids every unanswered read."""
        lost = [ReadLost(context) for context in self._waiting]
        lost += [ReadLost(state.context) for _, states in self._rounds for state in states]
        lost += [ReadLost(state.context) for state in self._forming]
        self._waiting, self._forming, self.count = [], [], 0
        self._rounds.clear()
        return lost
