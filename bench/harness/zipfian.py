"""Which record a YCSB operation touches: few are hot, most are cold, and the hot ones lie anywhere."""

from __future__ import annotations

from itertools import accumulate
from random import Random

EXPONENT = 0.99


class Zipfian:
    """Ranks drawn beforehand from a seeded generator, so that drawing costs nothing while the clock runs.

    ``rank`` 0 is the hottest of ``count``. After ``drawn`` of them the same ones come again.
    """

    def __init__(self, count: int, seed: int, drawn: int = 100_000) -> None:
        weights = list(accumulate((rank + 1) ** -EXPONENT for rank in range(count)))
        self._ranks = Random(seed).choices(range(count), cum_weights=weights, k=drawn)
        self._next = 0

    def rank(self) -> int:
        index = self._next
        self._next = index + 1 if index + 1 < len(self._ranks) else 0
        return self._ranks[index]
