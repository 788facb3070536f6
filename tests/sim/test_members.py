"""What must hold of members and majorities is shown to be noticed when it does not: each mistake is made once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from shardraft.raft.configurations import Configurations
from shardraft.raft.entry import EntryKind, encode_entry
from shardraft.raft.membership import UNKNOWN
from shardraft.raft.quorum import majority_index
from shardraft.raft.ready import LogWrite
from shardraft.sim.cluster import Cluster
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.network import LinkQuality
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import Simulation
from shardraft.types import HostId, Index, ReplicaId, Term


@pytest.fixture
def cluster() -> Cluster:
    """Three hosts and a spare one, one shard, and a write that everybody has."""
    cluster = Cluster(spares=1)
    cluster.write(b"k", b"v")
    cluster.settle()
    return cluster


def leave_an_entry(cluster: Cluster, host: HostId, term: Term) -> Index:
    """As if ``host`` had led in ``term`` for a moment: its log goes on with an entry that nobody else has."""
    log = cluster.world.invariants.stores[host].logs[1]
    index = log.last_index + 1
    log.write(LogWrite(1, 0, entries=(encode_entry(1, index, term, EntryKind.NOOP, 0),)))
    return index


def test_a_commit_that_a_host_with_a_later_term_could_undo_is_noticed(cluster: Cluster) -> None:
    """Figure 8, before it comes to (d1)."""
    behind = cluster.followers()[0]
    cluster.isolate(behind)
    index = leave_an_entry(cluster, behind, term=9)
    with pytest.raises(SimulationFailure, match=f"entry {index} .*, and host {behind} could be elected without it"):
        cluster.write(b"k", b"w")


def test_a_host_that_is_merely_behind_is_no_danger(cluster: Cluster) -> None:
    behind = cluster.followers()[0]
    cluster.isolate(behind)
    leave_an_entry(cluster, behind, term=1)
    cluster.write(b"k", b"w")


@pytest.mark.replaces_code
def test_a_majority_of_one_half_of_a_joint_configuration_is_noticed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who are left go by the former configuration, and are a majority of it."""

    def of_one_half(
        voters: tuple[ReplicaId, ...], _outgoing: tuple[ReplicaId, ...], reached: Mapping[ReplicaId, int]
    ) -> int:
        return majority_index(voters, reached)

    monkeypatch.setattr("shardraft.raft.leader.quorum_index", of_one_half)
    leader = cluster.elect()
    for follower in cluster.followers():
        cluster.world.network.special[leader, follower] = LinkQuality(delay_us=100_000, jitter_us=1)
    with pytest.raises(SimulationFailure, match=rf"host {leader}, .*, and host \d could be elected without it"):
        cluster.change_members(add=4, remove=cluster.followers()[0])


def test_a_replica_that_goes_by_another_configuration_is_noticed(cluster: Cluster) -> None:
    cluster.change_members(add=4)
    cluster.settle()
    cluster.host(4).voters[1].raft.configurations = Configurations(0, UNKNOWN)
    cluster.put(b"k", b"w")
    with pytest.raises(SimulationFailure, match="configuration: host 4, shard 1: goes by "):
        cluster.run(seconds=1)


def lines_of(kind: str, *, spares: int = 0) -> list[str]:
    """What is told of a world that has faults of one kind only."""
    lines: list[str] = []
    options = SimulationOptions(seed=1, spares=spares, learners=(), seconds=10.0, kinds=(kind,))
    Simulation(options, lines.append).run()
    return [line for line in lines if line.rstrip().endswith("alone")]


def test_new_leaders_are_cut_off() -> None:
    assert lines_of("cut new leaders")


def test_leaders_are_cut_off_in_the_middle_of_a_change() -> None:
    assert lines_of("strand change", spares=2)
