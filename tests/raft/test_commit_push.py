"""How followers learn what is committed: with the next entries, or alone when none come for ``commit_push_ms``."""

from __future__ import annotations

import pytest

from shardraft.config import RaftConfig
from shardraft.raft.messages import AppendEntries, CommitAdvance
from tests.raft.cluster import Cluster

PUSH_US = 2_000


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(config=RaftConfig(commit_push_ms=PUSH_US // 1000))
    cluster.elect(1)
    cluster.settle()
    return cluster


def committed(cluster: Cluster) -> list[int]:
    return [cluster.raft(replica).commit_index for replica in (1, 2, 3)]


def test_a_commit_index_is_sent_alone_after_the_wait_and_not_before(cluster: Cluster) -> None:
    leader = cluster.raft(1)
    entry = cluster.propose(1, "a")
    cluster.stabilize()
    assert committed(cluster) == [entry.index, entry.index - 1, entry.index - 1]
    assert leader.deadline_us == cluster.now_us + PUSH_US
    leader.tick(leader.deadline_us - 1)
    assert not leader.has_ready
    cluster.now_us = leader.deadline_us
    leader.tick(leader.deadline_us)
    pushed = [message for message in leader.take_ready().messages if isinstance(message, CommitAdvance)]
    assert [(message.to_replica, message.commit_index) for message in pushed] == [(2, entry.index), (3, entry.index)]
    assert leader.deadline_us > cluster.now_us + PUSH_US, "the next is the heartbeat's"


def test_entries_carry_it_along_and_nothing_is_sent_alone(cluster: Cluster) -> None:
    leader = cluster.raft(1)
    entry = cluster.propose(1, "a")
    cluster.stabilize()
    cluster.propose(1, "b")
    messages = leader.take_ready().messages
    assert [message.leader_commit for message in messages if isinstance(message, AppendEntries)] == [entry.index] * 2
    leader.tick(leader.deadline_us)
    assert not any(isinstance(message, CommitAdvance) for message in leader.take_ready().messages)


def test_a_follower_that_acknowledges_late_is_told_too(cluster: Cluster) -> None:
    """What it holds was committed without it, while it was not known to hold it."""
    leader = cluster.raft(1)
    cluster.cuts |= {(3, 1)}
    entry = cluster.propose(1, "a")
    cluster.stabilize()
    cluster.now_us = leader.deadline_us
    leader.tick(cluster.now_us)
    cluster.stabilize()
    assert committed(cluster) == [entry.index, entry.index, entry.index - 1]
    cluster.heal()
    cluster.now_us = leader.deadline_us
    leader.tick(cluster.now_us)  # The heartbeat finds out that an answer is missing, and asks for it again.
    cluster.stabilize()
    cluster.now_us = leader.deadline_us
    leader.tick(cluster.now_us)
    cluster.stabilize()
    assert committed(cluster) == [entry.index] * 3


def test_a_lost_one_is_made_good_by_the_next_heartbeat(cluster: Cluster) -> None:
    leader = cluster.raft(1)
    entry = cluster.propose(1, "a")
    cluster.stabilize()
    cluster.now_us = leader.deadline_us
    leader.tick(cluster.now_us)
    cluster.lose(1)
    assert committed(cluster) == [entry.index, entry.index - 1, entry.index - 1]
    cluster.now_us = leader.deadline_us
    leader.tick(cluster.now_us)
    cluster.stabilize()
    assert committed(cluster) == [entry.index] * 3


def test_nobody_answers_one(cluster: Cluster) -> None:
    leader = cluster.raft(1)
    cluster.propose(1, "a")
    cluster.stabilize()
    leader.tick(leader.deadline_us)
    messages = leader.take_ready().messages
    assert len(messages) == 2
    for message in messages:
        follower = cluster.raft(message.to_replica)
        follower.step(message, cluster.now_us)
        assert not follower.has_ready


def ride(cluster: Cluster, hosts: set[int]) -> list[tuple[int, int]]:
    """Who is told which commit index by frames that leave for ``hosts`` anyway."""
    leading = cluster.raft(1).leading
    assert leading is not None
    return [(message.to_replica, message.commit_index) for message in leading.push.ride(hosts)]


def test_it_rides_along_to_those_for_whom_something_leaves(cluster: Cluster) -> None:
    leader = cluster.raft(1)
    assert ride(cluster, {2, 3}) == [], "they know all of it"
    entry = cluster.propose(1, "a")
    cluster.stabilize()
    assert ride(cluster, {1, 4}) == []
    assert ride(cluster, {3}) == [(3, entry.index)]
    assert ride(cluster, {3}) == [], "it was told"
    leader.tick(leader.deadline_us)
    alone = [message.to_replica for message in leader.take_ready().messages if isinstance(message, CommitAdvance)]
    assert alone == [2]


def test_when_all_were_told_that_way_nothing_is_due(cluster: Cluster) -> None:
    leader = cluster.raft(1)
    entry = cluster.propose(1, "a")
    cluster.stabilize()
    assert ride(cluster, {2, 3}) == [(2, entry.index), (3, entry.index)]
    assert leader.deadline_us > cluster.now_us + PUSH_US, "the next is the heartbeat's"


def test_nobody_is_told_of_more_than_it_holds(cluster: Cluster) -> None:
    """Decision 0017: a follower that lacks what it is told of has lost something."""
    cluster.cuts |= {(3, 1)}
    entry = cluster.propose(1, "a")
    cluster.stabilize()
    assert ride(cluster, {2, 3}) == [(2, entry.index)]
