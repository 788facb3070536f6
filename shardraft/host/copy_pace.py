"""How fast a host sends copies: a token bucket, whose time is that of the events."""

from __future__ import annotations

from typing import Final

_BURST_US: Final = 50_000
"""Bandwidth that was not used for this long is made up for at once: a host takes turns, not microseconds."""

_SECOND_US: Final = 1_000_000


class CopyPace:
    """At most ``bytes_per_second_max``, of all copies together; 0 means no limit.

    What leaves within any time is at most what the limit allows for that time and 50 ms more, and one
    chunk: a chunk leaves whole once anything is free, so that one larger than a burst leaves at all.
    """

    def __init__(self, bytes_per_second_max: int) -> None:
        self._bytes_per_second_max = bytes_per_second_max
        self._used_until_us = -_BURST_US

    @property
    def free_us(self) -> int:
        """From when on the next chunk may leave."""
        return self._used_until_us

    def is_free(self, now_us: int) -> bool:
        """Whether a chunk may leave."""
        return now_us >= self._used_until_us

    def sent(self, size_bytes: int, now_us: int) -> None:
        """A chunk of that size leaves; it uses up what follows the bandwidth used before."""
        if self._bytes_per_second_max:
            begin_us = max(self._used_until_us, now_us - _BURST_US)
            self._used_until_us = begin_us - (-size_bytes * _SECOND_US // self._bytes_per_second_max)
