"""Which rows run on which system, and in which order."""

from __future__ import annotations

import re

from bench.harness.plan import FULL, QUICK, make_plan
from bench.harness.ports import System
from bench.harness.rows import Kind
from bench.harness.targets import OWN, TARGETS
from bench.systems import all_systems
from shardraft.sim.options import SimulationOptions
from tests.bench.fake import FakeSystem


def planned(quick: bool = False) -> set[tuple[str, str]]:
    blocks = make_plan(QUICK if quick else FULL, all_systems())
    return {(row.key, block.system) for block in blocks for row in block.rows}


def test_every_kind_of_work_is_in_the_full_plan() -> None:
    blocks = make_plan(FULL, all_systems())
    assert {row.kind for block in blocks for row in block.rows} == set(Kind)


def test_every_target_has_its_rows_in_both_plans() -> None:
    for quick in (False, True):
        rows = planned(quick)
        for target in TARGETS:
            if not quick or target.system != "shardraft-asyncio":  # The quick plan has the client on trio alone.
                assert (target.key, target.system) in rows
            if target.other[0]:
                assert target.other in rows, target


def test_the_workloads_that_were_asked_for_are_there() -> None:
    keys = {key for key, system in planned() if system == OWN}
    assert {f"puts-{count}" for count in (1, 16, 64, 256)} <= keys
    assert {"batches-100", "batches-1000", "get-many-100", "scan", "failover", "idle", "memory"} <= keys
    assert {f"ycsb-{mix}" for mix in "ABCDEF"} <= keys
    assert {f"puts-256-shards-{count}" for count in (1, 8, 64)} <= keys
    assert {f"puts-256-voters-{count}" for count in (1, 3, 5)} <= keys
    repeated = {key for key in keys if re.fullmatch(r"(puts|batches)-\d+", key)}
    assert {f"{key}-slow-sync" for key in repeated} <= keys
    assert "idle-shards-1000" in keys


def test_the_simulator_is_measured_as_shardraft_sim_runs_it_and_idle() -> None:
    for scale in (FULL, QUICK):
        events, idle = make_plan(scale, all_systems(), kinds=["simulator"])
        assert [row.workload for row in (*events.rows, *idle.rows)] == [
            f"simulator events, default faults and every invariant, {scale.simulated_seeds} seeds",
            "simulated seconds per second, idle",
        ]
        assert events.cluster.shards == idle.cluster.shards == SimulationOptions(seed=1).shards
        assert (1,) * events.cluster.readers == SimulationOptions(seed=1).learners
        assert (events.cluster.members, idle.cluster.members, idle.cluster.readers) == (3, 3, 0)


def test_systems_take_turns_and_go_backwards_in_the_second_round() -> None:
    systems: dict[str, System] = {name: FakeSystem(name) for name in ("shardraft", "etcd", "redis")}
    blocks = make_plan(FULL, systems, kinds=["gets"])
    assert [block.system for block in blocks] == ["shardraft", "etcd", "redis", "redis", "etcd", "shardraft"]


def test_what_a_system_does_not_offer_is_left_out() -> None:
    systems: dict[str, System] = {"etcd": FakeSystem("etcd", offers=frozenset({Kind.GETS}))}
    blocks = make_plan(FULL, systems)
    assert {row.kind for block in blocks for row in block.rows} == {Kind.GETS}


def test_short_scans_are_asked_only_of_systems_with_an_order() -> None:
    systems: dict[str, System] = {name: FakeSystem(name) for name in ("shardraft", "redis")}
    systems["redis"].is_ordered = False
    blocks = make_plan(FULL, systems, kinds=["ycsb-D", "ycsb-E"])
    assert {(block.system, row.mix) for block in blocks for row in block.rows} == {
        ("shardraft", "D"),
        ("shardraft", "E"),
        ("redis", "D"),
    }


def test_a_plan_without_systems_is_empty() -> None:
    assert make_plan(FULL, {}) == []


def test_the_timed_parts_leave_room_for_the_rest_of_the_time() -> None:
    for scale in (FULL, QUICK):
        blocks = make_plan(scale, all_systems())
        timed = sum(row.seconds + row.warm_up_seconds + 6 * row.times for block in blocks for row in block.rows)
        assert timed < 0.6 * 60 * scale.minutes_max
    assert (FULL.minutes_max, QUICK.minutes_max) == (45, 5)


def test_the_row_that_goes_on_for_long_says_how_long() -> None:
    for scale, said in ((FULL, "for 60 s"), (QUICK, "for 6 s")):
        rows = [row for block in make_plan(scale, all_systems(), kinds=["puts-256-steady"]) for row in block.rows]
        assert [row.workload for row in rows] == [f"puts, 256 in flight, {said}"]


def test_blocks_survive_the_way_to_their_process_and_back() -> None:
    for block in make_plan(QUICK, all_systems()):
        assert type(block).from_json(block.to_json()) == block
