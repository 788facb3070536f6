"""The rows about the simulator: what they count, what they check, and what stands beside them."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import attrs
import pytest

from bench.__main__ import save
from bench.harness.block import BlockRunner
from bench.harness.results import Results
from bench.harness.rows import Block, Cluster, Kind, Measurement, Outcome, Row
from bench.harness.targets import targets_of
from bench.systems import find_system, simulating
from bench.systems.simulator import NoServers
from shardraft.sim.options import SimulationOptions
from shardraft.sim.report import Report
from shardraft.sim.run import simulate

SHORT = SimulationOptions(seed=1, seconds=1.0)


def test_events_are_those_of_all_seeds_and_the_first_is_simulated_twice() -> None:
    found = simulating.simulate_events(SHORT, 2)
    reports = [simulate(attrs.evolve(SHORT, seed=seed)) for seed in (1, 2)]
    assert found.operations == sum(report.events for report in reports) > 0
    assert (found.checked, found.wrong) == (2, 0)
    assert found.seconds > 0


def test_a_seed_that_does_not_repeat_itself_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = 0

    def forgetful(options: SimulationOptions) -> Report:
        nonlocal runs
        runs += 1
        return simulate(attrs.evolve(options, seed=options.seed + runs))

    monkeypatch.setattr(simulating, "simulate", forgetful)
    assert simulating.simulate_events(SHORT, 1).wrong == 1


def test_idle_hosts_are_simulated_for_the_time_given_and_must_be_settled() -> None:
    found = simulating.simulate_idle(0.0, 1, ())
    assert found.operations == simulating.IDLE_STEP_SIMULATED_SECONDS
    assert (found.checked, found.wrong) == (1, 0)


def test_idle_hosts_that_do_not_settle_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulating, "SETTLE_SIMULATED_SECONDS", 0.0)
    monkeypatch.setattr(simulating, "IDLE_STEP_SIMULATED_SECONDS", 0.001)
    assert simulating.simulate_idle(0.0, 1, ()).wrong == 1


class _Kept(BlockRunner):
    outcomes: list[Outcome]

    def report(self, outcome: Outcome) -> None:  # type: ignore[override]  # An instance of it is told here.
        self.outcomes.append(outcome)


def outcome_of(row: Row, cluster: Cluster) -> Outcome:
    block = Block(number=1, system="simulator", cluster=cluster, rows=(row,), seconds_max=60)
    runner = _Kept(block, find_system("simulator"))
    runner.outcomes = []
    anyio.run(runner.run, NoServers(cluster), backend="trio")
    return runner.outcomes[0]


def test_a_row_runs_in_a_process_of_its_own_and_says_what_was_simulated() -> None:
    found = outcome_of(Row(key="simulator-idle", kind=Kind.SIMULATED_IDLE, seconds=0.01), Cluster(shards=2))
    assert found.measurement is not None, found.failure
    assert found.workload == "simulated seconds per second, idle; 3 hosts, 2 shards"
    assert found.unit == "simulated seconds"
    assert found.measurement.operations >= simulating.IDLE_STEP_SIMULATED_SECONDS
    assert (found.measurement.read_back, found.measurement.wrong) == (1, 0)


def test_a_simulation_that_fails_fails_its_row_with_its_last_words() -> None:
    found = outcome_of(Row(key="simulator-idle", kind=Kind.SIMULATED_IDLE), Cluster(shards=-1))
    assert found.measurement is None
    assert "the simulation failed: " in found.failure
    assert "Error" in found.failure


def test_both_rates_have_their_targets_in_the_table_and_in_json(tmp_path: Path) -> None:
    outcomes = [
        Outcome(
            key=key,
            system="simulator",
            workload="w",
            unit=unit,
            version="v",
            promise="p",
            measurement=Measurement(operations=operations, seconds=2.0),
        )
        for key, unit, operations in (
            ("simulator-events", "events", 39_000),
            ("simulator-idle", "simulated seconds", 1_000),
        )
    ]
    results = Results(outcomes)
    described = [target.describe(results) for each in outcomes for target in targets_of(each.key, each.system)]
    assert described == ["events/s on one core: 19,500, ≥ 20,000 ✗", "simulated s per s on one core: 500, ≥ 200 ✓"]
    save(results, tmp_path / "run.json", "a machine", [])
    rows = json.loads((tmp_path / "run.json").read_text())["rows"]
    assert [(row["per_second"], row["targets"][0]["bound"]) for row in rows] == [(19_500, 20_000), (500, 200)]
