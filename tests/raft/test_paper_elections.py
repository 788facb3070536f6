"""Raft's rules about terms, votes and elections, one test per sentence; each names its section."""

from __future__ import annotations

import pytest

from shardraft.config import RaftConfig
from shardraft.raft.messages import (
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.raft.ready import BecameFollower, Campaigned, HardState, Role
from shardraft.types import INTEGER_MAX, TERM_MAX
from tests.raft.cluster import Cluster, Node, group
from tests.raft.law import SHARD

MILLISECOND_US = 1000


def test_a_server_starts_as_a_follower() -> None:
    """Section 5.2: when servers start up, they begin as followers."""
    cluster = Cluster()
    assert [node.raft.role for node in cluster.nodes.values()] == [Role.FOLLOWER] * 3
    assert not cluster.raft(1).has_ready


def test_a_follower_remains_one_as_long_as_it_hears_a_leader() -> None:
    """Section 5.2: a server remains in follower state as long as it receives valid RPCs from a leader."""
    cluster = Cluster()
    cluster.elect(2)
    before = len(cluster.trace)
    cluster.run(5)
    assert cluster.leaders() == [2]
    assert not any(isinstance(what, Campaigned | BecameFollower) for _, what in cluster.trace[before:])


def test_a_leader_sends_heartbeats_to_everybody() -> None:
    """Section 5.2: leaders send periodic heartbeats to all followers in order to maintain their authority."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.now_us = leader.deadline_us
    leader.tick(cluster.now_us)
    ready = leader.take_ready()
    assert ready.messages == (
        Heartbeat(SHARD, 1, 1, 2, 1, 1),
        Heartbeat(SHARD, 1, 1, 3, 1, 1),
    )
    assert ready.write is None
    assert leader.deadline_us == cluster.now_us + leader.config.heartbeat_ms * MILLISECOND_US


def test_a_follower_that_hears_nothing_for_an_election_timeout_asks_before_it_campaigns() -> None:
    """Section 5.2 and thesis 9.6: the question raises no term, so nothing has to be durable before it."""
    cluster = Cluster()
    raft = cluster.raft(1)
    raft.tick(raft.deadline_us - 1)
    assert not raft.has_ready
    raft.tick(raft.deadline_us)
    ready = raft.take_ready()
    assert ready.messages == (RequestPreVote(SHARD, 1, 1, 2, 0, 0), RequestPreVote(SHARD, 1, 1, 3, 0, 0))
    assert (ready.write, ready.notes) == (None, (Campaigned(SHARD, 0, True),))
    assert (raft.role, raft.term) == (Role.PRE_CANDIDATE, 0)


def test_election_timeouts_are_random_between_one_and_two_times_the_configured_one() -> None:
    """Section 5.2: election timeouts are chosen randomly from a fixed interval."""
    deadlines = [Cluster(seed=seed).raft(1).deadline_us for seed in range(200)]
    low = RaftConfig().election_timeout_ms * MILLISECOND_US
    assert all(low <= deadline < 2 * low for deadline in deadlines)
    assert max(deadlines) - min(deadlines) > low * 0.9


def test_a_candidate_increments_its_term_and_votes_for_itself() -> None:
    """Section 5.2: to begin an election, a follower increments its current term and votes for itself.

    PROTOCOL: RequestVote leaves only after both are durable.
    """
    cluster = Cluster()
    raft = cluster.raft(1)
    cluster.campaign(1)
    raft.step(RequestPreVoteReply(SHARD, 1, 2, 1, True), cluster.now_us)
    ready = raft.take_ready()
    assert (raft.role, raft.term, raft.voted_for) == (Role.CANDIDATE, 1, 1)
    assert ready.write is not None
    assert ready.write.hard_state == HardState(1, 1, 0)
    assert ready.messages_after_persist == (RequestVote(SHARD, 1, 1, 2, 0, 0), RequestVote(SHARD, 1, 1, 3, 0, 0))
    assert not any(isinstance(message, RequestVote) for message in ready.messages)


def test_a_candidate_wins_with_the_votes_of_a_majority() -> None:
    """Section 5.2: a candidate wins if it receives votes from a majority of the servers in the full cluster."""
    cluster = Cluster((1, 2, 3, 4, 5))
    raft = cluster.raft(1)
    cluster.campaign(1)
    for voter in (2, 3):
        raft.step(RequestPreVoteReply(SHARD, 1, voter, 1, True), cluster.now_us)
    cluster.nodes[1].take()
    cluster.nodes[1].persist()
    raft.step(RequestVoteReply(SHARD, 1, 2, 1, True), cluster.now_us)
    assert raft.role is Role.CANDIDATE
    raft.step(RequestVoteReply(SHARD, 1, 2, 1, True), cluster.now_us)
    assert raft.role is Role.CANDIDATE, "the same vote twice is one vote"
    raft.step(RequestVoteReply(SHARD, 1, 9, 1, True), cluster.now_us)
    assert raft.role is Role.CANDIDATE, "a replica outside the configuration has no vote"
    raft.step(RequestVoteReply(SHARD, 1, 3, 1, True), cluster.now_us)
    assert (raft.role, raft.leader, raft.leader_host) == (Role.LEADER, 1, 1)


def test_a_candidate_that_a_majority_refuses_gives_up_at_once() -> None:
    """Section 5.2: it lost as soon as a majority cannot be reached any more."""
    cluster = Cluster()
    raft = cluster.raft(1)
    cluster.campaign(1)
    raft.step(RequestPreVoteReply(SHARD, 1, 2, 1, True), cluster.now_us)
    cluster.nodes[1].take()
    cluster.nodes[1].persist()
    raft.step(RequestVoteReply(SHARD, 1, 2, 1, False), cluster.now_us)
    assert raft.role is Role.CANDIDATE
    raft.step(RequestVoteReply(SHARD, 1, 3, 1, False), cluster.now_us)
    assert (raft.role, raft.term, raft.voted_for) == (Role.FOLLOWER, 1, 1)


def test_each_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served() -> None:
    """Section 5.2: each server will vote for at most one candidate in a given term."""
    cluster = Cluster()
    voter = cluster.raft(1)
    for candidate, granted in ((2, True), (3, False), (2, True)):
        voter.step(RequestVote(SHARD, 1, candidate, 1, 0, 0), 0)
        ready = voter.take_ready()
        replies = (*ready.messages_after_persist, *ready.messages)
        if ready.write is not None:
            voter.persisted(ready.write)
        assert replies == (RequestVoteReply(SHARD, 1, 1, candidate, granted),)


def test_a_vote_survives_a_restart() -> None:
    """Figure 2: votedFor is updated on stable storage before responding to RPCs."""
    cluster = Cluster()
    node = cluster.nodes[1]
    node.raft.step(RequestVote(SHARD, 1, 2, 1, 0, 0), 0)
    node.take()
    node.persist()
    node.restart()
    assert (node.raft.term, node.raft.voted_for) == (1, 2)
    node.raft.step(RequestVote(SHARD, 1, 3, 1, 0, 0), 0)
    assert node.take().messages == (RequestVoteReply(SHARD, 1, 1, 3, False),)


def test_a_vote_leaves_only_once_it_is_durable() -> None:
    """PROTOCOL: terms and votes are durable before the reply leaves."""
    cluster = Cluster()
    raft = cluster.raft(1)
    raft.step(RequestVote(SHARD, 1, 2, 1, 0, 0), 0)
    ready = raft.take_ready()
    assert ready.messages == ()
    assert ready.write is not None
    assert ready.write.hard_state == HardState(1, 2, 0)
    assert ready.messages_after_persist == (RequestVoteReply(SHARD, 1, 1, 2, True),)


@pytest.mark.parametrize(
    ("own", "last_index", "last_term", "granted"),
    [
        pytest.param((1, 2), 1, 3, True, id="a later last term wins over a longer log"),
        pytest.param((1, 3), 9, 2, False, id="an earlier last term loses over a shorter log"),
        pytest.param((1, 2), 2, 2, True, id="equal logs"),
        pytest.param((1, 2), 3, 2, True, id="same last term, longer"),
        pytest.param((1, 2), 1, 2, False, id="same last term, shorter"),
    ],
)
def test_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date(
    own: tuple[int, ...], last_index: int, last_term: int, granted: bool
) -> None:
    """Section 5.4.1: compare the last terms, then the lengths; the same holds for the question before."""
    cluster = Cluster()
    cluster.prepare(1, own, current_term=4)
    voter = cluster.raft(1)
    voter.step(RequestPreVote(SHARD, 5, 2, 1, last_index, last_term), 0)
    (answer,) = voter.take_ready().messages
    assert answer == RequestPreVoteReply(SHARD, 5 if granted else 4, 1, 2, granted)
    voter.step(RequestVote(SHARD, 5, 2, 1, last_index, last_term), 0)
    (reply,) = voter.take_ready().messages_after_persist
    assert reply == RequestVoteReply(SHARD, 5, 1, 2, granted)


def test_a_candidate_that_hears_the_leader_of_its_term_follows_it() -> None:
    """Section 5.2: if the leader's term is at least as large, the candidate returns to follower state."""
    cluster = Cluster()
    raft = cluster.raft(1)
    cluster.campaign(1)
    raft.step(RequestPreVoteReply(SHARD, 1, 2, 1, True), cluster.now_us)
    assert raft.role is Role.CANDIDATE
    raft.step(AppendEntries(SHARD, 1, 3, 1, 0, 0, 0), cluster.now_us)
    assert (raft.role, raft.term, raft.leader) == (Role.FOLLOWER, 1, 3)


def test_a_split_vote_ends_in_another_election_after_a_random_timeout() -> None:
    """Section 5.2: when votes are split, each candidate times out and starts a new election."""
    cluster = Cluster((1, 2))
    for replica in (1, 2):
        cluster.campaign(replica)
    cluster.stabilize()
    assert cluster.leaders() == []
    cluster.run(5)
    assert len(cluster.leaders()) == 1


def test_a_later_term_in_any_message_is_adopted() -> None:
    """Section 5.1: if one server's current term is smaller than the other's, it updates to the larger value."""
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.step(HeartbeatReply(SHARD, 5, 2, 1, 1), cluster.now_us)
    assert (leader.role, leader.term, leader.leader, leader.voted_for) == (Role.FOLLOWER, 5, 0, 0)
    ready = leader.take_ready()
    assert ready.write is not None
    assert ready.write.hard_state is not None
    assert ready.write.hard_state.current_term == 5


def test_a_question_and_its_grant_change_nobodys_term() -> None:
    """Thesis 9.6: a server increments its term only after it learns that it would win."""
    cluster = Cluster()
    raft = cluster.raft(1)
    raft.step(RequestPreVote(SHARD, 9, 2, 1, 0, 0), 0)
    raft.step(RequestPreVoteReply(SHARD, 9, 2, 1, True), 0)
    assert (raft.role, raft.term) == (Role.FOLLOWER, 0)
    assert raft.take_ready().write is None


def test_a_refused_question_teaches_the_asker_a_later_term() -> None:
    """Thesis 9.6: else a server whose term fell behind could never win."""
    cluster = Cluster()
    cluster.prepare(2, (), current_term=7)
    cluster.isolate(3)
    cluster.campaign(1)
    cluster.stabilize()
    assert cluster.raft(1).term == 7
    cluster.campaign(1)
    cluster.stabilize()
    assert (cluster.leaders(), cluster.raft(1).term) == ([1], 8)


def test_grants_of_an_earlier_question_say_nothing_about_this_one() -> None:
    """Thesis 9.6: the grant names the term that was asked about."""
    cluster = Cluster()
    raft = cluster.raft(1)
    raft.step(RequestVoteReply(SHARD, 3, 2, 1, False), 0)
    cluster.campaign(1)
    assert (raft.role, raft.term) == (Role.PRE_CANDIDATE, 3)
    raft.step(RequestPreVoteReply(SHARD, 3, 2, 1, True), cluster.now_us)
    assert raft.role is Role.PRE_CANDIDATE
    raft.step(RequestPreVoteReply(SHARD, 4, 2, 1, True), cluster.now_us)
    assert (raft.role, raft.term) == (Role.CANDIDATE, 4)


def test_voters_that_hear_a_live_leader_refuse_to_elect_another() -> None:
    """Thesis 4.2.3: within the minimum election timeout of hearing a leader, it neither votes nor updates its term."""
    cluster = Cluster()
    cluster.elect(1)
    voter = cluster.raft(2)
    voter.step(RequestVote(SHARD, 9, 3, 2, 99, 8), cluster.now_us)
    assert (voter.term, voter.leader) == (1, 1)
    assert not voter.has_ready
    voter.step(RequestPreVote(SHARD, 2, 3, 2, 99, 1), cluster.now_us)
    assert voter.take_ready().messages == (RequestPreVoteReply(SHARD, 1, 2, 3, False),)
    cluster.now_us += cluster.config.election_timeout_ms * MILLISECOND_US
    voter.step(RequestVote(SHARD, 9, 3, 2, 99, 8), cluster.now_us)
    assert (voter.term, voter.voted_for) == (9, 3)


def test_a_leader_in_office_refuses_to_elect_another() -> None:
    """Thesis 6.2, 9.6: check-quorum ends its office when nobody hears it, not a candidate that it hears."""
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.step(RequestPreVote(SHARD, 2, 3, 1, 99, 1), cluster.now_us)
    leader.step(RequestVote(SHARD, 2, 3, 1, 99, 1), cluster.now_us)
    assert (leader.role, leader.term) == (Role.LEADER, 1)
    assert leader.take_ready().messages == (RequestPreVoteReply(SHARD, 1, 1, 3, False),)


def test_an_isolated_replica_that_returns_does_not_disturb_the_group() -> None:
    """Thesis 9.6: its term did not rise while nobody could hear it."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(3)
    cluster.run(10)
    assert cluster.raft(3).term == 1
    cluster.heal()
    before = len(cluster.trace)
    cluster.run(3)
    assert (cluster.leaders(), cluster.raft(1).term) == ([1], 1)
    assert not any(isinstance(what, Campaigned) for _, what in cluster.trace[before:])


def test_a_leader_that_hears_no_quorum_for_an_election_timeout_steps_down() -> None:
    """Thesis 6.2: so that clients of a partitioned leader are not delayed indefinitely."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(1)
    cluster.run(0.9, paused=(2, 3))
    assert cluster.leaders() == [1]
    cluster.run(0.2, paused=(2, 3))
    assert cluster.leaders() == []
    assert cluster.raft(1).term == 1


def test_a_leader_that_hears_one_of_two_followers_stays_in_office() -> None:
    """Thesis 6.2: a majority includes the leader itself."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(3)
    cluster.run(5, paused=(3,))
    assert cluster.leaders() == [1]


def test_partial_connectivity_does_not_depose_leaders_for_ever() -> None:
    """DESIGN 5: pre-vote and check-quorum together; here 1 and 3 cannot talk, 2 hears both."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.cuts |= {(1, 3), (3, 1)}
    cluster.run(10)
    assert (cluster.leaders(), cluster.raft(2).term) == ([1], 1)


def test_a_group_of_one_elects_itself_at_once() -> None:
    """Section 5.2: it is a majority of itself, and there is nobody to wait for."""
    cluster = Cluster((1,))
    raft = cluster.raft(1)
    assert raft.deadline_us == 0
    raft.tick(0)
    cluster.turn()
    assert raft.role is Role.LEADER


def test_nobody_leads_in_a_term_it_has_not_persisted() -> None:
    """PROTOCOL: the votes of all others do not help a candidate whose own term is not durable."""
    cluster = Cluster((1, 2, 3, 4, 5))
    raft = cluster.raft(1)
    cluster.campaign(1)
    for voter in (2, 3):
        raft.step(RequestPreVoteReply(SHARD, 1, voter, 1, True), cluster.now_us)
    cluster.nodes[1].take()
    for voter in (2, 3, 4, 5):
        raft.step(RequestVoteReply(SHARD, 1, voter, 1, True), cluster.now_us)
    assert cluster.leaders() == []
    cluster.nodes[1].persist()
    assert cluster.leaders() == [1]


def test_an_older_write_does_not_make_a_candidate_leader() -> None:
    """PROTOCOL: the write that must be finished is the one with this term and vote."""
    cluster = Cluster((1,))
    node = cluster.nodes[1]
    node.raft.step(RequestVoteReply(SHARD, 3, 2, 1, False), 0)
    node.take()
    node.raft.tick(node.raft.deadline_us)
    node.take()
    assert (node.raft.role, node.raft.term, len(node.pending)) == (Role.CANDIDATE, 4, 2)
    node.persist()
    assert cluster.leaders() == []
    node.persist()
    assert cluster.leaders() == [1]


def test_a_replica_outside_the_configuration_never_campaigns_but_answers() -> None:
    """Thesis 4.1: the receiver's own configuration is never a reason to refuse AppendEntries or a vote request."""
    raft = Node(Cluster((2, 3)), 9, group(2, 3)).raft
    assert raft.deadline_us == INTEGER_MAX
    raft.step(TimeoutNow(SHARD, 1, 2, 9), 0)
    assert raft.role is Role.FOLLOWER
    raft.step(RequestVote(SHARD, 2, 77, 9, 0, 0, True), 0)
    assert (raft.term, raft.voted_for) == (2, 77)
    raft.step(AppendEntries(SHARD, 3, 78, 9, 0, 0, 0), 0)
    assert (raft.term, raft.leader, raft.leader_host) == (3, 78, 0)


def test_timeout_now_makes_a_follower_campaign_at_once_and_nobody_refuses_it() -> None:
    """Thesis 3.10: the target starts a new election; other servers vote although they hear a leader."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.deliver(TimeoutNow(SHARD, 1, 1, 2))
    assert cluster.raft(2).role is Role.CANDIDATE
    cluster.stabilize()
    assert (cluster.leaders(), cluster.raft(2).term) == ([2], 2)


def test_no_term_above_the_limit_is_ever_campaigned_for() -> None:
    """PROTOCOL, types: no honest cluster reaches ``TERM_MAX``; reaching it crashes nobody."""
    cluster = Cluster()
    cluster.prepare(1, (), current_term=TERM_MAX)
    raft = cluster.raft(1)
    for _ in range(3):
        raft.tick(raft.deadline_us)
    assert (raft.role, raft.term) == (Role.FOLLOWER, TERM_MAX)
