"""Simulations that failed once, as files: how they are written and read."""

from __future__ import annotations

import json
from pathlib import Path

from shardraft.sim.options import SimulationOptions

DIRECTORY = Path(__file__).with_name("regressions")


def save(options: SimulationOptions, reason: str, directory: Path = DIRECTORY) -> Path:
    """Keep a world in which ``reason`` happened; the file's name says which."""
    content = {
        "seed": options.seed,
        "hosts": options.hosts,
        "spares": options.spares,
        "shards": options.shards,
        "learners": options.learners,
        "seconds": options.seconds,
        "only_faults": options.only_faults,
        "kinds": options.kinds,
        "reason": reason.splitlines()[0],
    }
    path = directory / f"seed-{options.seed}-{options.hosts}-{options.shards}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def load(path: Path) -> SimulationOptions:
    """The world that a file holds."""
    content = json.loads(path.read_text())
    only, kinds = content["only_faults"], content.get("kinds")
    return SimulationOptions(
        seed=content["seed"],
        hosts=content["hosts"],
        spares=content.get("spares", 0),
        shards=content["shards"],
        learners=tuple(content["learners"]),
        seconds=content["seconds"],
        only_faults=None if only is None else tuple(only),
        kinds=None if kinds is None else tuple(kinds),
    )
