"""Virtual time: the agenda of what happens when, and each process's own clock that drifts.

Times are integer microseconds since the world began. What is due at one time happens in the order
in which it was put on the agenda, so a world has exactly one order of events.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any, Final

Action = Callable[..., None]

_MILLION: Final = 1_000_000


def drawing(random: Random, between: tuple[int, int]) -> Callable[[], int]:
    """Draws numbers from the first of ``between`` up to and without the second: ``randrange`` for a quarter."""
    low, high = between
    count = high - low
    bits = count.bit_length()
    getrandbits = random.getrandbits

    def draw() -> int:
        number = getrandbits(bits)
        while number >= count:
            number = getrandbits(bits)
        return low + number

    return draw


class Agenda:
    """All that will happen, earliest first; time jumps from one item to the next."""

    __slots__ = ("_count", "_heap", "now_us")

    def __init__(self) -> None:
        self.now_us = 0
        self._count = 0
        self._heap: list[tuple[int, int, Action, tuple[Any, ...]]] = []

    def at(self, time_us: int, action: Action, *arguments: Any) -> None:
        """Do ``action(*arguments)`` at ``time_us``; a time already past means next."""
        self._count += 1
        heapq.heappush(self._heap, (time_us, self._count, action, arguments))

    def after(self, delay_us: int, action: Action, *arguments: Any) -> None:
        """Do ``action(*arguments)`` after ``delay_us``."""
        self._count += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self._count, action, arguments))

    def run_until(self, time_us: int) -> None:
        """Do everything due up to and with ``time_us``, then let it be that time."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= time_us:
            due_us, _, action, arguments = pop(heap)
            if due_us > self.now_us:
                self.now_us = due_us
            action(*arguments)
        self.now_us = max(self.now_us, time_us)


class DriftingClock:
    """One machine's monotonic clock: its own zero, and a rate that is off by at most rho.

    ``drift_ppm`` is how many microseconds it gains in a second (loses, when negative).
    """

    __slots__ = ("_agenda", "_origin_us", "_rate")

    def __init__(self, agenda: Agenda, origin_us: int, drift_ppm: int) -> None:
        self._agenda = agenda
        self._origin_us = origin_us
        self._rate = _MILLION + drift_ppm

    def now_us(self) -> int:
        """What this clock shows."""
        return self._origin_us + self._agenda.now_us * self._rate // _MILLION

    def world_us(self, clock_us: int) -> int:
        """The first world time at which this clock shows at least ``clock_us``."""
        elapsed_us = clock_us - self._origin_us
        return -(-elapsed_us * _MILLION // self._rate)
