"""Every world in which a promise was broken once keeps it now."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import simulate
from tests.sim.kept import DIRECTORY, load, save
from tests.sim.soak import Soak, world_of


def test_what_was_mended_stays_mended() -> None:
    for path in sorted(DIRECTORY.glob("*.json")):
        simulate(load(path))


@pytest.mark.parametrize("only", [None, (), (3, 17)])
def test_a_world_comes_back_from_its_file(tmp_path: Path, only: tuple[int, ...] | None) -> None:
    options = SimulationOptions(
        seed=9, hosts=5, spares=2, shards=3, learners=(2, 1), seconds=7.0, only_faults=only, kinds=("flap",)
    )
    assert load(save(options, "two leaders\nand more", tmp_path)) == options


def test_a_soak_varies_its_worlds_and_a_seed_is_always_the_same_one() -> None:
    worlds = [world_of(seed) for seed in range(60)]
    assert worlds == [world_of(seed) for seed in range(60)]
    assert {world.hosts for world in worlds} == {1, 3, 5}
    assert len({world.shards for world in worlds}) > 2
    assert len({world.learners for world in worlds}) > 2


def test_a_soak_counts_and_keeps_what_fails(tmp_path: Path) -> None:
    soak = Soak(tmp_path, print)
    soak.heard(world_of(1), None)
    soak.heard(world_of(2), (world_of(2), "two leaders in term 3"))
    assert (soak.done, soak.failed) == (2, 1)
    (path,) = tmp_path.glob("*.json")
    assert load(path) == world_of(2)
