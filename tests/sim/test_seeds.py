"""Two hundred seeds of twenty simulated seconds each: faults, then healing, and every promise kept."""

from __future__ import annotations

import pytest

from shardraft.sim.report import Report
from shardraft.sim.run import RECOVERY_ELECTION_TIMEOUTS_MAX, run_seed

SEEDS = 200
SEEDS_PER_TEST = 5
ELECTION_TIMEOUT_MS = 1_000

REQUIRED_CHECKS = ("elections", "entries_matched", "commits", "applied", "hard_states", "operations_linearized")


def must_have_been_tested(report: Report) -> None:
    """A run in which nothing broke or nothing was written proves nothing."""
    assert report.faults > 0
    assert report.acknowledged > 100
    assert report.reads > 10
    for name in REQUIRED_CHECKS:
        assert report.checked[name] > 0, f"seed {report.seed} checked no {name}"
    assert report.recovery_ms <= RECOVERY_ELECTION_TIMEOUTS_MAX * ELECTION_TIMEOUT_MS


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_seeds_keep_every_promise(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        must_have_been_tested(run_seed(seed, seconds=20.0))


def test_five_voters_keep_every_promise() -> None:
    for seed in range(3):
        must_have_been_tested(run_seed(seed, hosts=5, shards=3, learners=(2, 2), seconds=10.0))


def test_a_single_voter_keeps_every_promise() -> None:
    for seed in range(3):
        assert run_seed(seed, hosts=1, shards=1, learners=(1,), seconds=10.0).acknowledged > 0
