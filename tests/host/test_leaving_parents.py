"""A host without a voting replica of a shard feeds it to nobody, and its children turn elsewhere (decision 0018)."""

from __future__ import annotations

import pytest

from shardraft.learner.ready import Following
from shardraft.raft.membership import MembershipChange
from shardraft.types import Member
from tests.host.cluster import Cluster, Process
from tests.host.test_host import SHARD, put

NEW_HOST, NEW_REPLICA = 4, 7


@pytest.fixture
def cluster() -> Cluster:
    """Four hosts, and one shard of three voters on hosts 1 to 3."""
    cluster = Cluster(hosts=4, shards=1)
    cluster.run(3)
    return cluster


def change(cluster: Cluster, change: MembershipChange) -> None:
    leader = cluster.leader_of(SHARD)
    voter = leader.host.voters[SHARD]
    voter.raft.propose_membership(change, cluster.now_us)
    leader.host.touch(voter)
    cluster.run(4)


def following(learner: Process) -> Following:
    assert learner.host.tree.learner is not None
    return learner.host.tree.learner.shards()[0].following


def a_follower(cluster: Cluster, *, besides: int = 0) -> int:
    leader = cluster.leader_of(SHARD)
    return next(number for number in (1, 2, 3) if cluster.processes[number] is not leader and number != besides)


def remove_from(cluster: Cluster, host: int) -> None:
    change(cluster, MembershipChange(remove=(cluster.processes[host].host.voters[SHARD].raft.replica,)))


def test_a_learner_leaves_a_parent_whose_replica_left(cluster: Cluster) -> None:
    parent = a_follower(cluster)
    learner = cluster.add_learner(101, parent=parent)
    cluster.run(1)
    assert following(learner) is Following.STREAMING
    remove_from(cluster, parent)
    assert not learner.links, "it closed the link"
    cluster.attach(101, a_follower(cluster, besides=parent))
    put(cluster, cluster.leader_of(SHARD), 1, b"k", b"v")
    cluster.run(1)
    applied = cluster.leader_of(SHARD).host.replicas[SHARD].machine.last_applied
    assert learner.host.replicas[SHARD].machine.last_applied == applied


def test_the_learners_below_stay_where_they_are(cluster: Cluster) -> None:
    parent = a_follower(cluster)
    learner = cluster.add_learner(101, parent=parent)
    cluster.run(1)
    below = cluster.add_learner(201, parent=101)
    cluster.run(1)
    remove_from(cluster, parent)
    assert list(below.links), "its own parent holds the shard"
    cluster.attach(101, a_follower(cluster, besides=parent))
    put(cluster, cluster.leader_of(SHARD), 1, b"k", b"v")
    cluster.run(1)
    applied = learner.host.replicas[SHARD].machine.last_applied
    assert applied == cluster.leader_of(SHARD).host.replicas[SHARD].machine.last_applied
    assert below.host.replicas[SHARD].machine.last_applied == applied


def test_a_replica_that_does_not_vote_yet_feeds_nobody(cluster: Cluster) -> None:
    """It may never become a voter, and then nobody tells it that it lags."""
    newcomer = cluster.processes.pop(NEW_HOST)
    leader = cluster.leader_of(SHARD)
    voter = leader.host.voters[SHARD]
    add = MembershipChange((Member(NEW_REPLICA, NEW_HOST),), ())
    voter.raft.propose_membership(add, cluster.now_us)
    leader.host.touch(voter)
    cluster.processes[NEW_HOST] = newcomer
    while SHARD not in newcomer.host.voters:
        cluster.run(0.01)
    assert not newcomer.host.voters[SHARD].raft.is_voter
    assert not newcomer.host.tree.feed.holds(SHARD)
    cluster.run(4)
    assert newcomer.host.voters[SHARD].raft.is_voter
    assert newcomer.host.tree.feed.holds(SHARD)


def test_a_replica_that_stopped_feeds_nobody(cluster: Cluster) -> None:
    astray = cluster.processes[a_follower(cluster)]
    earlier = astray.store.logs[SHARD].copy()
    assert astray.host.tree.feed.holds(SHARD)
    put(cluster, cluster.leader_of(SHARD), 1, b"k")
    cluster.settle()
    astray.store.logs[SHARD] = earlier
    astray.start(cluster.now_us)
    cluster.run(3)
    assert astray.host.voters[SHARD].stopped
    assert not astray.host.tree.feed.holds(SHARD)
