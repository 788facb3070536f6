"""Lease reads, off by default, one test per sentence of PROTOCOL, "Terms, votes, turns in flight"."""

from __future__ import annotations

from fractions import Fraction

import pytest

from shardraft.config import RaftConfig
from shardraft.raft.core import Raft
from shardraft.raft.lease import Lease
from shardraft.raft.messages import (
    Heartbeat,
    HeartbeatReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.raft.ready import ReadState, Role
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD

LEASE_US = 400_000
HELD_US = LEASE_US * 999_000 // 1_001_000
"""What is left of it when both clocks may be off by 1,000 ppm."""


def leased(voters: tuple[int, ...] = (1, 2, 3), *, seed: int = 1) -> Cluster:
    """1 leads a group with leases of 400 ms on, and has not sent a round."""
    cluster = Cluster(voters, config=RaftConfig(lease_ms=LEASE_US // 1000, commit_push_ms=0), seed=seed)
    cluster.now_us = 3 * LEASE_US
    cluster.elect(1)
    return cluster


def read(raft: Raft, now_us: int) -> tuple[ReadState, ...]:
    """What answers a read that arrives at ``now_us``, before any message is exchanged."""
    raft.read_index(7, now_us)
    return raft.take_ready().read_states


def send_round(cluster: Cluster) -> int:
    """1 sends a round, which nobody gets yet; its number."""
    cluster.now_us = cluster.raft(1).deadline_us
    cluster.raft(1).tick(cluster.now_us)
    messages = cluster.raft(1).take_ready().messages
    return next(message.round for message in messages if isinstance(message, Heartbeat))


def acknowledge(cluster: Cluster, replica: int, number: int) -> None:
    """``replica`` acknowledges a round of 1 at this moment."""
    node = cluster.nodes[replica]
    node.raft.step(Heartbeat(SHARD, 1, 1, replica, 1, number), node.now_us)
    (reply,) = node.raft.take_ready().messages
    cluster.raft(1).step(reply, cluster.now_us)


# The leader


def test_leases_are_off_by_default() -> None:
    """Then every read waits for a round."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.heartbeat(1)
    assert read(leader, cluster.now_us) == ()
    assert RaftConfig().lease_ms == 0


def test_a_round_that_a_quorum_acknowledged_answers_reads_at_once() -> None:
    cluster = leased()
    leader = cluster.raft(1)
    assert read(leader, cluster.now_us) == (), "no round was acknowledged yet"
    acknowledge(cluster, 2, send_round(cluster))
    leader.take_ready()
    leader.read_index(8, cluster.now_us)
    ready = leader.take_ready()
    assert ready.read_states == (ReadState(8, leader.commit_index),)
    assert ready.messages == ()


def test_less_than_a_quorum_gives_no_lease() -> None:
    cluster = leased((1, 2, 3, 4, 5))
    number = send_round(cluster)
    acknowledge(cluster, 2, number)
    assert read(cluster.raft(1), cluster.now_us) == ()
    acknowledge(cluster, 3, number)
    cluster.raft(1).take_ready()
    assert read(cluster.raft(1), cluster.now_us) != ()


def test_a_lease_runs_from_the_rounds_sending() -> None:
    """Its answer may take any time, and the voter's promise began somewhere in between."""
    cluster = leased()
    number = send_round(cluster)
    sent_us = cluster.now_us
    cluster.now_us += 300_000
    acknowledge(cluster, 2, number)
    leader = cluster.raft(1)
    leader.take_ready()
    assert read(leader, sent_us + HELD_US - 1) != ()
    assert read(leader, sent_us + HELD_US) == ()


def test_a_late_answer_does_not_shorten_a_lease_and_an_older_round_does_not_prolong_it() -> None:
    cluster = leased()
    first = send_round(cluster)
    second = send_round(cluster)
    sent_us = cluster.now_us
    for number in (second, first):
        acknowledge(cluster, 2, number)
    acknowledge(cluster, 3, first)
    leader = cluster.raft(1)
    leader.take_ready()
    assert read(leader, sent_us + HELD_US - 1) != ()
    assert read(leader, sent_us + HELD_US) == ()


@pytest.mark.parametrize("rho_ppm", [0, 1_000, 50_000])
def test_a_lease_is_shortened_by_rho_for_either_clock(rho_ppm: int) -> None:
    """The holder's clock may be the slowest there is, the voter's the fastest: in true time it still ends first."""
    config = RaftConfig(lease_ms=400, rho_ppm=rho_ppm, commit_push_ms=0)
    lease = Lease(config)
    lease.round_sent(1, 5_000)
    lease.acknowledged(1)
    held_us = max(us for us in range(1, LEASE_US + 1) if lease.holds(5_000 + us - 1))
    slow, fast = 1 - Fraction(rho_ppm, 1_000_000), 1 + Fraction(rho_ppm, 1_000_000)
    held_in_truth, promised_in_truth = held_us / slow, LEASE_US / fast
    assert promised_in_truth - 2 < held_in_truth <= promised_in_truth


def test_there_is_no_lease_before_the_leader_committed_in_its_own_term() -> None:
    """Its commit index may be out of date (thesis 6.4)."""
    cluster = Cluster(config=RaftConfig(lease_ms=400, commit_push_ms=0))
    cluster.now_us = 3 * LEASE_US
    leader = cluster.elect_without_stabilizing(1)
    acknowledge_without_log(cluster, 2, send_round(cluster))
    assert (leader.commit_index, read(leader, cluster.now_us)) == (0, ())
    cluster.heartbeat(1)
    assert cluster.nodes[1].read_states == [ReadState(7, 1)]


def acknowledge_without_log(cluster: Cluster, replica: int, number: int) -> None:
    cluster.raft(1).step(HeartbeatReply(SHARD, 1, replica, 1, number), cluster.now_us)


def test_a_lease_ends_before_timeout_now_leaves() -> None:
    cluster = leased()
    acknowledge(cluster, 2, send_round(cluster))
    leader = cluster.raft(1)
    leader.take_ready()
    leader.transfer(2, cluster.now_us)
    assert read(leader, cluster.now_us) == ()


def test_a_transfer_that_waits_for_its_target_leaves_the_lease_alone() -> None:
    cluster = leased()
    cluster.isolate(3)
    cluster.propose(1, "x")
    cluster.stabilize()
    acknowledge(cluster, 2, send_round(cluster))
    leader = cluster.raft(1)
    leader.take_ready()
    leader.transfer(3, cluster.now_us)
    assert read(leader, cluster.now_us) != ()


def test_after_timeout_now_left_there_is_no_lease_in_that_term_any_more() -> None:
    """The message may arrive at any time, also after the transfer was given up."""
    cluster = leased()
    leader = cluster.raft(1)
    leader.transfer(2, cluster.now_us)
    cluster.nodes[1].take()
    late = [message for message in cluster.messages if isinstance(message, TimeoutNow)]
    cluster.messages.clear()
    for _ in range(30):
        acknowledge(cluster, 3, send_round(cluster))
    assert (leader.transferee, leader.role) == (0, Role.LEADER)
    assert read(leader, cluster.now_us) == ()
    cluster.deliver(late[0])
    cluster.stabilize()
    assert cluster.leaders() == [2]


def test_a_change_of_the_configuration_voids_the_lease() -> None:
    """What one quorum promised may not overlap the quorum after the next."""
    cluster = leased()
    acknowledge(cluster, 2, send_round(cluster))
    leader = cluster.raft(1)
    leader.take_ready()
    number = send_round(cluster)
    cluster.change(1, remove=(3,))
    assert read(leader, cluster.now_us) == ()
    acknowledge(cluster, 2, number)
    assert read(leader, cluster.now_us) == (), "that round was sent under the former configuration"
    cluster.stabilize()
    cluster.heartbeat(1)
    assert read(leader, cluster.now_us) != ()


def test_a_leader_that_steps_down_has_no_lease() -> None:
    cluster = leased()
    acknowledge(cluster, 2, send_round(cluster))
    leader = cluster.raft(1)
    leader.step(HeartbeatReply(SHARD, 2, 3, 1, 0), cluster.now_us)
    assert leader.role is Role.FOLLOWER
    assert leader.leading is None


# The voters


def grants(raft: Raft, now_us: int, *, hint: bool = False) -> bool:
    """Whether a candidate with a perfect log would get, and gets, the vote."""
    term = raft.term + 1
    raft.step(RequestPreVote(SHARD, term, 3, raft.replica, 99, raft.term, hint), now_us)
    answered = raft.take_ready().messages
    would = [answer.vote_granted for answer in answered if isinstance(answer, RequestPreVoteReply)]
    raft.step(RequestVote(SHARD, term, 3, raft.replica, 99, term - 1), now_us)
    ready = raft.take_ready()
    votes = [
        m.vote_granted for m in (*ready.messages, *ready.messages_after_persist) if isinstance(m, RequestVoteReply)
    ]
    assert would == [bool(votes)]
    return bool(votes) and votes[0]


@pytest.mark.parametrize("hint", [False, True])
def test_no_voter_grants_within_lease_ms_of_the_last_round_it_acknowledged_hint_or_not(hint: bool) -> None:
    cluster = leased()
    acknowledge(cluster, 2, send_round(cluster))
    voter, acknowledged_us = cluster.raft(2), cluster.now_us
    voter.peer_disconnected(1, cluster.now_us)
    assert not grants(voter, acknowledged_us + LEASE_US - 1, hint=hint)
    assert voter.term == 1
    assert grants(voter, acknowledged_us + LEASE_US, hint=hint)


def test_without_leases_a_closed_connection_frees_the_vote_at_once() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.raft(2).peer_disconnected(1, cluster.now_us)
    assert grants(cluster.raft(2), cluster.now_us, hint=True)


def test_a_promise_outlives_a_change_of_role_and_of_term() -> None:
    """A later term, learned otherwise, takes nothing back."""
    cluster = leased()
    acknowledge(cluster, 2, send_round(cluster))
    node, voter = cluster.nodes[2], cluster.raft(2)
    voter.step(HeartbeatReply(SHARD, 5, 3, 2, 0), cluster.now_us)
    assert (voter.term, voter.leader) == (5, 0)
    node.take()
    node.persist()
    voter.step(RequestVote(SHARD, 5, 3, 2, 99, 4), cluster.now_us)
    (reply,) = node.take().messages
    assert reply == RequestVoteReply(SHARD, 5, 2, 3, False)
    assert voter.voted_for == 0


def test_no_voter_grants_within_lease_ms_of_its_own_start() -> None:
    """It does not know what it acknowledged before."""
    cluster = leased()
    cluster.now_us += 10_000_000
    node = cluster.nodes[2]
    node.restart()
    assert not grants(node.raft, cluster.now_us + LEASE_US - 1)
    assert grants(node.raft, cluster.now_us + LEASE_US)


def test_a_vote_given_before_the_restart_is_given_again() -> None:
    """It may have left already."""
    cluster = leased()
    node = cluster.nodes[2]
    cluster.now_us += 10_000_000
    node.raft.step(RequestVote(SHARD, 2, 3, 2, 99, 1), cluster.now_us)
    node.take()
    node.persist()
    node.restart()
    node.raft.step(RequestVote(SHARD, 2, 3, 2, 99, 1), cluster.now_us)
    ready = node.take()
    (reply,) = (*ready.messages, *ready.messages_after_persist)
    assert reply == RequestVoteReply(SHARD, 2, 2, 3, True)


def test_a_voters_own_vote_is_no_exception() -> None:
    """With a hint it would campaign at once, and its own vote and one other would elect it."""
    cluster = leased()
    acknowledge(cluster, 2, send_round(cluster))
    voter, acknowledged_us = cluster.raft(2), cluster.now_us
    voter.peer_disconnected(1, cluster.now_us)
    while voter.deadline_us < acknowledged_us + LEASE_US:
        voter.tick(voter.deadline_us)
        assert voter.leader == 1
    voter.tick(voter.deadline_us)
    assert voter.role is Role.PRE_CANDIDATE
    (question, _) = voter.take_ready().messages
    assert isinstance(question, RequestPreVote)
    assert question.hint


def test_a_group_of_one_waits_out_its_promise_too() -> None:
    """It may be the last of a larger group, whose removed leader still believes."""
    cluster = Cluster((1,), config=RaftConfig(lease_ms=400, commit_push_ms=0))
    raft = cluster.raft(1)
    raft.tick(raft.deadline_us)
    assert (raft.role, raft.deadline_us) == (Role.FOLLOWER, LEASE_US)
    cluster.elect(1)
    assert read(raft, LEASE_US) == (ReadState(7, 1),)


def test_a_transfer_is_no_breach_of_a_promise() -> None:
    """The leader ended its lease before it handed over."""
    cluster = leased()
    number = send_round(cluster)
    for replica in (2, 3):
        acknowledge(cluster, replica, number)
    voter = cluster.nodes[2]
    voter.raft.step(RequestVote(SHARD, 2, 3, 2, 99, 1, transfer=True), cluster.now_us)
    (reply,) = voter.take().messages_after_persist
    assert reply == RequestVoteReply(SHARD, 2, 2, 3, True)
    cluster.raft(1).transfer(3, cluster.now_us)
    cluster.stabilize()
    assert cluster.leaders() == [3]


def test_a_dead_leader_is_replaced_although_leases_are_on() -> None:
    for seed in range(10):
        cluster = leased(seed=seed)
        cluster.run(1)
        cluster.isolate(1)
        cluster.run(3)
        assert cluster.leaders() in ([2], [3])


def test_no_read_is_stale_under_leases_while_leaders_come_and_go() -> None:
    """A read answered from a lease sees everything committed anywhere before it arrived; the clocks drift apart."""
    answered = 0
    for seed in range(20):
        cluster = leased(seed=seed)
        for replica, drift_ppm in ((1, -1_000), (2, 1_000), (3, 1_000)):
            cluster.nodes[replica].drift_ppm = drift_ppm
        for round_number in range(60):
            if round_number % 20 == 10:
                cluster.isolate(cluster.leaders()[0] if cluster.leaders() else 1)
            if round_number % 20 == 0:
                cluster.heal()
            cluster.run(0.05)
            for leader in cluster.leaders():
                node = cluster.nodes[leader]
                cluster.propose(leader, "x")
                cluster.stabilize()
                floor = cluster.law.commit_index
                if node.raft.role is Role.LEADER:
                    node.raft.read_index(round_number, node.now_us)
                    at_once = [state for state in node.take().read_states if state.context == round_number]
                    answered += len(at_once)
                    assert all(state.index >= floor for state in at_once)
    assert answered > 300


def test_a_lease_must_fit_between_a_heartbeat_and_the_shortest_election_timeout() -> None:
    """Shorter it would never hold, longer it would keep groups without a leader."""
    for lease_ms in (50, 501):
        with pytest.raises(ValueError, match="lease_ms"):
            RaftConfig(lease_ms=lease_ms)
    assert RaftConfig(lease_ms=500).lease_ms == 500
    with pytest.raises(ValueError, match="rho_ppm"):
        RaftConfig(rho_ppm=1_000_000)
