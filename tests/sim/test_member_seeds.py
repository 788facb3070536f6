"""Seeds in which an operator changes the voters of every shard while everything breaks (section 6; thesis 4)."""

from __future__ import annotations

import pytest

from shardraft.sim.member_faults import MemberFaults
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import Simulation
from tests.sim.test_seeds import must_have_been_tested

SEEDS = 24
SEEDS_PER_TEST = 4
CHANGES_MIN = 4
"""So many configurations are committed in four seeds at the very least; it is about thirty."""


def simulation(seed: int, *, seconds: float = 20.0) -> Simulation:
    """Three voter hosts and two more that hold nothing at first; in every second world, a learner below a learner."""
    learners = (1, 1) if seed % 2 else ()
    return Simulation(SimulationOptions(seed=seed, hosts=3, spares=2, learners=learners, seconds=seconds))


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_groups_whose_members_change_keep_every_promise(first: int) -> None:
    changes = 0
    for seed in range(first, first + SEEDS_PER_TEST):
        world = simulation(seed)
        must_have_been_tested(world.run())
        changes += world.world.invariants.members.changes
    assert changes >= CHANGES_MIN


def test_the_members_of_a_group_are_those_that_the_committed_entries_say() -> None:
    world = simulation(3).world
    assert {len(world.invariants.members.committed(shard.shard).voters) for shard in world.shard_map.shards} == {3}
    assert [process.node for process in world.voters()] == [1, 2, 3, 4, 5]


def test_every_world_with_spares_may_see_every_kind_of_change() -> None:
    world = simulation(1)
    names = {kind.__name__ for kind in MemberFaults(world.faults, world.faults.leaders).kinds}
    assert names <= {kind.__name__ for kind in world.faults.kinds()}
    without = Simulation(SimulationOptions(seed=1, learners=()))
    assert names.isdisjoint(kind.__name__ for kind in without.faults.kinds())


def test_one_seed_gives_one_trace() -> None:
    assert simulation(5, seconds=5.0).run().trace_hash == simulation(5, seconds=5.0).run().trace_hash
