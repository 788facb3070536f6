"""``shardraft sim``: a seed is a history, and a broken promise is said with the way to see it again."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import attrs
import pytest

from shardraft.cli import main
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.report import HAPPENINGS
from shardraft.sim.shrink import Shrunk
from tests.dev_cluster import SHARDRAFT

Captured = pytest.CaptureFixture[str]
SHORT = ("sim", "--seed", "7", "--hosts", "3", "--seconds", "2")


def trace_hash(hash_seed: str) -> str:
    ran = subprocess.run(
        [*SHARDRAFT, *SHORT, "--json"],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        timeout=120,
        check=True,
    )
    found: str = json.loads(ran.stdout)["trace_hash"]
    return found


def test_one_seed_is_one_trace_whatever_the_hash_seed_of_python() -> None:
    assert trace_hash("1") == trace_hash("2")


def test_a_run_prints_its_trace_hash_and_what_it_checked(capsys: Captured) -> None:
    assert main.run(SHORT) == 0
    said = capsys.readouterr().out
    assert "trace hash " in said
    assert "checked: elections " in said
    assert "operations_linearized " in said


def test_several_seeds_are_one_line_each(capsys: Captured) -> None:
    assert main.run(["sim", "--seed", "3", "--seeds", "2", "--seconds", "1"]) == 0
    captured = capsys.readouterr()
    assert [line.split(":")[0] for line in captured.out.splitlines()] == ["seed 3", "seed 4"]
    assert "2 of 2 seeds kept every promise" in captured.err


def test_a_trace_has_a_line_for_every_event(capsys: Captured) -> None:
    assert main.run(["sim", "--seed", "1", "--seconds", "0.5", "--trace"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 100


def test_a_broken_promise_is_exit_code_1_and_the_command_that_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def broken(options: Any, *_arguments: object) -> None:
        raise SimulationFailure("two leaders in term 3", time_us=1_500_000, replay=options.replay)

    monkeypatch.setattr("shardraft.sim.run.simulate", broken)
    assert main.run(["sim", "--seed", "9", "--shards", "4", "--learners", "0"]) == 1
    said = capsys.readouterr().err
    assert "error: at 1.500000 s: two leaders in term 3" in said
    assert "replay with: shardraft sim --seed 9 --hosts 3 --seconds 20 --shards 4 --learners 0" in said


def test_a_broken_promise_can_be_shrunk(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    failure = SimulationFailure("two leaders in term 3", time_us=1_500_000, replay="shardraft sim --only-faults 3")

    def shrunk(options: Any, *_arguments: object) -> Shrunk:
        return Shrunk(attrs.evolve(options, only_faults=(3,)), failure, struck=9, runs=12)

    monkeypatch.setattr("shardraft.sim.shrink.shrink", shrunk)
    assert main.run(["sim", "--seed", "9", "--shrink"]) == 1
    said = capsys.readouterr().err
    assert "9 faults shrunk to 1 in 12 runs" in said
    assert "replay with: shardraft sim --only-faults 3" in said


def test_only_some_faults_may_strike(capsys: Captured) -> None:
    assert main.run(["sim", "--seed", "3", "--seconds", "2", "--only-faults", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == 0
    assert main.run(["sim", "--seed", "3", "--seconds", "2", "--only-faults", "2,1", "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["faults"] <= 2


@pytest.mark.parametrize("text", ["", "3,x", "0", "-1", "3,,4"])
def test_faults_are_named_by_their_numbers(text: str, capsys: Captured) -> None:
    assert main.run(["sim", "--only-faults", text]) == 2
    assert "is neither" in capsys.readouterr().err


def test_a_world_may_have_faults_of_some_kinds_only(capsys: Captured) -> None:
    assert main.run(["sim", "--seed", "3", "--seconds", "10", "--kinds", "crash leader, flap", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["faults"] > 0
    assert set(report["faults_by_kind"]) - set(HAPPENINGS) == {"crash leader", "flap"}


def test_the_command_that_shows_a_world_again_names_its_kinds_and_its_spares(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def broken(options: Any, *_arguments: object) -> None:
        raise SimulationFailure("two leaders in term 3", time_us=1_500_000, replay=options.replay)

    monkeypatch.setattr("shardraft.sim.run.simulate", broken)
    assert main.run(["sim", "--seed", "9", "--spares", "2", "--kinds", "crash leader,flap"]) == 1
    command = "shardraft sim --seed 9 --hosts 3 --seconds 20 --spares 2 --kinds \"crash leader,flap\""
    assert f"replay with: {command}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "crash leader,", "crash leaders", "add member"])
def test_a_kind_that_the_world_does_not_have_is_refused_with_those_it_has(text: str, capsys: Captured) -> None:
    assert main.run(["sim", "--kinds", text]) == 2
    said = capsys.readouterr().err
    assert 'this world has no faults of the kind "' in said
    assert "crash leader, " in said
    assert "add member, " not in said
