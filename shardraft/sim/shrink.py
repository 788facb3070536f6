"""From a world that breaks a promise to one that does so with as few faults as can be found (delta debugging).

Every fault draws from randomness of its own, so that one that is left out changes nothing about the others
but what follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import attrs

from shardraft.sim.failure import SimulationFailure
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import Simulation

RUNS_MAX: Final = 200
"""So many worlds are tried; the smallest that failed until then is the answer."""


@attrs.frozen(slots=True)
class Shrunk:
    """``options`` break a promise, as ``failure`` says, with the faults that they name; ``struck`` is how many did
    so at first, and ``runs`` how many worlds were tried."""

    options: SimulationOptions
    failure: SimulationFailure
    struck: int
    runs: int


def shrink(options: SimulationOptions, tried: Callable[[int, int], None] | None = None) -> Shrunk | None:
    """Look for fewer faults with which ``options`` still break a promise; None when they keep every promise.

    ``tried`` hears after each world how many were tried, and how many faults are left.
    """
    search = _Search(options, tried)
    failure = search.fails(options)
    if failure is None:
        return None
    struck = search.struck
    # What happened until then happens again, whatever was to come; only a failure of the judgement needs all of it.
    seconds = min(options.seconds, math.ceil(failure.time_us / 1e6))
    search.smallest = attrs.evolve(options, seconds=float(seconds), only_faults=tuple(range(1, struck + 1))), failure
    if not search.without(search.faults):
        search.reduce()
    return Shrunk(*search.smallest, struck=struck, runs=search.runs)


class _Search:
    """One search: the smallest world that failed so far, and how many were tried."""

    def __init__(self, options: SimulationOptions, tried: Callable[[int, int], None] | None) -> None:
        self.smallest: tuple[SimulationOptions, SimulationFailure]
        self.runs = 0
        self.struck = 0
        self._tried = tried

    @property
    def faults(self) -> tuple[int, ...]:
        return self.smallest[0].only_faults or ()

    def fails(self, options: SimulationOptions) -> SimulationFailure | None:
        """How the world of ``options`` breaks a promise, or None."""
        simulation = Simulation(options)
        self.runs += 1
        try:
            simulation.run()
        except SimulationFailure as failure:
            self.struck = simulation.faults.struck
            return failure
        return None

    def without(self, some: tuple[int, ...]) -> bool:
        """Whether a promise is still broken without ``some`` of the faults; then they stay out."""
        options = self.smallest[0]
        rest = attrs.evolve(options, only_faults=tuple(number for number in self.faults if number not in some))
        failure = self.fails(rest)
        if failure is not None:
            self.smallest = rest, failure
        if self._tried is not None:
            self._tried(self.runs, len(self.faults))
        return failure is not None

    def reduce(self) -> None:
        """Leave out halves, then quarters, and so on down to single faults (Zeller, "ddmin")."""
        parts = 2
        while len(self.faults) > 1 and self.runs < RUNS_MAX:
            size = math.ceil(len(self.faults) / parts)
            chunks = [self.faults[start : start + size] for start in range(0, len(self.faults), size)]
            if any(self.runs < RUNS_MAX and self.without(chunk) for chunk in chunks):
                parts = max(parts - 1, 2)
            elif size == 1:
                return
            else:
                parts = min(2 * parts, len(self.faults))
