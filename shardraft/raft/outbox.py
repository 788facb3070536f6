"""What a group has to say, collected until the next ready is taken, and what still rests on its disk.

Messages that rest on a write leave with it. A message that rests on an *earlier* write which is
still under way, and has none of its own to travel with, is held here until that one is durable.
"""

from __future__ import annotations

from collections import deque

from shardraft.raft.messages import RaftMessage
from shardraft.raft.ready import LogWrite, RaftNote, ReadLost, ReadState, Ready
from shardraft.types import ReplicaId


class Outbox:
    """The lists are appended to by the roles and emptied by ``take``."""

    __slots__ = (
        "_held",
        "_under_way_us",
        "_writes_persisted",
        "_writes_taken",
        "after_persist",
        "copies_wanted",
        "messages",
        "notes",
        "read_states",
        "reads_lost",
    )

    def __init__(self) -> None:
        self.messages: list[RaftMessage] = []
        self.after_persist: list[RaftMessage] = []
        self.read_states: list[ReadState] = []
        self.reads_lost: list[ReadLost] = []
        self.copies_wanted: list[ReplicaId] = []
        self.notes: list[RaftNote] = []
        self._held: deque[tuple[int, RaftMessage]] = deque()
        self._under_way_us: deque[int] = deque()
        self._writes_taken = 0
        self._writes_persisted = 0

    def take(self, write: LogWrite | None, now_us: int) -> Ready:
        """Everything collected, with ``write``, which begins at ``now_us``."""
        if write is not None:
            self._writes_taken += 1
            self._under_way_us.append(now_us)
        elif self.after_persist:
            self._release_or_hold()
        ready = Ready(
            tuple(self.messages),
            tuple(self.after_persist),
            write,
            tuple(self.read_states),
            tuple(self.reads_lost),
            tuple(self.copies_wanted),
            tuple(self.notes),
        )
        self._clear()
        return ready

    def write_persisted(self) -> bool:
        """The oldest write under way is durable; True when held messages may leave."""
        assert self._under_way_us, "a write was reported as persisted that was never taken"
        self._under_way_us.popleft()
        self._writes_persisted += 1
        held = self._held
        while held and held[0][0] <= self._writes_persisted:
            self.messages.append(held.popleft()[1])
        return bool(self.messages)

    def stalled(self, now_us: int, stall_us_max: int) -> bool:
        """Whether the oldest write under way began more than ``stall_us_max`` ago."""
        return bool(self._under_way_us) and now_us - self._under_way_us[0] > stall_us_max

    def _release_or_hold(self) -> None:
        """Nothing is written with these messages: they wait for the writes under way, or for none."""
        if self._under_way_us:
            self._held.extend([(self._writes_taken, message) for message in self.after_persist])
        else:
            self.messages += self.after_persist
        self.after_persist = []

    def _clear(self) -> None:
        self.messages.clear()
        self.after_persist.clear()
        if self.read_states:
            self.read_states.clear()
        if self.reads_lost:
            self.reads_lost.clear()
        if self.copies_wanted:
            self.copies_wanted.clear()
        if self.notes:
            self.notes.clear()
