"""What the main loop waits for: its arrivals, a deadline, and that other tasks get their turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from shardraft.runtime.arrivals import Arrivals
from shardraft.runtime.clock import now_us

OTHERS_WAIT_US_MAX: Final = 5_000
"""The other tasks of the process run about this often, however busy the loop is; a turn is never cut short for them."""
SHORT_WAITS_OF_A_BUSY_LOOP: Final = 8
"""A loop that waited for less than that so often in a row is busy; the few frames of a heartbeat make none."""


class Inbox:
    """Events for the loop, from sockets that it reads itself, from threads, and from tasks of the same trio run.

    ``put`` and ``wake`` are for tasks, ``call_soon`` for threads; ``add``, ``remove`` and ``room`` are a connection's
    ``Readers``. All deadlines are on the host's own clock, ``clock``.
    """

    def __init__(self, events_max: int, clock: Callable[[], int] = now_us) -> None:
        self._clock = clock
        self._room = trio.lowlevel.ParkingLot()
        self.arrivals = Arrivals(events_max, clock, self._room.unpark_all)
        self.put = self.arrivals.put
        self.wake = self.arrivals.wake
        self.call_soon = self.arrivals.poller.call_soon
        self.add = self.arrivals.poller.add
        self.remove = self.arrivals.poller.remove
        self._short_waits = 0
        """How often in a row events came soon after the ones before."""
        self._timer: trio.CancelScope | None = None
        self._timer_due = False

    async def room(self) -> None:
        """Wait while the inbox is full."""
        while not self.arrivals.has_room():
            self.arrivals.is_room_wanted = True
            await self._room.park()

    async def wait(self, deadline_us: int) -> None:
        """Return when something has arrived, at the deadline, or when somebody said ``wake``; ``arrivals`` has it."""
        if not self.arrivals.come(deadline_us):
            await self._let_others_run(deadline_us)
            self.arrivals.read_now()

    async def _let_others_run(self, deadline_us: int) -> None:
        """Wait until there is something to do; when there is already, other tasks still get their turn."""
        arrivals = self.arrivals
        begun_us = self._clock()
        if not arrivals.are_any and not self._timer_due and begun_us < deadline_us:
            if self._timer is not None:
                self._timer.deadline = trio.current_time() + (deadline_us - begun_us) / 1e6
            arrivals.is_awaited = True
            try:
                await trio.lowlevel.wait_readable(arrivals.poller.fileno())
            finally:
                arrivals.is_awaited = False
        else:
            await trio.lowlevel.checkpoint()
        self._timer_due = False
        ended_us = self._clock()
        self._short_waits = self._short_waits + 1 if ended_us - begun_us < OTHERS_WAIT_US_MAX else 0
        is_busy = self._short_waits >= SHORT_WAITS_OF_A_BUSY_LOOP
        arrivals.others_due_us = ended_us + OTHERS_WAIT_US_MAX if is_busy else 0

    def close(self) -> None:
        """Nobody takes from it any more, and no thread calls."""
        self.arrivals.poller.close()

    async def run_timer(self) -> None:
        """Wake the loop when the deadline it sleeps on has passed: one task instead of a timeout per turn."""
        while True:
            with trio.CancelScope(deadline=math.inf) as self._timer:
                await trio.sleep_forever()
            self._timer_due = True
            self.wake()
