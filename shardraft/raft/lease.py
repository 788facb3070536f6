"""A leader's lease: for how long a round that a quorum acknowledged answers reads (PROTOCOL, leases; thesis 6.4.1).

Whoever acknowledges a round gives no vote for ``lease_ms`` of its own clock, so nobody else can be
elected before that has passed since the round was *sent*. Nothing is known of when the round
arrived, and both clocks may be off by rho, each in its own direction: hence the lease runs from the
sending and is shortened by both.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from shardraft.config import RaftConfig

_MILLION: Final = 1_000_000


class Lease:
    """The lease of one leader in one term; times are its own clock's, in microseconds."""

    __slots__ = ("_duration_us", "_ended", "_expires_us", "_rounds")

    def __init__(self, config: RaftConfig) -> None:
        self._duration_us = config.lease_ms * 1000 * (_MILLION - config.rho_ppm) // (_MILLION + config.rho_ppm)
        self._rounds: deque[tuple[int, int]] = deque()
        self._expires_us = 0
        self._ended = config.lease_ms == 0

    def holds(self, now_us: int) -> bool:
        """Whether nobody else can lead at ``now_us``."""
        return now_us < self._expires_us

    def round_sent(self, number: int, now_us: int) -> None:
        """Round ``number`` leaves at ``now_us`` or later."""
        if not self._ended:
            self._rounds.append((number, now_us))

    def acknowledged(self, number: int) -> None:
        """A quorum acknowledged round ``number``, and so every earlier one."""
        rounds = self._rounds
        while rounds and rounds[0][0] <= number:
            self._expires_us = rounds.popleft()[1] + self._duration_us

    def renew(self) -> None:
        """The configuration changed: what the former quorum promised does not count against the next but one."""
        self._rounds.clear()
        self._expires_us = 0

    def end(self) -> None:
        """TimeoutNow is about to leave. There is no lease in this term any more: the message may arrive at any time."""
        self.renew()
        self._ended = True
