"""Pauses between the transactions of a flush, in which syncs of the log get to the same disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PAUSE_SECONDS_MAX: Final = 0.02
"""A pause is as long as the transaction before it took, and no longer than this."""
SHARE_OF_IDLE_TIME: Final = 0.5
"""Pauses of one flush may take so much of the time in which nothing was flushed lately."""


class Pace:
    """How long to pause, for one thread that flushes now and then. ``clock`` and ``sleep`` are in seconds.

    A flush that follows the one before closely never pauses: writes that fill memory faster than the disk takes them
    would wait for it (``host.flushing``).
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._flush_begun: float | None = None
        self._transaction_begun: float | None = None
        self._work_seconds = 0.0
        """What the transactions of this flush took, pauses not counted."""
        self._left_seconds = 0.0
        """What its pauses may still take."""

    def begin_flush(self) -> None:
        """The next flush begins."""
        now = self._clock()
        self._left_seconds = 0.0
        if self._flush_begun is not None:
            self._left_seconds = SHARE_OF_IDLE_TIME * (now - self._flush_begun - self._work_seconds)
        self._flush_begun = now
        self._transaction_begun = None
        self._work_seconds = 0.0

    def begin_transaction(self) -> None:
        """Pause, if another transaction of this flush came before."""
        now = self._clock()
        if self._transaction_begun is not None:
            took = now - self._transaction_begun
            self._work_seconds += took
            pause = min(took, PAUSE_SECONDS_MAX, self._left_seconds)
            if pause > 0:
                self._left_seconds -= pause
                self._sleep(pause)
                now = self._clock()
        self._transaction_begun = now
