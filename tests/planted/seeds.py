"""Runs in a tree of its own, patched or not: simulates seeds in order and says which is the first to fail.

``finder`` starts it as a program, with that tree on PYTHONPATH. It imports nothing but the simulator.
It prints one line of JSON: the seed that failed as expected and why, how many passed, and the first
failure of another kind, if there was one.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Iterator
from typing import Any

from shardraft.sim.failure import SimulationFailure
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import simulate


def run(world: dict[str, Any]) -> str | None:
    """Why that world failed, or None."""
    try:
        kinds = world["kinds"] and tuple(world["kinds"])
        simulate(SimulationOptions(**{**world, "learners": tuple(world["learners"]), "kinds": kinds}))
    except SimulationFailure as failure:
        return failure.reason
    return None


def results(order: dict[str, Any]) -> Iterator[str | None]:
    """The result of each seed, in order."""
    worlds = [{**order["world"], "seed": seed} for seed in order["seeds"]]
    if order["processes"] == 1:
        yield from map(run, worlds)
        return
    with multiprocessing.Pool(order["processes"]) as pool:
        yield from pool.imap(run, worlds)


def search(order: dict[str, Any]) -> dict[str, Any]:
    """What came of the order."""
    told: dict[str, Any] = {"seed": None, "reason": None, "passed": 0, "other": None}
    for seed, reason in zip(order["seeds"], results(order), strict=True):
        if reason is None:
            told["passed"] += 1
        elif any(part in reason for part in order["caught_by"]):
            return {**told, "seed": seed, "reason": reason}
        elif told["other"] is None:
            told["other"] = f"seed {seed}: {reason}"
    return told


if __name__ == "__main__":
    import shardraft

    order = json.loads(sys.argv[1])
    assert shardraft.__file__.startswith(order["tree"]), f"{shardraft.__file__} is another tree than {order['tree']}"
    print(json.dumps(search(order)))
