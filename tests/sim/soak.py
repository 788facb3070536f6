"""Fresh seeds on all cores for as long as wanted (``make sim-soak MINUTES=30``).

What fails is shrunk and kept as a file in ``regressions``, which the tests run from then on. Ends with code 1 if
anything failed. Ctrl-C ends it early, with the same summary.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

from shardraft.sim.failure import SimulationFailure
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import simulate
from shardraft.sim.shrink import shrink
from tests.sim.kept import DIRECTORY, save

SAY_SECONDS = 10.0

Failed = tuple[SimulationOptions, str]


def world_of(seed: int) -> SimulationOptions:
    """The world of a seed: most like those of the tests, some larger, some smaller."""
    random = Random(seed)
    hosts = random.choice((1, 3, 3, 3, 3, 5))
    return SimulationOptions(
        seed=seed,
        hosts=hosts,
        shards=random.choice((1, 2, 2, 3, 5)),
        learners=random.choice(((), (1,), (1, 1), (1, 1), (2, 2))),
        seconds=random.choice((10.0, 20.0, 20.0, 60.0)),
    )


def run(options: SimulationOptions) -> tuple[SimulationOptions, Failed | None]:
    """Run one world in a process of its own; what failed, with the fewest faults that do it."""
    try:
        simulate(options)
    except SimulationFailure as failure:
        shrunk = shrink(options)
        return options, (options, failure.reason) if shrunk is None else (shrunk.options, shrunk.failure.reason)
    return options, None


class Soak:
    """Counts what was run, and keeps what failed."""

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self.done = 0
        self.failed = 0
        self.simulated_seconds = 0.0
        self._directory = directory
        self._say = say
        self._begun = time.monotonic()

    def heard(self, options: SimulationOptions, failed: Failed | None) -> None:
        """One world ended."""
        self.done += 1
        self.simulated_seconds += options.seconds
        if failed is not None:
            self.failed += 1
            path = save(*failed, self._directory)
            self._say(f"FAILED: {failed[1]}\n  {failed[0].replay}\n  kept as {path}")

    def summary(self) -> str:
        """Seeds, failures and rate so far."""
        elapsed = time.monotonic() - self._begun
        rate = self.simulated_seconds / elapsed if elapsed else 0.0
        seeds = f"{self.done} seeds, {self.failed} failed"
        return f"{elapsed:5.0f} s: {seeds}, {rate:.1f} simulated seconds per second"


def ignore_interrupts() -> None:
    """Ctrl-C is for the parent, which then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def worlds(first: int, end: float) -> Iterator[SimulationOptions]:
    """The worlds of all seeds from ``first`` on, until the clock shows ``end``."""
    seed = first
    while time.monotonic() < end:
        yield world_of(seed)
        seed += 1


def soak(minutes: float, first: int, processes: int) -> Soak:
    """Run seeds from ``first`` on until the time is over."""
    running = Soak(DIRECTORY, lambda line: print(line, flush=True))
    said = time.monotonic()
    source = worlds(first, said + 60 * minutes)
    with multiprocessing.Pool(processes, ignore_interrupts) as pool:
        # One world per process is under way: given all of them, a pool would draw every seed at once.
        waiting = deque(pool.apply_async(run, (world,)) for world in islice(source, processes))
        try:
            while waiting:
                running.heard(*waiting.popleft().get())
                waiting.extend(pool.apply_async(run, (world,)) for world in islice(source, 1))
                if time.monotonic() - said > SAY_SECONDS:
                    said = time.monotonic()
                    print(running.summary(), flush=True)
        except KeyboardInterrupt:
            pool.terminate()
    return running


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim-soak", description="Fresh seeds on all cores.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--first", type=int, default=None, help="the first seed (default: drawn by lot)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    first = Random().randrange(10**9) * 1000 if arguments.first is None else arguments.first
    print(f"seeds from {first} on, {arguments.minutes:g} minutes, {arguments.processes} processes", flush=True)
    ended = soak(arguments.minutes, first, arguments.processes)
    print(ended.summary())
    return 1 if ended.failed else 0


if __name__ == "__main__":
    sys.exit(main())
