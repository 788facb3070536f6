"""Why many operations travel in few requests: while many are under way, further ones wait for their replies.

A reply wakes tasks, and most of them soon have their next operation. Sent at once, these would be spread
over all shards in small batches, and a batch costs its three hosts nearly as much whether it holds three
operations or thirty. So what arrives while much is under way leaves together with what the replies
bring (decision 0014; it is Nagle's algorithm, RFC 896, with a bound).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from shardraft_router.core.limits import RouterLimits


class Pacing(Enum):
    """When the next requests of a kind may leave, once many operations are under way."""

    TOGETHER = "together"
    """After nearly all of these were answered: a write costs its hosts most per batch."""
    HALVES = "halves"
    """As soon as as many operations wait as are under way: while one half is served, the other is made."""
    FREE = "free"
    """At once: one host answers alone, and nothing is saved by waiting."""


_PATIENCE: Final = 3
"""Answers that take so many times as long as they usually do are not waited for any longer."""


class Pace:
    """What all lanes of one kind have under way, and whether more may leave now.

    Below ``paced_operations_min`` operations under way nothing waits, and nothing waits for longer than a few
    times what answers took lately, within ``paced_ms_min`` and ``paced_ms_max``. ``open`` is decided
    once per flush, for all lanes alike.
    """

    __slots__ = ("_awaited", "_limits", "_pacing", "_sent_us", "_usual_us", "open", "under_way")

    def __init__(self, pacing: Pacing, limits: RouterLimits) -> None:
        self._pacing = pacing
        self._limits = limits
        self._sent_us = 0
        self._usual_us = 0
        """How long after the last request the answers came that let more leave; smoothed."""
        self._awaited = False
        self.under_way = 0
        """Operations that were sent and not answered."""
        self.open = True

    @property
    def opens_us(self) -> int:
        """When it opens even if nothing is answered."""
        limits = self._limits
        wait_us = max(limits.paced_ms_min * 1000, min(_PATIENCE * self._usual_us, limits.paced_ms_max * 1000))
        return self._sent_us + wait_us

    def look(self, waiting: int, now_us: int) -> None:
        """Decide for this flush; ``waiting`` operations would leave."""
        under_way = self.under_way
        answered = under_way < self._limits.paced_operations_min or (
            self._pacing is Pacing.HALVES and waiting >= under_way
        )
        self.open = answered or self._pacing is Pacing.FREE or now_us >= self.opens_us
        if self.open and self._awaited:
            self._awaited = False
            self._learn(now_us - self._sent_us, answered)

    def _learn(self, took_us: int, answered: bool) -> None:
        """Waited in vain: hosts are slower than was thought, by how much will be seen (as in RFC 6298, 5.5)."""
        longest_us = self._limits.paced_ms_max * 1000
        usual_us = self._usual_us + (took_us - self._usual_us) // 4 if answered else max(took_us, self._usual_us)
        self._usual_us = min(usual_us, longest_us)

    def sent(self, operations: int, now_us: int) -> None:
        """A request with so many operations left."""
        self.under_way += operations
        self._sent_us = now_us
        self._awaited |= self.under_way >= self._limits.paced_operations_min

    def ended(self, operations: int) -> None:
        """It was answered, or is lost."""
        self.under_way -= operations
        assert self.under_way >= 0, "more was answered than sent"
