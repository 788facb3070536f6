"""What waits for the main loop: one bounded list, filled by every reader, emptied once a turn."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import trio

from shardraft.host.events import Event


class LogCommitted:
    """The log batches of these turns are durable, in order."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers


class Inbox:
    """Events for the loop, from tasks of the same trio run.

    ``put`` never blocks: what must not be lost (completions, ticks) is always taken. Readers of client
    connections ask ``await room()`` first, so that at ``events_max`` the kernel's buffers push back.
    """

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        self._events: deque[Event | LogCommitted] = deque()
        self._loop_task: trio.lowlevel.Task | None = None
        self._room = trio.lowlevel.ParkingLot()
        self._timer: trio.CancelScope | None = None
        self._timer_due = False

    def put(self, event: Event | LogCommitted) -> None:
        self._events.append(event)
        self.wake()

    def wake(self) -> None:
        """Let the loop take a turn even if nothing happened."""
        if self._loop_task is not None:
            task, self._loop_task = self._loop_task, None
            trio.lowlevel.reschedule(task)

    async def room(self) -> None:
        """Wait while the inbox is full."""
        while len(self._events) >= self._events_max:
            await self._room.park()

    async def take(self, events_max: int, deadline_seconds: float) -> list[Event | LogCommitted]:
        """The next events, at most ``events_max``; an empty list once ``trio.current_time()`` passes the deadline."""
        if not self._events and not self._timer_due and trio.current_time() < deadline_seconds:
            if self._timer is not None:
                self._timer.deadline = deadline_seconds
            self._loop_task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        else:
            # Readers must get their turn too, however much is waiting here.
            await trio.lowlevel.checkpoint()
        self._timer_due = False
        return self._take(events_max)

    def _abandon(self, _: Callable[[], object]) -> trio.lowlevel.Abort:
        self._loop_task = None
        return trio.lowlevel.Abort.SUCCEEDED

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

    async def run_timer(self) -> None:
        """Wake the loop when the deadline it sleeps on has passed: one task instead of a timeout per turn."""
        while True:
            with trio.CancelScope(deadline=math.inf) as self._timer:
                await trio.sleep_forever()
            self._timer_due = True
            self.wake()
