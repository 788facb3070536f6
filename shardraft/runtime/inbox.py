"""What the main loop waits for and what waits for it: one bounded list, filled before a turn and emptied by it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from shardraft.host.events import Event
from shardraft.runtime.poller import Poller

OTHERS_WAIT_SECONDS_MAX: Final = 0.005
"""The other tasks of the process run at least this often, however busy the loop is."""
SHORT_WAITS_OF_A_BUSY_LOOP: Final = 8
"""A loop that waited for less than that so often in a row is busy; the few frames of a heartbeat make none."""


class LogCommitted:
    """The log batches of these turns are durable, in order."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers


class Inbox:
    """Events for the loop, from sockets that it reads itself, from threads, and from tasks of the same trio run.

    ``put`` never blocks: what must not be lost (completions, ticks) is always taken. At ``events_max`` no socket
    is read, and readers of other streams wait in ``await room()``, so that the kernel's buffers push back.
    """

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        self._events: deque[Event | LogCommitted] = deque()
        self._poller = Poller()
        self._waiting = False
        self._short_waits = 0
        """How often in a row events came soon after the ones before."""
        self._others_due = -math.inf
        self._room = trio.lowlevel.ParkingLot()
        self._timer: trio.CancelScope | None = None
        self._timer_due = False

    def put(self, event: Event | LogCommitted) -> None:
        self._events.append(event)
        self.wake()

    def wake(self) -> None:
        """Let the loop take a turn even if nothing happened."""
        if self._waiting:
            self._waiting = False
            self._poller.wake()

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call it on the loop before its next turn; for threads."""
        self._poller.call_soon(call)

    def add(self, fd: int, read: Callable[[], None]) -> None:
        """Call ``read``, which may ``put``, whenever the socket ``fd`` is readable and there is room."""
        self._poller.add(fd, read)

    def remove(self, fd: int) -> None:
        """Call nobody for ``fd`` any more."""
        self._poller.remove(fd)

    def _has_room(self) -> bool:
        return len(self._events) < self._events_max

    async def room(self) -> None:
        """Wait while the inbox is full."""
        while not self._has_room():
            await self._room.park()

    async def take(self, events_max: int, deadline_seconds: float) -> list[Event | LogCommitted]:
        """The next events, at most ``events_max``; an empty list once ``trio.current_time()`` passes the deadline."""
        if self._short_waits < SHORT_WAITS_OF_A_BUSY_LOOP or not self._take_in(deadline_seconds):
            await self._let_others_run(deadline_seconds)
            self._poller.read(self._has_room)
        return self._take(events_max)

    def _take_in(self, deadline_seconds: float) -> bool:
        """Wait for what arrives on sockets or comes from threads, until other tasks are due; whether a turn is.

        A busy host's next frame is there within a fraction of a millisecond, and a pass of trio's loop costs about
        as much as reading it does.
        """
        now = trio.current_time()
        while now < self._others_due:
            if now >= deadline_seconds:
                return True
            wait_seconds = 0 if self._events else min(deadline_seconds, self._others_due) - now
            self._poller.read(self._has_room, wait_seconds)
            if self._events:
                return True
            now = trio.current_time()
        return False

    async def _let_others_run(self, deadline_seconds: float) -> None:
        """Wait until there is something to do; when there is already, other tasks still get their turn."""
        begun = trio.current_time()
        if not self._events and not self._timer_due and begun < deadline_seconds:
            if self._timer is not None:
                self._timer.deadline = deadline_seconds
            self._waiting = True
            try:
                await trio.lowlevel.wait_readable(self._poller.fileno())
            finally:
                self._waiting = False
        else:
            await trio.lowlevel.checkpoint()
        self._timer_due = False
        now = trio.current_time()
        self._short_waits = self._short_waits + 1 if now - begun < OTHERS_WAIT_SECONDS_MAX else 0
        self._others_due = now + OTHERS_WAIT_SECONDS_MAX

    def _take(self, events_max: int) -> list[Event | LogCommitted]:
        events = self._events
        if len(events) <= events_max:
            taken = list(events)
            events.clear()
        else:
            taken = [events.popleft() for _ in range(events_max)]
        if self._room:
            self._room.unpark_all()
        return taken

    def close(self) -> None:
        """Nobody takes from it any more, and no thread calls."""
        self._poller.close()

    async def run_timer(self) -> None:
        """Wake the loop when the deadline it sleeps on has passed: one task instead of a timeout per turn."""
        while True:
            with trio.CancelScope(deadline=math.inf) as self._timer:
                await trio.sleep_forever()
            self._timer_due = True
            self.wake()
