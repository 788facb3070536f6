"""A host whose disk lost something, and that everybody lets in all the same (PROTOCOL, "Log, state, snapshots")."""

from __future__ import annotations

import attrs
import pytest

from shardraft.host.events import PeerFrameReceived
from shardraft.raft.messages import Heartbeat
from shardraft.sim.cluster import Cluster
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.peers import PeerLinks
from shardraft.sim.store import COPY_NONCES, SimStore
from shardraft.types import HostId
from tests.sim.test_faults import SMALL_LOG, Make, fill


def an_old_copy(cluster: Cluster, host: HostId) -> SimStore:
    """A copy of the host's disk; more is acknowledged since, in the same term."""
    copy = cluster.process(host).disk.store.old_copy()
    fill(cluster, 3)
    cluster.settle()
    return copy


def an_empty_disk(cluster: Cluster, host: HostId) -> SimStore:
    return SimStore(cluster.world.shard_map.cluster_id, host, cluster.world.shard_map, first_nonce=2 * COPY_NONCES)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def everybody_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the start that another's disk shows."""
    monkeypatch.setattr(PeerLinks, "_greet", lambda links, host, judge: True)


@pytest.fixture
def cluster(said: list[str]) -> Cluster:
    """Three hosts and a spare one, and a few writes that everybody has."""
    cluster = Cluster(spares=1, listener=said.append)
    fill(cluster, 3)
    cluster.settle()
    return cluster


@pytest.mark.replaces_code
@pytest.mark.parametrize("make", [an_old_copy, an_empty_disk])
def test_a_replica_that_lacks_what_it_acknowledged_stops_and_is_replaced(
    cluster: Cluster, said: list[str], make: Make
) -> None:
    leader, astray = cluster.elect(), cluster.followers()[0]
    term = cluster.term(leader)
    cluster.world.impersonate(astray, make(cluster, astray))
    stopped = cluster.host(astray).voters[1]
    last_index = stopped.log.last_index
    cluster.run_until(lambda: stopped.stopped)
    assert [line for line in said if f" {astray} shard 1 term {term} StateLost" in line]
    fill(cluster, 5)
    cluster.run(seconds=3)
    assert stopped.log.last_index == last_index, "it takes nothing any more"
    assert (cluster.elect(), cluster.term(leader)) == (leader, term), "it disturbs nobody"
    cluster.change_members(add=4, remove=astray)
    replacement, committed = cluster.host(4).voters[1], cluster.world.invariants.commit_index(1)
    cluster.run_until(lambda: replacement.machine.last_applied >= committed)
    assert astray not in cluster.members()


def test_an_accusation_of_a_host_on_its_newest_disk_is_noticed(cluster: Cluster) -> None:
    """The disk says that everything is durable, and forgets the last entries."""
    astray = cluster.followers()[0]
    store = cluster.process(astray).disk.store
    earlier = store.logs[1].copy()
    fill(cluster, 3)
    cluster.settle()
    cluster.crash(astray)
    vote = store.logs[1].hard_state
    earlier.hard_state = attrs.evolve(vote, commit_index=earlier.hard_state.commit_index)
    store.logs[1] = earlier
    cluster.restart(astray)
    with pytest.raises(SimulationFailure, match=f"host {astray} runs from its newest disk and says StateLost"):
        cluster.run(seconds=1)


def test_a_copy_that_ends_after_its_replica_stopped_is_served_to_nobody() -> None:
    cluster = Cluster(config=SMALL_LOG)
    leader, astray = cluster.elect(), cluster.followers()[0]
    cluster.crash(astray)
    fill(cluster, 60)
    process = cluster.process(astray)
    process.disk.slowness = 50
    cluster.restart(astray)
    voter = cluster.host(astray).voters[1]
    cluster.run_until(lambda: voter.installing)
    process.impersonates = True  # As far as the world knows, its disk may lack anything.
    raft = voter.raft
    lost = Heartbeat(1, raft.term, raft.leader, raft.replica, raft.log.last_index + 1, 10**6)
    process.take(PeerFrameReceived, leader, (lost,))
    cluster.run_until(lambda: voter.stopped)
    assert voter.installing
    cluster.run_until(lambda: not voter.installing)
    cluster.run(seconds=1)
    assert not voter.serving
    read = cluster.get(b"filler-1", via=astray, stale=True, timeout_seconds=1)
    cluster.wait(read)
    assert read.error is not None
