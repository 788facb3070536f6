"""One seed, one trace: whatever the process and whatever its hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = "from shardraft.sim.run import run_seed; print(run_seed({seed}, seconds=10.0).trace_hash)"


def trace_hash(seed: int, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    program = PROGRAM.format(seed=seed)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_one_seed_gives_one_trace_under_two_hash_seeds() -> None:
    for seed in (7, 8):
        assert trace_hash(seed, "1") == trace_hash(seed, "2")


def test_two_seeds_give_two_traces() -> None:
    assert trace_hash(7, "1") != trace_hash(8, "1")
