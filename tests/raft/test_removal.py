"""Replicas that leave: leaders and others, those that know it and those that do not (thesis 4.2.2, 4.2.3)."""

from __future__ import annotations

import pytest

from shardraft.errors import Overloaded
from shardraft.raft.messages import Heartbeat, RequestPreVote
from shardraft.raft.ready import Role
from shardraft.types import INTEGER_MAX
from tests.raft.cluster import Cluster, group
from tests.raft.law import SHARD


def receivers(cluster: Cluster, leader: int) -> list[int]:
    """To whom the next round goes."""
    raft = cluster.raft(leader)
    raft.tick(raft.deadline_us)
    return [message.to_replica for message in cluster.nodes[leader].take().messages if isinstance(message, Heartbeat)]


def test_a_removed_leader_takes_no_proposals_and_does_not_count_itself() -> None:
    """Thesis 4.2.2; what it takes after the entry that removes it would be of unknown outcome."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(3)
    cluster.change(1, remove=(1,))
    with pytest.raises(Overloaded, match="handed over"):
        cluster.propose(1, "x")
    cluster.stabilize()
    assert (cluster.raft(1).role, cluster.raft(1).commit_index) == (Role.LEADER, 1), "2 alone is no majority of (2 3)"
    cluster.heal()
    cluster.heartbeat(1)
    assert cluster.leaders() != [1]
    assert (cluster.raft(1).has_left, cluster.raft(1).deadline_us) == (True, INTEGER_MAX)


def test_the_group_goes_on_at_once_when_its_leader_is_removed() -> None:
    """No election timeout passes: the best voter is told to campaign."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.change(1, remove=(1,))
    cluster.stabilize()
    (leader,) = cluster.leaders()
    assert leader in (2, 3)
    cluster.propose(leader, "x")


def test_a_leader_that_removes_itself_and_adds_another_hands_over() -> None:
    cluster = Cluster((1,))
    cluster.elect(1)
    cluster.change(1, add=(2,), remove=(1,))
    cluster.settle()
    assert (cluster.leaders(), cluster.raft(2).membership) == ([2], group(2))


def test_a_removed_replica_gets_the_log_until_it_knows_that_it_left() -> None:
    """Thesis 4.2.3 fears those that do not: they time out and campaign."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.change(1, remove=(3,))
    cluster.stabilize()
    cluster.heartbeat(1)
    assert cluster.raft(3).has_left
    assert receivers(cluster, 1) == [2]


def test_a_removed_replica_gets_the_log_until_the_entry_is_committed() -> None:
    """Before that it has not left for good."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(2)
    cluster.change(1, remove=(3,))
    cluster.stabilize()
    cluster.heartbeat(1)
    cluster.heartbeat(1)
    assert (cluster.raft(3).log.last_index, cluster.raft(3).has_left) == (2, False)
    assert receivers(cluster, 1) == [2, 3]


def test_a_removed_replica_that_is_silent_is_left_alone_after_an_election_timeout() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(3)
    cluster.change(1, remove=(3,))
    cluster.run(0.9)
    assert receivers(cluster, 1) == [2, 3]
    cluster.run(0.3)
    assert receivers(cluster, 1) == [2]


def test_a_removed_replica_is_sent_no_snapshot() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(3)
    for text in "abc":
        cluster.propose(1, text)
    cluster.change(1, remove=(3,))
    cluster.stabilize()
    for replica in (1, 2):
        cluster.raft(replica).compact(4)
        cluster.nodes[replica].disk.compact_to(4)
    cluster.heal()
    cluster.heartbeat(1)
    cluster.stabilize()
    assert cluster.raft(3).commit_index == 1
    assert receivers(cluster, 1) == [2]


def test_a_removed_replica_that_asks_for_votes_later_is_told_too() -> None:
    """PROTOCOL: a replica known removed is told so; here the log still knows it, otherwise its host's tombstones do."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(3)
    cluster.change(1, remove=(3,))
    cluster.run(3)
    assert receivers(cluster, 1) == [2]
    cluster.heal()
    cluster.run(3)
    assert cluster.raft(3).has_left
    assert receivers(cluster, 1) == [2]
    assert (cluster.leaders(), cluster.raft(1).term) == ([1], 1)


def test_a_replica_that_the_group_never_knew_is_answered_and_not_sent_the_log() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.raft(1).step(RequestPreVote(SHARD, 5, 9, 1, 0, 0), cluster.now_us)
    answer = cluster.raft(1).take_ready().messages
    assert [(type(message).__name__, message.to_replica) for message in answer] == [("RequestPreVoteReply", 9)]
    assert receivers(cluster, 1) == [2, 3]


def test_the_hosts_of_former_members_are_known_while_the_log_tells() -> None:
    """A follower must reach a leader that just left."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(3)
    cluster.change(1, remove=(1,))
    cluster.stabilize()
    assert (cluster.raft(2).membership, cluster.raft(2).leader, cluster.raft(2).leader_host) == (group(2, 3), 1, 1)
    assert cluster.raft(2).host_of(8) == 0


def test_a_replica_outside_the_configuration_is_answered() -> None:
    """PROTOCOL: the receiver's own configuration is never a reason to refuse AppendEntries or a vote request."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.change(1, add=(4,))
    cluster.isolate(3)
    cluster.settle()
    assert cluster.raft(3).membership == group(1, 2, 3), "it does not know 4"
    cluster.heal()
    cluster.isolate(1)
    cluster.run(2, paused=(1, 2, 3))
    assert cluster.leaders() == [1, 4], "3 voted for 4, whom it did not know, and follows it"
    cluster.run(0.5, paused=(1,))
    assert cluster.raft(3).membership == group(1, 2, 3, 4)
