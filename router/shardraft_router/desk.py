"""What every call goes through on its way in and on its way out, as far as nothing waits in it.

This module is compiled, which nothing that waits may be (decision 0021). So an operation of a program runs few frames
of Python: the method of ``Router``, and what the event loop needs to park a task and to let it go on.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from shardraft.errors import InvalidArgument
from shardraft.kv.requests import STALE, ClientRequest
from shardraft.wire.client import add_request
from shardraft_router.core.calls import Call, ReadCall
from shardraft_router.core.checks import Given
from shardraft_router.core.core import RouterCore
from shardraft_router.waiting import Waiting

_CLOCK: Final = time.CLOCK_BOOTTIME
_NANOSECONDS: Final = time.clock_gettime_ns
"""Each call reads the clock, and compiled code finds a name of its own faster than another module's."""


def now_us() -> int:
    """Microseconds of a clock that also runs while the machine is suspended."""
    nanoseconds: int = _NANOSECONDS(_CLOCK)
    return nanoseconds // 1000


class Process:
    """This process. A fork shares its parent's connections and must not use them."""

    __slots__ = ("forks",)

    def __init__(self) -> None:
        self.forks = 0
        """How often a forebear of this process was forked since it loaded this module."""

    def count_fork(self) -> None:
        self.forks += 1


_PROCESS: Final = Process()
os.register_at_fork(after_in_child=_PROCESS.count_fork)


class Turn:
    """A call that waits until fewer than ``in_flight_max`` are under way."""

    __slots__ = ("waiter",)

    def __init__(self) -> None:
        self.waiter: Any = None


class Desk:
    """Counts the calls that tasks wait for, and wakes these. ``begin`` and ``wait`` are what every call goes through.

    Above ``in_flight_max`` further calls wait for their turn, first come first served. ``flush`` asks for what was
    submitted to be sent soon; ``flush_scheduled`` says that it was asked and has not happened yet, and
    ``answers_first`` that tasks were woken whose next calls are to join it.
    """

    def __init__(
        self,
        core: RouterCore,
        waiting: Waiting,
        *,
        timeout_seconds: float,
        in_flight_max: int,
        flush: Callable[[], object],
    ) -> None:
        self.core = core
        self.in_flight = 0
        self.in_flight_max = in_flight_max
        self.flush_scheduled = False
        self.answers_first = False
        self.closed = False
        self.fault: BaseException | None = None
        """What broke the router down."""
        self.turns: deque[Turn] = deque()
        self.held: list[Call] = []
        """Answered, and woken after the next flush."""
        self._halves_min: int = core.limits.paced_operations_min
        self._timeout_us = self.check_timeout(timeout_seconds)
        self._forks = _PROCESS.forks
        self._flush = flush
        self._check_caller = waiting.check_caller
        self._wait = waiting.wait
        self._wake = waiting.wake

    # --- on the way in

    def begin(self, timeout_seconds: Given) -> int:
        """The deadline of a call that starts, 0 when it has to wait for its turn first. Raises as ``deadline_us``."""
        deadline_us = self.deadline_us(timeout_seconds)
        return deadline_us if self.in_flight < self.in_flight_max else 0

    def deadline_us(self, timeout_seconds: Given) -> int:
        """The deadline of a call that starts now; RuntimeError where the router cannot be used."""
        if self._forks != _PROCESS.forks:
            raise RuntimeError("this Router belongs to the parent process; open one of its own after a fork")
        self._check_caller()
        if self.closed:
            raise self.closed_error()
        timeout_us = self._timeout_us if timeout_seconds is None else self.check_timeout(timeout_seconds)
        return now_us() + timeout_us

    def check_timeout(self, timeout_seconds: Given) -> int:
        """A timeout in microseconds; InvalidArgument unless it is above 0 and at most ``timeout_ms_max``."""
        longest = self.core.limits.timeout_ms_max / 1000
        if not 0 < timeout_seconds <= longest:
            raise InvalidArgument(f"timeout_seconds must be above 0 and at most {longest:g}, not {timeout_seconds!r}")
        timeout_us: int = round(timeout_seconds * 1e6)
        return max(1, timeout_us)

    def closed_error(self) -> RuntimeError:
        error = RuntimeError("the Router is closed" if self.fault is None else "the Router broke down")
        error.__cause__ = self.fault
        return error

    def wait(self, call: Call) -> Awaitable[None]:
        """Wait until ``call``, just submitted to the core, is done."""
        self.in_flight += 1
        if not self.flush_scheduled:
            self.flush_soon()
        return self._wait(call, self.abandon)

    def flush_soon(self) -> None:
        """Send what was submitted, together with all that is submitted before the loop comes round."""
        self.flush_scheduled = True
        self._flush()

    # --- on the way out

    def abandon(self, call: Call) -> None:
        """The task that waited for ``call`` was cancelled."""
        if not call.done:
            self.core.cancel(call)
            self._leave()
        elif call in self.held:  # Answered in the same moment, and not woken yet.
            self.held.remove(call)
            self._leave()

    def wake_done(self, done: list[Call], stale_reads_under_way: int) -> None:
        """Wake who waits. When many stale reads were answered at once and none is under way, only a half of them.

        The other half follows when the next reads of the first have left. Woken all at once, tasks would be made to run
        while no host has anything to do, and hosts would answer while no task does (decision 0014).
        """
        half = len(done) // 2
        if half >= self._halves_min and stale_reads_under_way == 0 and _is_stale_read(done[0]):
            self.held += done[half:]
            del done[half:]
            self.answers_first = True
            self.flush_soon()
        self.wake(done)

    def wake_held(self) -> None:
        if self.held:
            held, self.held = self.held, []
            self.wake(held)

    def wake(self, done: list[Call]) -> None:
        """Wake who waits. A call that is awaited in its turn, such as a page read ahead, has no waiter yet."""
        for call in done:
            if call.waiter is not None:
                self._wake(call)
                self._leave()

    def _leave(self) -> None:
        self.in_flight -= 1
        if self.turns:
            self.next_turn()

    # --- turns

    def next_turn(self, _: object = None) -> None:
        """Let the first in line go on if there is room. Whether it takes the room is seen at the next flush."""
        while self.turns and self.in_flight < self.in_flight_max:
            turn = self.turns.popleft()
            if turn.waiter is not None:
                self._wake(turn)
                self.flush_soon()
                return

    def end_turns(self) -> None:
        """Let all go on: the router is closed."""
        for turn in self.turns:
            self._wake(turn)
        self.turns.clear()


def _is_stale_read(call: Call) -> bool:
    return isinstance(call, ReadCall) and call.consistency is STALE


def encode_all(requests: list[tuple[str, ClientRequest]]) -> list[tuple[str, bytes]]:
    """What is to be sent to each endpoint, in order."""
    pieces: dict[str, list[bytes]] = {}
    for endpoint, request in requests:
        add_request(pieces.setdefault(endpoint, []), request)
    return [(endpoint, b"".join(parts)) for endpoint, parts in pieces.items()]
