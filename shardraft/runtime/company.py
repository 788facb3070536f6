"""How long a commit waits for company (decision 0023)."""

from __future__ import annotations

from typing import Final

WAIT_SHARE_OF_A_COMMIT: Final = 0.25
"""A commit waits so much of the time that commits take lately."""
WAIT_SECONDS_MAX: Final = 0.001
WAIT_SECONDS_MIN: Final = 0.0001
"""A shorter wait is not worth going to sleep for."""
_LIKELY: Final = 0.3
_WEIGHT: Final = 0.25
"""Of the last commit in what is remembered of all."""


class Company:
    """Whether the batches of a wave come one shortly after the other, and how long it pays to wait for them.

    Batches of several leaders reach a host within a fraction of a millisecond. A commit that begins with the first
    lets all others wait for a whole sync. Nothing waits where commits had no company lately, as with one put at a time,
    nor where syncs are so quick that waiting is no shorter.
    """

    def __init__(self) -> None:
        self._commit_seconds = 0.0
        self._likelihood = 0.0

    @property
    def wait_seconds(self) -> float:
        """How long the next commit is to wait; 0 for not at all."""
        if self._likelihood < _LIKELY:
            return 0.0
        seconds = min(self._commit_seconds * WAIT_SHARE_OF_A_COMMIT, WAIT_SECONDS_MAX)
        return seconds if seconds >= WAIT_SECONDS_MIN else 0.0

    def committed(self, batches: int, are_waiting: bool, seconds: float) -> None:
        """A commit of so many batches took ``seconds``, and others wait at its end, or none."""
        had_company = batches > 1 or are_waiting
        self._likelihood += (had_company - self._likelihood) * _WEIGHT
        self._commit_seconds += (seconds - self._commit_seconds) * _WEIGHT
