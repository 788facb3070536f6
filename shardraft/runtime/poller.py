"""Many sockets behind one: the loop is woken once for all that has arrived, and reads it without a task for each.

A task of its own for each connection costs a host more than the frames that it reads: it is scheduled, registers its
socket anew, puts an event aside and wakes the loop, which is then scheduled in turn. Here the loop waits for one
epoll that holds all sockets, and has their frames read right before its turn. This module is compiled, so nothing in
it waits with trio: whoever does waits for ``fileno()``.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from typing import Final

from shardraft.runtime.clock import now_us

LOOK_US_MAX: Final = 100
"""For so long a busy loop looks before it sleeps, where looks pay (decision 0032)."""
LOOKS_PAID_BY_A_FIND: Final = 4
"""Looks pay while one in about so many finds something."""
LOOKS_PAID_MAX: Final = 8
"""So many in vain, whatever was found before, and there are none for a while."""
SLEEPS_BETWEEN_LOOKS: Final = 32
"""So often a loop that found nothing sleeps at once, before it tries whether looks pay again."""


class Poller:
    """Who is to be called when a socket is readable. One task waits; any thread may ``wake`` it or ``call_soon``.

    A reader is called as long as there is something to read, and at times when there is nothing, so it must not
    block. It may remove any of them. ``clock`` tells microseconds.
    """

    def __init__(self, clock: Callable[[], int] = now_us) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._called: deque[Callable[[], None]] = deque()
        self._ready: deque[int] = deque()
        """Those that were readable in this pass, or in the one before, and were not read yet."""
        self._clock = clock
        self._looks_paid = 1
        self._sleeps_left = 0
        """So many more before the next look, when none is paid for."""
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._waker, select.EPOLLIN)
        self._readers[self._waker] = self._hear_waker

    def fileno(self) -> int:
        """Is readable when something that it polls is, or after ``wake``."""
        return self._epoll.fileno()

    def add(self, fd: int, read: Callable[[], None]) -> None:
        """Call ``read`` whenever the socket ``fd`` is readable, or at its end."""
        assert fd not in self._readers, "a socket has one reader"
        self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = read

    def remove(self, fd: int) -> None:
        """Call nobody for ``fd`` any more. Called before the socket is closed; twice is once."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def read(self, may_go_on: Callable[[], bool], seconds_max: float = 0.0) -> None:
        """Call what threads asked for; then let those read that have something to read, while ``may_go_on``.

        What threads bring is called however much there is: it is what others wait for. Those for
        whom there is no room come first in the next pass, since the kernel names the same ones first each time.
        If there is nothing at all, it is waited for, and no task runs meanwhile.
        """
        self._call()
        if self._ready:
            seconds_max = 0.0
            self._read_ready(may_go_on)
        if may_go_on():
            # A thread whose call was made above has raised the counter by now or is about to, which ends the wait.
            self._ready.extend([fd for fd, _ in self._wait(seconds_max)])
            self._read_ready(may_go_on)

    def _wait(self, seconds_max: float) -> list[tuple[int, int]]:
        """What is readable, waiting for it at most ``seconds_max``."""
        if self._looks_paid == 0 and seconds_max > 0.0:
            if self._sleeps_left > 0:
                self._sleeps_left -= 1
                return self._epoll.poll(seconds_max)
            self._looks_paid = 1
        found = self._epoll.poll(0.0)
        if found or seconds_max == 0.0:
            return found
        begun_us = self._clock()
        found = self._look(begun_us + min(LOOK_US_MAX, int(seconds_max * 1e6)))
        if found:
            self._looks_paid = min(self._looks_paid + LOOKS_PAID_BY_A_FIND, LOOKS_PAID_MAX)
            return found
        self._looks_paid -= 1
        if self._looks_paid == 0:
            self._sleeps_left = SLEEPS_BETWEEN_LOOKS
        return self._epoll.poll(max(0.0, seconds_max - (self._clock() - begun_us) / 1e6))

    def _look(self, until_us: int) -> list[tuple[int, int]]:
        """What becomes readable until then, without sleeping; other processes have the processor between looks."""
        found: list[tuple[int, int]] = []
        while not found and self._clock() < until_us:
            os.sched_yield()
            found = self._epoll.poll(0.0)
        return found

    def _call(self) -> None:
        called = self._called
        while called:
            called.popleft()()

    def _read_ready(self, may_go_on: Callable[[], bool]) -> None:
        ready, readers = self._ready, self._readers
        while ready and may_go_on():
            reader = readers.get(ready.popleft())
            if reader is not None:
                reader()

    def wake(self) -> None:
        """Make it readable."""
        os.eventfd_write(self._waker, 1)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call it with the next ``read``, on the loop; for threads."""
        self._called.append(call)
        self.wake()

    def _hear_waker(self) -> None:
        try:
            os.eventfd_read(self._waker)
        except BlockingIOError:
            pass
        # A thread adds its call before it raises the counter: whoever takes the counter makes the call.
        self._call()

    def close(self) -> None:
        self._epoll.close()
        os.close(self._waker)
        self._waker = -1  # Not the number of a file that is opened later.
