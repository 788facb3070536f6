"""Where replicas are: Raft's view, and those that it has not heard of yet (PROTOCOL; thesis 4.1)."""

from __future__ import annotations

import pytest

from shardraft.host.events import PeerFrameReceived
from shardraft.host.roster import STRANGERS_MAX, Roster
from shardraft.raft.membership import MembershipChange
from shardraft.raft.messages import AppendEntries, AppendEntriesReply, RequestVote, RequestVoteReply
from shardraft.raft.ready import Refused
from shardraft.types import NO_HOST
from tests.host.cluster import Cluster, Process
from tests.host.test_host import SHARD, follower_of, put

pytestmark = pytest.mark.replaces_code


class FakeGroup:
    """As much of Raft as a roster asks for; ``asked`` counts how often."""

    def __init__(self, members: dict[int, int]) -> None:
        self.members = members
        self.asked = 0

    def host_of(self, replica: int) -> int:
        self.asked += 1
        return self.members.get(replica, NO_HOST)


@pytest.fixture
def group() -> FakeGroup:
    return FakeGroup({1: 10, 2: 20})


@pytest.fixture
def roster(group: FakeGroup) -> Roster:
    return Roster(group)  # type: ignore[arg-type]  # It asks for ``host_of`` alone.


def test_members_are_where_raft_says_and_raft_is_asked_once(roster: Roster, group: FakeGroup) -> None:
    assert [roster[1], roster[2], roster[1], roster[2]] == [10, 20, 10, 20]
    assert group.asked == 2


def test_what_nobody_knows_is_nowhere(roster: Roster) -> None:
    assert roster[3] == NO_HOST
    assert len(roster) == 0, "nor is it remembered, so that lookups cost no memory"


def test_nobody_speaks_for_a_member_on_another_host(roster: Roster) -> None:
    assert roster.meet(1, 10)
    assert not roster.meet(1, 20)
    assert roster[1] == 10


def test_a_stranger_is_answered_where_it_spoke_from_last(roster: Roster) -> None:
    assert roster.meet(3, 30)
    assert roster[3] == 30
    assert roster.meet(3, 40)
    assert roster[3] == 40


def test_once_a_stranger_is_a_member_raft_alone_says_where_it_is(roster: Roster, group: FakeGroup) -> None:
    roster.meet(3, 30)
    group.members[3] = 33
    roster.reconfigured()
    assert roster[3] == 33
    assert not roster.meet(3, 30)


def test_strangers_are_still_known_after_a_configuration_without_them(roster: Roster) -> None:
    roster.meet(3, 30)
    roster.reconfigured()
    assert roster[3] == 30


def test_of_too_many_strangers_the_one_met_first_is_forgotten(roster: Roster) -> None:
    for replica in range(100, 100 + STRANGERS_MAX):
        roster.meet(replica, 5)
    roster.meet(1_000, 5)
    roster.meet(1_001, 5)
    assert [roster[replica] for replica in (100, 101, 102)] == [NO_HOST, NO_HOST, 5]
    assert len(roster) == STRANGERS_MAX


# In a host.


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(hosts=4, shards=1)
    cluster.run(3)
    return cluster


def sent_to(cluster: Cluster, process: Process, host: int) -> list[object]:
    """What ``process`` says to ``host`` in its next turn and once that is durable."""
    turn = process.host.begin_turn(cluster.now_us)
    messages = list(turn.messages)
    if turn.log_batch is not None:
        process.store.commit_log([turn.log_batch])
        messages += process.host.finish_turn(turn.number, cluster.now_us).messages
    return [message for target, of_host in messages if target == host for message in of_host]


def hear(cluster: Cluster, process: Process, host: int, message: object) -> None:
    process.host.step(PeerFrameReceived(cluster.now_us, host, (message,)))  # type: ignore[arg-type]


def test_a_follower_appends_what_a_leader_sends_that_it_has_never_heard_of(cluster: Cluster) -> None:
    """ "A server accepts AppendEntries requests from a leader that is not part of the server's latest
    configuration" (thesis 4.1)."""
    follower = follower_of(cluster)
    voter = follower.host.voters[SHARD]
    raft = voter.raft
    append = AppendEntries(
        SHARD, raft.term + 1, 99, raft.replica, raft.log.last_index, raft.log.last_term, raft.commit_index, ()
    )
    hear(cluster, follower, 9, append)
    [reply] = sent_to(cluster, follower, 9)
    assert isinstance(reply, AppendEntriesReply)
    assert (reply.to_replica, reply.success) == (99, True)


def test_a_voter_considers_a_candidate_that_it_has_never_heard_of(cluster: Cluster) -> None:
    """ "A server grants its vote to a candidate that is not part of its current latest configuration"."""
    follower = follower_of(cluster)
    raft = follower.host.voters[SHARD].raft
    request = RequestVote(
        SHARD, raft.term + 1, 99, raft.replica, raft.log.last_index, raft.log.last_term, transfer=True
    )
    hear(cluster, follower, 9, request)
    replies = sent_to(cluster, follower, 9)
    assert [reply.vote_granted for reply in replies if isinstance(reply, RequestVoteReply)] == [True]


def test_nobody_speaks_for_the_leader_from_another_host(cluster: Cluster) -> None:
    leader, follower = cluster.leader_of(SHARD).host.voters[SHARD].raft, follower_of(cluster)
    raft = follower.host.voters[SHARD].raft
    follower.host.begin_turn(cluster.now_us)
    append = AppendEntries(
        SHARD, raft.term + 1, leader.replica, raft.replica, raft.log.last_index, raft.log.last_term, 0, ()
    )
    hear(cluster, follower, 9, append)
    turn = follower.host.begin_turn(cluster.now_us)
    assert raft.term == leader.term
    assert [type(note) for note in turn.notes] == [Refused]


def test_a_removed_replica_is_addressed_no_more(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    voter = leader.host.voters[SHARD]
    removed = next(m for m in voter.raft.membership.members if m.replica != voter.raft.replica)
    voter.raft.propose_membership(MembershipChange(remove=(removed.replica,)), cluster.now_us)
    leader.host.touch(voter)
    cluster.run(2)
    assert voter.raft.membership_settled
    assert removed.replica not in voter.raft.membership.voters
    put(cluster, leader, 7, b"k")
    assert sent_to(cluster, leader, removed.host) == []
