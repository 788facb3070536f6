"""A seed that breaks a promise is shrunk to the faults that it takes, and a fault is the same without the others."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from shardraft.sim import shrink as shrinking
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import Simulation, simulate
from shardraft.sim.shrink import shrink

OPTIONS = SimulationOptions(seed=8, seconds=6.0, learners=(1,))

Plant = Callable[..., None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Plant a bug: a promise is broken whenever all of these faults strike."""

    def planted(*needed: int) -> None:
        judge = Simulation._judge

        def broken(simulation: Simulation) -> int:
            only = simulation.options.only_faults
            if all(number <= simulation.faults.struck and (only is None or number in only) for number in needed):
                raise simulation.world.failure("a planted promise")
            return judge(simulation)

        monkeypatch.setattr(Simulation, "_judge", broken)

    return planted


@pytest.mark.replaces_code
def test_what_is_left_is_what_it_takes(plant: Plant) -> None:
    plant(2, 4)
    heard: list[tuple[int, int]] = []
    shrunk = shrink(OPTIONS, lambda runs, left: heard.append((runs, left)))
    assert shrunk is not None
    assert shrunk.options.only_faults == (2, 4)
    assert shrunk.failure.reason == "a planted promise"
    assert "--only-faults 2,4" in shrunk.failure.replay
    assert shrunk.struck >= 4
    assert heard[-1] == (shrunk.runs, 2)


@pytest.mark.replaces_code
def test_a_promise_that_breaks_without_any_fault_needs_none(plant: Plant) -> None:
    plant()
    shrunk = shrink(OPTIONS)
    assert shrunk is not None
    assert shrunk.options.only_faults == ()
    assert shrunk.options.replay.endswith(" --only-faults none")


def test_a_seed_that_keeps_every_promise_is_not_shrunk() -> None:
    assert shrink(attrs.evolve(OPTIONS, seconds=2.0)) is None


@pytest.mark.replaces_code
def test_the_search_ends_after_so_many_worlds(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrinking, "RUNS_MAX", 3)
    plant(2, 4)
    shrunk = shrink(OPTIONS)
    assert shrunk is not None
    assert shrunk.runs == 3
    assert {2, 4} <= set(shrunk.options.only_faults or ())


def test_all_faults_by_their_numbers_are_the_same_world() -> None:
    options = attrs.evolve(OPTIONS, seconds=3.0)
    assert simulate(attrs.evolve(options, only_faults=tuple(range(1, 200)))).trace_hash == simulate(options).trace_hash


def test_a_fault_is_what_it_was_without_the_others() -> None:
    def told(only: tuple[int, ...] | None) -> list[str]:
        lines: list[str] = []
        simulate(attrs.evolve(OPTIONS, only_faults=only), listener=lines.append)
        return [line for line in lines if " fault " in line]

    everything = told(None)
    assert len(everything) > 2
    assert told((1, 3)) == [everything[0], everything[2]]


def test_listening_changes_nothing() -> None:
    options = attrs.evolve(OPTIONS, seconds=2.0)
    lines: list[str] = []
    assert simulate(options, listener=lines.append).trace_hash == simulate(options).trace_hash
    assert any("RequestVote " in line and ">" in line for line in lines), "who sent what to whom"
    assert any("commit_index 0 -> 1" in line for line in lines), "what changed"
