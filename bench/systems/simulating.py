"""Simulates as fast as one core allows, and prints what that came to as JSON (``Simulated``).

    python -m bench.systems.simulating events SEEDS SHARDS LEARNERS     # so many seeds, from 1 on
    python -m bench.systems.simulating idle SECONDS SHARDS LEARNERS     # hosts without clients, for so long

A broken promise is an error, and ends the program with its traceback.
"""

from __future__ import annotations

import json
import sys
import time

import attrs

from shardraft.config import HostConfig
from shardraft.runtime.collector import spare_the_collector
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import simulate
from shardraft.sim.workload import WorkloadOptions
from shardraft.sim.world import World

WARM_UP_SIMULATED_SECONDS = 2.0
SETTLE_SIMULATED_SECONDS = 5.0
IDLE_STEP_SIMULATED_SECONDS = 5.0


@attrs.frozen(slots=True)
class Simulated:
    """How much was simulated in how many seconds, how many things were checked afterwards, and how many were wrong."""

    operations: int
    seconds: float
    checked: int
    wrong: int


def simulate_events(first: SimulationOptions, seeds: int) -> Simulated:
    """Events of whole simulations, from making the world to judging it; the first must take the same way again."""
    simulate(attrs.evolve(first, seconds=WARM_UP_SIMULATED_SECONDS))
    begun = time.perf_counter()
    reports = [simulate(attrs.evolve(first, seed=first.seed + number)) for number in range(seeds)]
    seconds = time.perf_counter() - begun
    again = simulate(first)
    wrong = int(again.trace_hash != reports[0].trace_hash)
    return Simulated(sum(report.events for report in reports), seconds, len(reports), wrong)


def simulate_idle(seconds: float, shards: int, learners: tuple[int, ...]) -> Simulated:
    """Simulated seconds in which nobody asks anything of hosts that are settled, and must be so at the end."""
    nobody = WorkloadOptions(clients=0, tasks=0)
    options = SimulationOptions(seed=1, shards=shards, learners=learners, config=HostConfig(), workload=nobody)
    world = World(options)
    world.start()
    world.run(SETTLE_SIMULATED_SECONDS)
    steps, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds or not steps:
        world.run(IDLE_STEP_SIMULATED_SECONDS)
        steps += 1
    return Simulated(round(steps * IDLE_STEP_SIMULATED_SECONDS), spent, 1, int(not world.has_settled()))


def main(arguments: list[str]) -> None:
    what, amount, shards, learners = arguments
    tiers = (1,) * int(learners)
    spare_the_collector()
    if what == "events":
        found = simulate_events(SimulationOptions(seed=1, shards=int(shards), learners=tiers), int(amount))
    else:
        found = simulate_idle(float(amount), int(shards), tiers)
    print(json.dumps(attrs.asdict(found)))


if __name__ == "__main__":
    main(sys.argv[1:])
