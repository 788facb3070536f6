"""Linearizable reads without log entries (thesis 6.4; PROTOCOL, "Terms, votes, turns in flight")."""

from __future__ import annotations

import pytest

from shardraft.config import RaftConfig
from shardraft.errors import NotLeader, Overloaded
from shardraft.raft.core import Raft
from shardraft.raft.messages import AppendEntriesReply, Heartbeat, HeartbeatReply
from shardraft.raft.ready import ReadLost, ReadState, Role
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD


def beats(raft: Raft) -> list[tuple[int, int]]:
    return [(each.to_replica, each.round) for each in raft.take_ready().messages if isinstance(each, Heartbeat)]


def answer(raft: Raft, follower: int, number: int, now_us: int) -> tuple[ReadState, ...]:
    raft.step(HeartbeatReply(SHARD, raft.term, follower, raft.replica, number), now_us)
    return raft.take_ready().read_states


def test_a_read_is_answered_at_the_commit_index_of_its_arrival_once_a_quorum_acknowledged_a_round() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.read_index(77, cluster.now_us)
    cluster.propose(1, "later")
    assert beats(leader) == [(2, 1), (3, 1)]
    assert answer(leader, 2, 1, cluster.now_us) == (ReadState(77, 1),)
    assert answer(leader, 3, 1, cluster.now_us) == ()


def test_reads_of_one_turn_share_a_round() -> None:
    """DESIGN 5: ReadIndex reads batched into one round per turn."""
    cluster = Cluster()
    leader = cluster.elect(1)
    for context in range(5):
        leader.read_index(context, cluster.now_us)
    assert beats(leader) == [(2, 1), (3, 1)]
    assert answer(leader, 3, 1, cluster.now_us) == tuple(ReadState(context, 1) for context in range(5))


def test_a_read_joins_the_first_round_sent_after_it_arrived() -> None:
    """PROTOCOL: an older round proves nothing about the time since."""
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.read_index(1, cluster.now_us)
    beats(leader)
    leader.read_index(2, cluster.now_us)
    assert answer(leader, 2, 1, cluster.now_us) == (ReadState(1, 1),)
    assert answer(leader, 2, 2, cluster.now_us) == (ReadState(2, 1),)


def test_a_heartbeat_that_is_due_anyway_carries_the_reads() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.read_index(1, cluster.now_us)
    leader.tick(leader.deadline_us)
    assert beats(leader) == [(2, 1), (3, 1)]


def test_a_later_round_answers_the_reads_of_every_earlier_one() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    for context in (1, 2):
        leader.read_index(context, cluster.now_us)
        beats(leader)
    assert answer(leader, 2, 2, cluster.now_us) == (ReadState(1, 1), ReadState(2, 1))


def test_a_quorum_may_form_over_several_rounds() -> None:
    """Of five voters two must acknowledge the round or a later one."""
    cluster = Cluster((1, 2, 3, 4, 5))
    leader = cluster.elect(1)
    for context in (1, 2):
        leader.read_index(context, cluster.now_us)
        beats(leader)
    assert answer(leader, 2, 2, cluster.now_us) == ()
    assert answer(leader, 3, 1, cluster.now_us) == (ReadState(1, 1),)


def test_acknowledged_entries_do_not_answer_reads() -> None:
    """They may answer what was sent before the read arrived."""
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.read_index(1, cluster.now_us)
    beats(leader)
    for follower in (2, 3):
        leader.step(AppendEntriesReply(SHARD, 1, follower, 1, True, 1), cluster.now_us)
    assert leader.take_ready().read_states == ()


def test_a_fresh_leader_answers_no_read_before_it_committed_in_its_term() -> None:
    """Thesis 6.4: it does not know yet which entries are committed."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.propose(1, "committed by 1 only")
    for _ in range(2):
        cluster.turn()
        cluster.deliver_all()
    assert cluster.raft(1).commit_index == 2
    cluster.lose(1)
    cluster.isolate(1)
    leader = cluster.elect_without_stabilizing(2)
    assert leader.commit_index == 1
    leader.read_index(5, cluster.now_us)
    assert beats(leader) == []
    cluster.heartbeat(2)
    (state,) = cluster.nodes[2].read_states
    assert state == ReadState(5, 3)


def test_a_group_of_one_answers_at_once() -> None:
    cluster = Cluster((1,))
    cluster.campaign(1)
    cluster.stabilize()
    leader = cluster.raft(1)
    leader.read_index(5, cluster.now_us)
    assert leader.take_ready().read_states == (ReadState(5, 1),)


def test_a_group_of_one_waits_for_its_first_commit_too() -> None:
    cluster = Cluster((1,))
    cluster.campaign(1)
    cluster.nodes[1].take()
    cluster.nodes[1].persist()
    leader = cluster.raft(1)
    leader.read_index(5, cluster.now_us)
    cluster.nodes[1].take()
    assert cluster.nodes[1].read_states == []
    cluster.nodes[1].persist()
    assert leader.take_ready().read_states == (ReadState(5, 1),)


def test_a_change_of_term_voids_every_read() -> None:
    """PROTOCOL: those that wait for the term's first commit, for a round, and for its answers."""
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.read_index(1, cluster.now_us)
    beats(leader)
    leader.read_index(2, cluster.now_us)
    leader.step(HeartbeatReply(SHARD, 2, 3, 1, 0), cluster.now_us)
    assert leader.take_ready().reads_lost == (ReadLost(1), ReadLost(2))
    fresh = Cluster()
    raft = fresh.elect_without_stabilizing(1)
    raft.read_index(3, fresh.now_us)
    raft.step(HeartbeatReply(SHARD, 2, 3, 1, 0), fresh.now_us)
    assert raft.take_ready().reads_lost == (ReadLost(3),)


def test_rounds_acknowledged_in_an_earlier_term_count_for_nothing() -> None:
    cluster = Cluster()
    cluster.elect(2)
    cluster.now_us += cluster.config.election_timeout_ms * 1000
    leader = cluster.elect(1)
    leader.read_index(1, cluster.now_us)
    assert beats(leader) == [(2, 1), (3, 1)]
    leader.step(HeartbeatReply(SHARD, leader.term - 1, 2, 1, 1), cluster.now_us)
    assert not leader.has_ready


def test_an_answer_to_a_round_of_an_earlier_term_acknowledges_no_round_of_this_one() -> None:
    """The same replica leads both terms, and its old heartbeat arrives when the new term has such a round too."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.heartbeat(1)
    old = Heartbeat(SHARD, 1, 1, 3, 1, 1)
    cluster.isolate(1)
    cluster.run(1.2, paused=(2, 3))
    cluster.heal()
    leader = cluster.elect(1)
    assert leader.term == 2
    cluster.raft(3).step(old, cluster.now_us)
    (reply,) = cluster.raft(3).take_ready().messages
    assert reply == HeartbeatReply(SHARD, 2, 3, 1, 0)
    leader.read_index(5, cluster.now_us)
    assert beats(leader) == [(2, 1), (3, 1)]
    leader.step(reply, cluster.now_us)
    assert leader.take_ready().read_states == ()


def test_a_follower_refuses_reads_and_names_the_leader() -> None:
    cluster = Cluster()
    cluster.elect(1)
    with pytest.raises(NotLeader) as refusal:
        cluster.raft(2).read_index(1, cluster.now_us)
    assert refusal.value.leader == 1


def test_waiting_reads_are_bounded_and_answered_ones_make_room() -> None:
    """``read_indexes_max``: above it reads are refused as Overloaded."""
    cluster = Cluster(config=RaftConfig(read_indexes_max=2))
    leader = cluster.elect(1)
    leader.read_index(1, cluster.now_us)
    leader.read_index(2, cluster.now_us)
    with pytest.raises(Overloaded):
        leader.read_index(3, cluster.now_us)
    cluster.stabilize()
    assert cluster.nodes[1].read_states == [ReadState(1, 1), ReadState(2, 1)]
    leader.read_index(3, cluster.now_us)


def test_reads_that_wait_for_the_first_commit_are_bounded_too() -> None:
    cluster = Cluster(config=RaftConfig(read_indexes_max=1))
    leader = cluster.elect_without_stabilizing(1)
    leader.read_index(1, cluster.now_us)
    with pytest.raises(Overloaded):
        leader.read_index(2, cluster.now_us)
    cluster.heartbeat(1)
    assert (leader.role, cluster.nodes[1].read_states) == (Role.LEADER, [ReadState(1, 1)])
