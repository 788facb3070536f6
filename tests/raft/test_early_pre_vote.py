"""A closed connection to the leader is a hint: ask early, disturb nobody (PROTOCOL, "Terms, votes")."""

from __future__ import annotations

import pytest

from shardraft.raft.messages import RequestPreVote, RequestPreVoteReply, RequestVote
from shardraft.raft.ready import Role
from tests.raft.cluster import ONE_SECOND_US, Cluster
from tests.raft.law import SHARD

MILLISECOND_US = 1000


def test_a_closed_connection_to_the_leader_lets_a_follower_ask_early() -> None:
    """PROTOCOL: after a random wait of 0 to ``pre_vote_hint_ms_max``."""
    cluster = Cluster()
    cluster.elect(1)
    raft = cluster.raft(2)
    timer_us = raft.deadline_us
    cluster.disconnect(2, 1)
    assert cluster.now_us <= raft.deadline_us <= cluster.now_us + 30 * MILLISECOND_US < timer_us
    raft.tick(raft.deadline_us)
    (first, _) = raft.take_ready().messages
    assert first == RequestPreVote(SHARD, 2, 2, 1, 1, 1, hint=True)


def test_only_the_leaders_connection_matters_to_a_follower() -> None:
    """PROTOCOL: another follower's death is no reason to ask."""
    cluster = Cluster()
    cluster.elect(1)
    timer_us = cluster.raft(2).deadline_us
    cluster.disconnect(2, 3)
    assert cluster.raft(2).deadline_us == timer_us


def test_a_connection_that_comes_back_in_time_makes_the_question_needless() -> None:
    cluster = Cluster()
    cluster.elect(1)
    timer_us = cluster.raft(2).deadline_us
    cluster.disconnect(2, 1)
    cluster.raft(2).peer_connected(1, cluster.now_us)
    assert cluster.raft(2).deadline_us == timer_us


def test_a_voter_whose_connection_to_the_leader_is_open_refuses_the_early_question() -> None:
    """PROTOCOL: one that still hears the leader refuses."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.disconnect(2, 1)
    cluster.raft(2).tick(cluster.raft(2).deadline_us)
    cluster.stabilize()
    assert (cluster.raft(2).role, cluster.raft(2).term) == (Role.FOLLOWER, 1)
    cluster.heartbeat(1)
    assert cluster.raft(2).leader == 1


def test_a_dead_leader_is_replaced_within_the_hint_when_all_connections_to_it_close() -> None:
    """DESIGN 5: its followers start a pre-vote at once instead of waiting out the timer."""
    for seed in range(20):
        cluster = Cluster(seed=seed)
        cluster.elect(1)
        cluster.isolate(1)
        for replica in (2, 3):
            cluster.disconnect(replica, 1)
        cluster.run(0.05, paused=(1,))
        assert [replica for replica in cluster.leaders() if replica != 1] != [], seed


@pytest.mark.parametrize("first", [2, 3])
@pytest.mark.parametrize("has_more", [False, True], ids=["equal logs", "the first has more"])
def test_who_asks_before_the_other_has_noticed_waits_for_no_timer(first: int, has_more: bool) -> None:
    """Connections close one after the other: the first question is refused, and the second one cannot win."""
    cluster = Cluster()
    cluster.elect(1)
    other = 5 - first
    if has_more:
        cluster.isolate(other)
        cluster.propose(1, "only on the first")
        cluster.stabilize()
        cluster.heal()
    cluster.isolate(1)
    cluster.disconnect(first, 1)
    cluster.now_us = cluster.raft(first).deadline_us
    cluster.raft(first).tick(cluster.now_us)
    cluster.stabilize()
    assert cluster.raft(first).role is Role.PRE_CANDIDATE, "the other still hears the leader, as far as it knows"
    cluster.disconnect(other, 1)
    cluster.run(0.05, paused=(1,))
    assert [replica for replica in cluster.leaders() if replica != 1] != []


def test_whoever_grants_an_early_question_lets_the_other_go_first() -> None:
    """Two that ask at the same time would split the vote and wait out a whole timer."""
    cluster = Cluster()
    cluster.elect(1)
    for replica in (2, 3):
        cluster.disconnect(replica, 1)
    voter = cluster.raft(3)
    early_us = voter.deadline_us
    voter.step(RequestPreVote(SHARD, 2, 2, 3, 1, 1, hint=True), cluster.now_us)
    assert voter.take_ready().messages == (RequestPreVoteReply(SHARD, 2, 3, 2, True),)
    assert voter.deadline_us > early_us + 100 * MILLISECOND_US


def test_of_two_that_ask_early_together_the_lower_number_goes_first() -> None:
    """Both would win the question, and then split the vote."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(1)
    for replica in (3, 2):
        cluster.disconnect(replica, 1)
    cluster.now_us += 30 * MILLISECOND_US
    for replica in (3, 2):
        cluster.raft(replica).tick(cluster.now_us)
    assert [cluster.raft(replica).role for replica in (2, 3)] == [Role.PRE_CANDIDATE] * 2
    cluster.stabilize()
    assert (cluster.raft(2).role, cluster.raft(3).role) == (Role.LEADER, Role.FOLLOWER)


def test_of_two_that_ask_early_together_the_better_log_goes_first() -> None:
    """Section 5.4.1: the other could not win anyway."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(2)
    cluster.propose(1, "only on 3")
    cluster.stabilize()
    cluster.heal()
    cluster.isolate(1)
    for replica in (2, 3):
        cluster.disconnect(replica, 1)
    cluster.now_us += 30 * MILLISECOND_US
    for replica in (2, 3):
        cluster.raft(replica).tick(cluster.now_us)
    cluster.stabilize()
    assert (cluster.raft(2).role, cluster.raft(3).role) == (Role.FOLLOWER, Role.LEADER)


def test_a_pre_candidate_that_gives_its_vote_stops_asking() -> None:
    """Section 5.2: it gives the candidate an election timeout to win."""
    cluster = Cluster()
    cluster.prepare(1, (), current_term=3)
    cluster.campaign(1)
    raft = cluster.raft(1)
    assert raft.role is Role.PRE_CANDIDATE
    raft.step(RequestVote(SHARD, 3, 2, 1, 0, 0), cluster.now_us)
    assert (raft.role, raft.voted_for) == (Role.FOLLOWER, 2)
    assert raft.deadline_us >= cluster.now_us + ONE_SECOND_US // 2


def test_a_pre_vote_that_is_won_while_the_disk_hangs_leads_to_no_campaign() -> None:
    """PROTOCOL: with a disk that hangs nobody campaigns; it may have begun to hang after the question."""
    for hangs, role in ((True, Role.FOLLOWER), (False, Role.CANDIDATE)):
        cluster = Cluster()
        raft = cluster.raft(1)
        cluster.campaign(1)
        assert raft.role is Role.PRE_CANDIDATE
        raft.host_disk_is_stalled = hangs
        raft.step(RequestPreVoteReply(SHARD, 1, 2, 1, True), cluster.now_us)
        assert (raft.role, raft.term) == (role, 0 if hangs else 1)
