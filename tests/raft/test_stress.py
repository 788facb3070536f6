"""Random worlds break no law; then everything heals, and progress is demanded (see ``world``)."""

from __future__ import annotations

import pytest

from shardraft.raft.ready import StateLost, TransferBegan, TransferGivenUp
from tests.raft.world import World

SEEDS = range(120)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_world_breaks_no_law_and_recovers(seed: int) -> None:
    world = World(seed)
    world.live()
    world.recover()
    refused = [reason for replica in world.cluster.nodes for reason in world.cluster.refusals(replica)]
    assert refused == [], "correct replicas never send what must be refused"
    lost = [note for node in world.cluster.nodes.values() for note in node.notes if isinstance(note, StateLost)]
    assert lost == [], "disks that keep what they said they keep are never accused"


def test_the_same_seed_makes_the_same_world() -> None:
    def trace(seed: int) -> list[tuple[int, object]]:
        world = World(seed)
        world.live()
        return world.cluster.trace

    assert trace(4) == trace(4)
    assert trace(4) != trace(5)


def test_much_happens_in_these_worlds() -> None:
    """Else they would prove little: configurations of all kinds, transfers, replicas that are destroyed."""
    worlds = [World(seed) for seed in range(0, 80, 4)]
    for world in worlds:
        world.live()
    said = [what for world in worlds for _, what in world.cluster.trace]
    memberships = [membership for world in worlds for membership in world.cluster.law.memberships.values()]
    assert sum(membership.is_joint for membership in memberships) >= 20
    assert sum(bool(membership.staging) for membership in memberships) >= 20
    assert sum(isinstance(what, TransferBegan) for what in said) >= 20
    assert sum(isinstance(what, TransferGivenUp) for what in said) >= 3
    assert sum(len(world.cluster.destroyed) for world in worlds) >= 20
