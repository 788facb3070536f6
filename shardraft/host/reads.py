"""Reads that may be answered, and how many of them one turn answers."""

from __future__ import annotations

from collections import deque

from shardraft.errors import Unavailable
from shardraft.host.pending import Pending, PendingRequests
from shardraft.host.replica import Replica


class AnswerableReads:
    """Answers reads in the order in which they became answerable, ``bytes_max`` worth of answers in each turn.

    A read takes a hundred bytes and its answer up to ``page_bytes_max``. If a turn answered all that it was
    asked, one connection could fill the memory, and hold up the heartbeats of every shard for seconds.
    """

    def __init__(self, bytes_max: int, pending: PendingRequests) -> None:
        self._bytes_max = bytes_max
        self._pending = pending
        self._ready: deque[tuple[Replica, Pending]] = deque()
        self._gone: set[int] = set()

    @property
    def waiting(self) -> bool:
        """Some are left for the next turn."""
        return bool(self._ready)

    def add(self, replica: Replica, pending: Pending) -> None:
        self._ready.append((replica, pending))

    def connection_closed(self, connection: int) -> None:
        """Nobody waits there any more: what it asked for is not even looked up."""
        if self._ready:
            self._gone.add(connection)

    def turn(self) -> None:
        """Answer what this turn may."""
        if not self._ready:
            return
        ready, room = self._ready, self._bytes_max
        while ready and room > 0:
            replica, pending = ready.popleft()
            if pending.answered:
                continue  # Its deadline passed.
            if pending.connection in self._gone:
                self._pending.drop(pending)
            elif replica.serving:
                room -= replica.answer_read(pending)
            else:
                error = Unavailable("a copy of the shard is being installed here", shard=replica.shard)
                self._pending.fail(pending, error)
        if not ready:
            self._gone.clear()
