"""Replicas that are being added: they catch up first and count for nothing (thesis 4.2.1; PROTOCOL)."""

from __future__ import annotations

from shardraft.config import RaftConfig
from shardraft.raft.membership import UNKNOWN
from shardraft.raft.messages import AppendEntries, AppendEntriesReply, RequestPreVoteReply
from shardraft.raft.ready import Role
from shardraft.raft.reconfiguration import CatchUp
from shardraft.types import INTEGER_MAX
from tests.raft.cluster import Cluster, group
from tests.raft.law import SHARD


def with_two_staging() -> Cluster:
    """1 leads (1 2 3), which it cannot reach; 4 and 5 are staging and answer rounds, and their disks hang."""
    cluster = Cluster()
    cluster.elect(1)
    for replica in (4, 5):
        cluster.node(replica)
        cluster.prepare(replica, (), current_term=1)
        cluster.nodes[replica].disk_paused = True
    cluster.change(1, add=(4, 5))
    cluster.stabilize()
    cluster.isolate(2)
    cluster.isolate(3)
    assert (cluster.raft(1).membership.staging, cluster.raft(1).commit_index) == ((4, 5), 2)
    return cluster


def test_staging_replicas_count_for_nothing_in_a_commit() -> None:
    """PROTOCOL; they do get everything."""
    cluster = with_two_staging()
    cluster.propose(1, "x")
    cluster.stabilize()
    cluster.heartbeat(1)
    assert [cluster.raft(replica).log.last_index for replica in (1, 4, 5)] == [3, 3, 3]
    for replica in (4, 5):
        cluster.raft(1).step(AppendEntriesReply(SHARD, 1, replica, 1, True, 3), cluster.now_us)
    assert cluster.raft(1).commit_index == 2


def test_staging_replicas_count_for_nothing_in_a_round() -> None:
    """Neither for reads nor for check-quorum."""
    cluster = with_two_staging()
    cluster.raft(1).read_index(7, cluster.now_us)
    cluster.stabilize()
    cluster.heartbeat(1)
    leading = cluster.raft(1).leading
    assert leading is not None
    assert [leading.progress[replica].round for replica in (2, 4, 5)] == [0, 2, 2]
    assert cluster.nodes[1].read_states == []
    cluster.run(1.2, paused=(2, 3))
    assert cluster.leaders() == []


def test_votes_of_staging_replicas_are_not_counted() -> None:
    cluster = with_two_staging()
    raft = cluster.raft(1)
    cluster.run(1.2, paused=(2, 3))
    cluster.campaign(1)
    for replica in (4, 5):
        raft.step(RequestPreVoteReply(SHARD, 2, replica, 1, True), cluster.now_us)
    assert raft.term == 1, "it is not elected before the election"
    raft.step(RequestPreVoteReply(SHARD, 2, 2, 1, True), cluster.now_us)
    assert (raft.role, raft.term) == (Role.CANDIDATE, 2)


def test_a_staging_replica_that_is_dead_is_never_promoted() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(4)
    cluster.change(1, add=(4,))
    cluster.settle(10)
    assert cluster.raft(1).membership.staging == (4,)
    cluster.change(1, remove=(4,))
    cluster.settle()
    assert (cluster.raft(1).membership, cluster.raft(1).membership_settled) == (group(1, 2, 3), True)


def test_a_staging_replica_that_dies_after_it_caught_up_is_not_promoted_with_one_that_is_late() -> None:
    """All that are staging get their votes together; each must be alive then."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(5)
    cluster.change(1, add=(4, 5))
    cluster.run(0.5)
    assert cluster.raft(4).commit_index == 2
    cluster.isolate(4)
    cluster.run(1.1)
    cluster.heal()
    cluster.isolate(4)
    cluster.run(3)
    assert cluster.raft(5).commit_index == 2
    assert cluster.raft(1).membership.staging == (4, 5)
    cluster.heal()
    cluster.settle()
    assert cluster.raft(1).membership == group(1, 2, 3, 4, 5)


def test_a_replica_has_caught_up_after_a_round_shorter_than_an_election_timeout() -> None:
    """Thesis 4.2.1: each round brings what the leader held when it began."""
    catch_up = CatchUp(1000, now_us=0)
    catch_up.acknowledged(999, 2000, 400, 500)
    assert not catch_up.done(999, 2000, 400, 500)
    catch_up.acknowledged(1000, 3000, 600, 500)
    assert not catch_up.done(1000, 3000, 600, 500), "the round took too long"
    catch_up.acknowledged(3000, 3100, 1100, 500)
    assert catch_up.done(3000, 3100, 1100, 500)
    assert catch_up.done(3050, 3200, 1600, 500)
    assert not catch_up.done(3050, 3200, 1601, 500), "it fell behind again"
    assert catch_up.done(3200, 3200, 9999, 500), "it lacks nothing"


def test_a_busy_leader_promotes_a_replica_that_lags_a_little() -> None:
    """Under steady writes it never holds everything."""
    cluster = Cluster()
    cluster.elect(1)
    for _ in range(200):
        cluster.propose(1, "x")
    cluster.change(1, add=(4,))
    for _ in range(60):
        cluster.propose(1, "more")
        cluster.turn()
        cluster.deliver_all()
        if cluster.raft(1).membership.voters == (1, 2, 3, 4):
            break
    assert cluster.raft(1).membership.voters == (1, 2, 3, 4)


def test_a_new_replica_knows_nothing_and_waits() -> None:
    raft = Cluster().node(9).raft
    assert (raft.membership, raft.deadline_us, raft.is_voter, raft.has_left) == (UNKNOWN, INTEGER_MAX, False, False)
    raft.step(AppendEntries(SHARD, 3, 1, 9, 50, 3, 0), 0)
    assert (raft.leader, raft.leader_host, raft.role) == (1, 0, Role.FOLLOWER)


def test_a_replica_that_catches_up_does_not_believe_that_it_left() -> None:
    """It meets configurations from before its time."""
    cluster = Cluster(config=RaftConfig(append_entries_max=1))
    cluster.elect(1)
    cluster.change(1, remove=(3,))
    cluster.settle()
    cluster.change(1, add=(4,))
    met = set()
    for _ in range(60):
        cluster.turn()
        cluster.deliver_all()
        if 4 in cluster.nodes:
            raft = cluster.raft(4)
            met.add(raft.membership.voters)
            assert not raft.has_left
    assert (1, 2) in met
    assert cluster.raft(4).membership == group(1, 2, 4)
