"""Two hundred seeds of fourteen simulated seconds each: faults, then healing, and every promise kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardraft.sim.faults import Faults
from shardraft.sim.kinds import name_of
from shardraft.sim.options import SimulationOptions
from shardraft.sim.report import HAPPENINGS, Report
from shardraft.sim.run import RECOVERY_ELECTION_TIMEOUTS_MAX, run_seed, simulate
from shardraft.sim.world import World

SEEDS = 200
SEEDS_PER_TEST = 5
ELECTION_TIMEOUT_MS = 1_000
AROUND_COPIES = ("crash in copy", "wipe disk", "isolate", "crash learner")
"""Little else happens where these are the only kinds of faults, so that crashes often meet a copy half way."""
COPY_SEEDS = range(6, 20)

REQUIRED_CHECKS = ("elections", "entries_matched", "commits", "applied", "hard_states", "operations_linearized")


def must_have_been_tested(report: Report) -> None:
    """A run in which nothing broke or nothing was written proves nothing."""
    assert report.faults > 0
    assert report.acknowledged > 100
    assert report.reads > 10
    for name in REQUIRED_CHECKS:
        assert report.checked[name] > 0, f"seed {report.seed} checked no {name}"
    assert report.recovery_ms <= RECOVERY_ELECTION_TIMEOUTS_MAX * ELECTION_TIMEOUT_MS


@pytest.fixture
def kinds_seen(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where the tests of this run write down which faults occurred, whichever process they run in."""
    base = tmp_path_factory.getbasetemp()
    directory = (base if worker_id == "master" else base.parent) / "kinds_of_faults"
    directory.mkdir(exist_ok=True)
    return directory


def every_kind() -> set[str]:
    """What the seeds must have met: each kind of fault, and each thing that depends on where it meets the hosts."""
    world = World(SimulationOptions(seed=0))
    return {name_of(fault) for fault in Faults(world).kinds()} | set(HAPPENINGS) | {"loss", "doubling", "late frames"}


def kinds_in(report: Report) -> set[str]:
    frames = {"loss": report.frames_lost, "doubling": report.frames_doubled, "late frames": report.frames_late}
    return set(report.faults_by_kind) | {name for name, count in frames.items() if count}


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_seeds_keep_every_promise_and_together_meet_every_kind_of_fault(first: int, kinds_seen: Path) -> None:
    kinds: set[str] = set()
    for seed in range(first, first + SEEDS_PER_TEST):
        report = run_seed(seed, seconds=14.0)
        must_have_been_tested(report)
        kinds |= kinds_in(report)
    if (seed := first // SEEDS_PER_TEST) in COPY_SEEDS:
        kinds |= kinds_in(simulate(SimulationOptions(seed=seed, seconds=14.0, kinds=AROUND_COPIES)))
    unfinished = kinds_seen / f"{first}.unfinished"
    unfinished.write_text(json.dumps(sorted(kinds)))
    unfinished.rename(kinds_seen / f"from-{first}.json")
    # Whoever comes last finds what all the others wrote, and sees whether anything is missing.
    written = [json.loads(path.read_text()) for path in sorted(kinds_seen.glob("from-*.json"))]
    if len(written) == SEEDS // SEEDS_PER_TEST:
        missing = every_kind().difference(*written)
        assert not missing, "no seed met these faults"


def test_five_voters_keep_every_promise() -> None:
    for seed in range(3):
        must_have_been_tested(run_seed(seed, hosts=5, shards=3, learners=(2, 2), seconds=10.0))


def test_a_single_voter_keeps_every_promise() -> None:
    for seed in range(3):
        assert run_seed(seed, hosts=1, shards=1, learners=(1,), seconds=10.0).acknowledged > 0
