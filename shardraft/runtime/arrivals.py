"""What has arrived for the main loop: one bounded list, and the sockets and threads that fill it.

This module is compiled, so nothing in it waits with trio: that is the ``Inbox``. A busy loop waits here, for its
sockets and for threads alone (decision 0022).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from shardraft.host.events import Event
from shardraft.runtime.poller import Poller


class LogCommitted:
    """The log batches of these turns are durable, in order."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers


class Arrivals:
    """Events in the order in which they came. ``clock`` tells microseconds.

    ``put`` never blocks: what must not be lost (completions, ticks) is always taken. At ``events_max`` no socket
    is read, and readers of other streams wait; ``on_room`` is called after one of them said so, when events were taken.
    """

    def __init__(self, events_max: int, clock: Callable[[], int], on_room: Callable[[], object]) -> None:
        self.poller = Poller()
        self.is_awaited = False
        """The loop sleeps until the poller is readable."""
        self.others_due_us = 0
        """Until then nobody but the loop has to run; 0 when it is not busy."""
        self.is_room_wanted = False
        self._events_max = events_max
        self._events: deque[Event | LogCommitted] = deque()
        self._clock = clock
        self._on_room = on_room

    @property
    def are_any(self) -> bool:
        return len(self._events) > 0

    def has_room(self) -> bool:
        return len(self._events) < self._events_max

    def put(self, event: Event | LogCommitted) -> None:
        self._events.append(event)
        if self.is_awaited:
            self.wake()

    def wake(self) -> None:
        """Let the loop take a turn even if nothing happened."""
        if self.is_awaited:
            self.is_awaited = False
            self.poller.wake()

    def read_now(self) -> None:
        """Take in what there is, and wait for nothing."""
        self.poller.read(self.has_room)

    def come(self, deadline_us: int) -> bool:
        """Wait for what arrives on sockets or comes from threads, until other tasks are due; whether a turn is.

        A busy host's next frame is there within a fraction of a millisecond, and a pass of trio's loop costs about
        as much as reading it does.
        """
        now_us = self._clock()
        while now_us < self.others_due_us:
            if now_us >= deadline_us:
                return True
            wait_us = 0 if self._events else min(deadline_us, self.others_due_us) - now_us
            self.poller.read(self.has_room, wait_us / 1e6)
            if self._events:
                return True
            now_us = self._clock()
        return False

    def take(self, events_max: int) -> list[Event | LogCommitted]:
        """The next events, at most ``events_max``."""
        events = self._events
        if len(events) <= events_max:
            taken = list(events)
            events.clear()
        else:
            taken = [events.popleft() for _ in range(events_max)]
        if self.is_room_wanted:
            self.is_room_wanted = False
            self._on_room()
        return taken
