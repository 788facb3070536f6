"""A group's configuration is part of its applied state: it survives restarts, compaction and copies."""

from __future__ import annotations

from shardraft.config import HostConfig, Limits
from shardraft.kv.machine import MachineState
from shardraft.raft.membership import MembershipChange, decode_membership
from shardraft.types import Membership
from tests.host.cluster import Cluster, Process
from tests.host.test_host import SHARD, put

SMALL = HostConfig(limits=Limits(log_bytes_max=4_000, write_buffer_bytes_max=2_000, flush_age_ms_max=100))


def remove(cluster: Cluster, replica: int) -> Process:
    """Remove a replica, let that be applied everywhere, and return the leader."""
    leader = cluster.leader_of(SHARD)
    voter = leader.host.voters[SHARD]
    voter.raft.propose_membership(MembershipChange(remove=(replica,)), cluster.now_us)
    leader.host.touch(voter)
    cluster.run(2)
    return leader


def a_follower(cluster: Cluster) -> Process:
    leader = cluster.leader_of(SHARD)
    return next(process for process in cluster.processes.values() if process is not leader)


def replica_of(process: Process) -> int:
    return process.host.voters[SHARD].raft.replica


def write_much(cluster: Cluster, first: int) -> None:
    """Enough that logs are compacted and state is flushed."""
    for request_id in range(first, first + 40):
        put(cluster, cluster.leader_of(SHARD), request_id, b"k%d" % request_id, b"v" * 500)
        cluster.settle()
    cluster.run(1)


def test_a_shard_begins_with_the_configuration_of_the_map() -> None:
    cluster = Cluster(shards=1)
    machine = cluster.processes[1].host.voters[SHARD].machine
    assert decode_membership(machine.membership) == Membership.of({1: 1, 2: 2, 3: 3})
    assert machine.last_replica == 3


def test_a_voter_that_starts_again_knows_a_configuration_whose_entry_is_compacted() -> None:
    """Else it would fall back to those with whom the shard began, and count their votes."""
    cluster = Cluster(hosts=5, shards=1, config=SMALL)
    cluster.run(3)
    removed = a_follower(cluster)
    number = replica_of(removed)
    leader = remove(cluster, number)
    write_much(cluster, 100)
    voter = leader.host.voters[SHARD]
    membership = voter.raft.membership
    assert number not in membership.voters
    assert voter.log.first_index > voter.raft.membership_index, "the entry is compacted"
    leader.start(cluster.now_us)
    again = leader.host.voters[SHARD].raft
    assert again.membership == membership
    assert leader.host.voters[SHARD].machine.last_replica == 5


def test_a_state_of_an_earlier_program_has_the_configuration_of_the_map() -> None:
    cluster = Cluster(shards=1)
    process = cluster.processes[1]
    kept = process.store.states[SHARD]
    kept.state = MachineState(SHARD, kept.state.key_range, kept.state.epoch)
    process.store.replicas.clear()
    process.start(cluster.now_us)
    voter = process.host.voters[SHARD]
    assert voter.raft.membership == Membership.of({1: 1, 2: 2, 3: 3})
    assert voter.machine.last_replica == 3


def test_a_copy_brings_the_configuration_of_its_index() -> None:
    """The follower missed the change, and the entry that brought it is compacted at its leader."""
    cluster = Cluster(hosts=5, shards=1, config=SMALL)
    cluster.run(3)
    behind = a_follower(cluster)
    removed = next(p for p in cluster.processes.values() if p not in (behind, cluster.leader_of(SHARD)))
    host = behind.host.host
    del cluster.processes[host]
    number = replica_of(removed)
    leader = remove(cluster, number)
    write_much(cluster, 100)
    assert leader.host.voters[SHARD].log.first_index > behind.host.voters[SHARD].log.last_index
    cluster.processes[host] = behind
    cluster.run(5)
    raft = behind.host.voters[SHARD].raft
    assert raft.membership == leader.host.voters[SHARD].raft.membership
    assert number not in raft.membership.voters
    behind.start(cluster.now_us)
    assert behind.host.voters[SHARD].raft.membership == raft.membership
