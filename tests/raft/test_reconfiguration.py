"""Changes of membership as the leader drives them, one test per rule (section 6; thesis 4; PROTOCOL)."""

from __future__ import annotations

import pytest

from shardraft.config import RaftConfig
from shardraft.errors import Conflict, NotLeader, Overloaded
from shardraft.raft.entry import EntryKind
from shardraft.raft.membership import MembershipChange
from shardraft.raft.messages import HeartbeatReply
from shardraft.raft.ready import ReadState
from tests.raft.cluster import Cluster, group
from tests.raft.law import SHARD

# Who may change what, and when


def test_only_the_leader_changes_the_membership() -> None:
    cluster = Cluster()
    cluster.elect(1)
    with pytest.raises(NotLeader) as refusal:
        cluster.change(2, remove=(3,))
    assert refusal.value.leader == 1


def test_nothing_is_changed_before_the_leader_committed_in_its_own_term() -> None:
    """The correction of 2015 to thesis 4.1: else two changes of different leaders may both seem committed."""
    cluster = Cluster()
    leader = cluster.elect_without_stabilizing(1)
    with pytest.raises(Conflict, match="own term") as refusal:
        leader.propose_membership(MembershipChange(remove=(3,)), cluster.now_us)
    assert (refusal.value.shard, refusal.value.applied, leader.log.last_index) == (SHARD, "no", 1)
    cluster.heartbeat(1)
    cluster.change(1, remove=(3,))


def test_one_change_is_under_way_at_a_time() -> None:
    """Section 6: the next one begins when the last one is committed and left."""
    cluster = Cluster((1, 2, 3, 4))
    cluster.elect(1)
    cluster.change(1, remove=(2, 3))
    seen = []
    while not cluster.raft(1).membership_settled:
        with pytest.raises(Conflict):
            cluster.change(1, remove=(4,))
        seen.append(cluster.raft(1).membership)
        cluster.turn()
        cluster.deliver_all()
    assert {membership.is_joint for membership in seen} == {True, False}
    cluster.change(1, remove=(4,))


def test_a_change_that_is_refused_appends_nothing() -> None:
    cluster = Cluster((1,))
    cluster.elect(1)
    before = cluster.raft(1).log.last_index
    with pytest.raises(ValueError, match="no voter would remain"):
        cluster.change(1, remove=(1,))
    assert (cluster.raft(1).log.last_index, cluster.raft(1).membership) == (before, group(1))


def test_a_change_is_taken_although_proposals_are_at_their_limit() -> None:
    """A group that cannot commit may be short of voters that live."""
    cluster = Cluster(config=RaftConfig(uncommitted_bytes_max=100))
    cluster.elect(1)
    cluster.nodes[1].disk_paused = True
    cluster.propose(1, "x" * 90)
    with pytest.raises(Overloaded):
        cluster.propose(1, "x" * 90)
    cluster.change(1, add=(4,))


# Reads


@pytest.mark.parametrize("round_is_sent", [False, True])
def test_reads_that_wait_are_answered_by_the_majority_of_the_new_configuration(round_is_sent: bool) -> None:
    """The group shrinks to one voter while others were to acknowledge a round, who are members no more."""
    cluster = Cluster((1, 2))
    leader = cluster.elect(1)
    leader.read_index(6, cluster.now_us)
    if round_is_sent:
        assert cluster.nodes[1].take().read_states == ()
    cluster.change(1, remove=(2,))
    assert cluster.nodes[1].take().read_states == (ReadState(6, 1),)


def test_in_a_joint_configuration_a_round_needs_both_majorities() -> None:
    """Section 6: agreement needs a majority of each half; 1 alone is one of the incoming half."""
    cluster = Cluster((1, 2, 3, 4, 5))
    leader = cluster.elect(1)
    cluster.change(1, remove=(2, 3, 4, 5))
    leader.read_index(5, cluster.now_us)
    assert leader.membership.is_joint
    answered = [cluster.nodes[1].take().read_states]
    for replica in (2, 3):
        leader.step(HeartbeatReply(SHARD, 1, replica, 1, 1), cluster.now_us)
        answered.append(cluster.nodes[1].take().read_states)
    assert answered == [(), (), (ReadState(5, 1),)]


def test_acknowledgements_of_a_replica_that_left_count_for_nothing() -> None:
    cluster = Cluster((1, 2, 3, 4, 5))
    leader = cluster.elect(1)
    cluster.change(1, remove=(4, 5))
    cluster.stabilize()
    leader.read_index(5, cluster.now_us)
    cluster.nodes[1].take()
    cluster.messages.clear()
    for replica in (4, 5):
        leader.step(HeartbeatReply(SHARD, 1, replica, 1, 1), cluster.now_us)
    assert leader.take_ready().read_states == ()
    leader.step(HeartbeatReply(SHARD, 1, 2, 1, 1), cluster.now_us)
    assert leader.take_ready().read_states == (ReadState(5, leader.commit_index),)


# Whoever dies


@pytest.mark.parametrize("turns", range(0, 28, 2))
@pytest.mark.parametrize("victim", [1, 2])
def test_a_change_is_finished_by_whoever_leads_next(turns: int, victim: int) -> None:
    """However far it got: a leader, or a voter that is leaving, dies and comes back after the others went on."""
    cluster = Cluster(seed=turns)
    cluster.elect(1)
    cluster.change(1, add=(4, 5), remove=(1, 2))
    for _ in range(turns):
        cluster.turn()
        cluster.deliver_all()
    cluster.isolate(victim)
    cluster.nodes[victim].restart()
    cluster.run(3)
    cluster.heal()
    cluster.run(5)
    (leader,) = cluster.leaders()
    membership = cluster.raft(leader).membership
    assert cluster.raft(leader).membership_settled
    began = any(entry.kind == EntryKind.MEMBERSHIP for entry in cluster.law.committed.values())
    assert membership == (group(3, 4, 5) if began else group(1, 2, 3))
    if began:
        assert all(cluster.raft(replica).has_left for replica in (1, 2))
