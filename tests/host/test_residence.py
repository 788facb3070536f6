"""Replicas come and go while hosts live: made when a leader names one, removed when they have left (decision 0011)."""

from __future__ import annotations

import attrs
import pytest

from shardraft.config import HostConfig, Limits
from shardraft.errors import NotLeader
from shardraft.host.events import PeerFrameReceived
from shardraft.host.messages import CopyChunk, OrderedChunk, RemovalNotice
from shardraft.host.turn import ReplicaJoined, ReplicaLeft
from shardraft.kv.requests import Consistency, ReadReply, WriteReply
from shardraft.raft.membership import MembershipChange
from shardraft.raft.messages import AppendEntries, RequestPreVote, RequestVote
from shardraft.raft.ready import Refused
from shardraft.types import Member, Membership
from tests.host.cluster import Cluster, Process
from tests.host.test_host import SHARD, put, read, refusal

SMALL = HostConfig(limits=Limits(log_bytes_max=4_000, write_buffer_bytes_max=2_000, flush_age_ms_max=100))
NEW_HOST, NEW_REPLICA = 4, 7


@pytest.fixture
def cluster() -> Cluster:
    """Four hosts, and one shard of three voters on hosts 1 to 3."""
    cluster = Cluster(hosts=4, shards=1, config=SMALL)
    cluster.run(3)
    assert holders(cluster) == [1, 2, 3]
    return cluster


def holders(cluster: Cluster) -> list[int]:
    return [host for host, process in sorted(cluster.processes.items()) if SHARD in process.host.voters]


def change(cluster: Cluster, *, add: dict[int, int] | None = None, remove: tuple[int, ...] = ()) -> None:
    """Begin a change of members, ``add`` by replica number, and let it come to its end."""
    leader = cluster.leader_of(SHARD)
    voter = leader.host.voters[SHARD]
    members = tuple(Member(replica, host) for replica, host in (add or {}).items())
    voter.raft.propose_membership(MembershipChange(members, remove), cluster.now_us)
    leader.host.touch(voter)
    cluster.run(4)


def membership(cluster: Cluster) -> Membership:
    raft = cluster.leader_of(SHARD).host.voters[SHARD].raft
    assert raft.membership_settled
    return raft.membership


def replica_on(cluster: Cluster, host: int) -> int:
    return cluster.processes[host].host.voters[SHARD].raft.replica


def write_much(cluster: Cluster, first: int = 100) -> None:
    """Enough that logs are compacted and state is flushed."""
    for request_id in range(first, first + 40):
        put(cluster, cluster.leader_of(SHARD), request_id, b"k%d" % request_id, b"v" * 500)
        cluster.settle()
    cluster.run(1)


def follower(cluster: Cluster) -> int:
    leader = cluster.leader_of(SHARD).host.host
    return next(host for host in holders(cluster) if host != leader)


def hear(cluster: Cluster, process: Process, host: int, message: object) -> None:
    process.host.step(PeerFrameReceived(cluster.now_us, host, (message,)))  # type: ignore[arg-type]
    cluster.settle()


def append_to(cluster: Cluster, replica: int) -> AppendEntries:
    raft = cluster.leader_of(SHARD).host.voters[SHARD].raft
    return AppendEntries(SHARD, raft.term, raft.replica, replica, raft.log.last_index, raft.log.last_term, 0, ())


# Replicas come.


def test_a_host_makes_the_replica_that_a_leader_names(cluster: Cluster) -> None:
    put(cluster, cluster.leader_of(SHARD), 1, b"k", b"v")
    change(cluster, add={NEW_REPLICA: NEW_HOST})
    new = cluster.processes[NEW_HOST]
    assert membership(cluster).voters == (1, 2, 3, NEW_REPLICA)
    assert new.notes.count(ReplicaJoined(SHARD, NEW_REPLICA)) == 1
    voter = new.host.voters[SHARD]
    assert voter.raft.is_voter
    assert voter.machine.last_applied == cluster.leader_of(SHARD).host.voters[SHARD].machine.last_applied
    read(new, cluster, 9, b"k", Consistency.STALE)
    cluster.settle()
    assert isinstance(cluster.reply_to(new, 9), ReadReply)


def test_a_new_replica_gets_a_copy_when_the_log_no_longer_reaches_back(cluster: Cluster) -> None:
    write_much(cluster)
    assert cluster.leader_of(SHARD).host.voters[SHARD].log.first_index > 1
    change(cluster, add={NEW_REPLICA: NEW_HOST})
    leader, new = cluster.leader_of(SHARD).host.voters[SHARD], cluster.processes[NEW_HOST].host.voters[SHARD]
    assert new.raft.is_voter
    assert new.machine.applied_hash == leader.machine.applied_hash
    assert new.machine.membership == leader.machine.membership


def test_it_is_the_same_replica_after_a_start(cluster: Cluster) -> None:
    change(cluster, add={NEW_REPLICA: NEW_HOST})
    new = cluster.processes[NEW_HOST]
    new.start(cluster.now_us)
    cluster.run(2)
    assert replica_on(cluster, NEW_HOST) == NEW_REPLICA
    assert new.host.voters[SHARD].raft.membership == membership(cluster)


def test_a_replica_that_was_made_and_heard_nothing_more_has_no_vote_and_disturbs_nobody(cluster: Cluster) -> None:
    new = cluster.processes[NEW_HOST]
    hear(cluster, new, cluster.leader_of(SHARD).host.host, append_to(cluster, NEW_REPLICA))
    new.start(cluster.now_us)
    term = cluster.leader_of(SHARD).host.voters[SHARD].raft.term
    cluster.run(5)
    assert not new.host.voters[SHARD].raft.is_voter
    assert cluster.leader_of(SHARD).host.voters[SHARD].raft.term == term


@pytest.mark.parametrize("is_ordered", [True, False])
def test_a_copy_makes_a_replica_when_the_leader_sends_it_and_not_when_another_does(
    cluster: Cluster, is_ordered: bool
) -> None:
    new = cluster.processes[NEW_HOST]
    chunk = CopyChunk(SHARD, 9, 1, NEW_REPLICA, 1, 5, 9, 0, 2, 0, b"")
    hear(cluster, new, 1, OrderedChunk(**attrs.asdict(chunk), order=7) if is_ordered else chunk)
    assert holders(cluster) == ([1, 2, 3] if is_ordered else [1, 2, 3, NEW_HOST])


@pytest.mark.parametrize("shard", [SHARD, 99])
def test_nothing_is_made_for_what_no_leader_says_and_no_map_knows(cluster: Cluster, shard: int) -> None:
    new = cluster.processes[NEW_HOST]
    message = RequestVote(SHARD, 9, 1, NEW_REPLICA, 9, 9) if shard == SHARD else AppendEntries(99, 9, 1, 7, 0, 0, 0, ())
    hear(cluster, new, 1, message)
    assert holders(cluster) == [1, 2, 3]
    assert [type(note) for note in new.notes] == ([] if shard == SHARD else [Refused])


def test_a_replica_that_was_made_in_vain_makes_room_for_a_later_one(cluster: Cluster) -> None:
    """It has no vote, so it asks for nothing and is told nothing: its leader's later number says that it is gone."""
    new = cluster.processes[NEW_HOST]
    hear(cluster, new, cluster.leader_of(SHARD).host.host, append_to(cluster, NEW_REPLICA - 1))
    change(cluster, add={NEW_REPLICA: NEW_HOST})
    assert replica_on(cluster, NEW_HOST) == NEW_REPLICA
    assert membership(cluster).voters == (1, 2, 3, NEW_REPLICA)


# Replicas go.


def test_a_removed_replica_is_gone_and_its_number_never_comes_back(cluster: Cluster) -> None:
    host = follower(cluster)
    process, replica = cluster.processes[host], replica_on(cluster, host)
    change(cluster, remove=(replica,))
    assert host not in holders(cluster)
    assert process.notes.count(ReplicaLeft(SHARD, replica)) == 1
    assert (process.store.states, process.store.logs) == ({}, {})
    hear(cluster, process, cluster.leader_of(SHARD).host.host, append_to(cluster, replica))
    assert host not in holders(cluster)
    process.start(cluster.now_us)
    hear(cluster, process, cluster.leader_of(SHARD).host.host, append_to(cluster, replica))
    assert host not in holders(cluster)


def test_a_removed_leader_goes_when_another_leads(cluster: Cluster) -> None:
    host = cluster.leader_of(SHARD).host.host
    put(cluster, cluster.processes[host], 1, b"k", b"v")
    change(cluster, remove=(replica_on(cluster, host),))
    assert host not in holders(cluster)
    leader = cluster.leader_of(SHARD)
    put(cluster, cluster.processes[host], 9, b"k")
    cluster.settle()
    error = refusal(cluster, cluster.processes[host], 9)
    assert isinstance(error, NotLeader)
    assert error.leader in holders(cluster), "one of those it left the shard to"
    put(cluster, leader, 2, b"l", b"w")
    cluster.settle()
    assert isinstance(cluster.reply_to(leader, 2), WriteReply)


def test_who_asks_where_a_replica_was_is_told_who_led(cluster: Cluster) -> None:
    host, leader = follower(cluster), cluster.leader_of(SHARD).host.host
    change(cluster, remove=(replica_on(cluster, host),))
    put(cluster, cluster.processes[host], 5, b"k")
    cluster.settle()
    error = refusal(cluster, cluster.processes[host], 5)
    assert isinstance(error, NotLeader)
    assert (error.leader, error.applied) == (leader, "no")


def test_a_host_may_hold_a_shard_again_under_a_new_number(cluster: Cluster) -> None:
    host = follower(cluster)
    write_much(cluster)
    change(cluster, remove=(replica_on(cluster, host),))
    change(cluster, add={9: host})
    assert replica_on(cluster, host) == 9
    assert cluster.processes[host].host.voters[SHARD].raft.is_voter
    assert cluster.processes[host].store.tombstones == {}


def test_a_host_that_was_away_when_it_was_removed_and_added_again_begins_anew(cluster: Cluster) -> None:
    """The old replica asks for votes, hears that it has left, and makes room for the new one."""
    host = follower(cluster)
    away = cluster.processes.pop(host)
    old = away.host.voters[SHARD].raft.replica
    change(cluster, remove=(old,))
    write_much(cluster)
    cluster.processes[host] = away
    change(cluster, add={9: host})
    assert replica_on(cluster, host) == 9
    assert membership(cluster).host_of(9) == host
    assert away.notes.count(ReplicaLeft(SHARD, old)) == 1


def test_a_removed_replica_that_missed_it_is_told_even_when_no_log_tells_it_any_more(cluster: Cluster) -> None:
    """A replica known removed is told so (PROTOCOL)."""
    host = follower(cluster)
    away = cluster.processes.pop(host)
    change(cluster, remove=(away.host.voters[SHARD].raft.replica,))
    write_much(cluster)
    leader = cluster.leader_of(SHARD).host.voters[SHARD]
    assert not leader.raft.configurations.knows(away.host.voters[SHARD].raft.replica)
    term = leader.raft.term
    cluster.processes[host] = away
    cluster.run(5)
    assert host not in holders(cluster)
    assert cluster.leader_of(SHARD).host.voters[SHARD].raft.term == term, "it disturbed nobody"


def test_of_a_replica_that_left_nobody_is_told_but_those_who_ask_for_votes(cluster: Cluster) -> None:
    host = follower(cluster)
    away = cluster.processes.pop(host)
    replica = away.host.voters[SHARD].raft.replica
    change(cluster, remove=(replica,))
    write_much(cluster)
    other = cluster.processes[follower(cluster)]
    raft = other.host.voters[SHARD].raft
    other.host.begin_turn(cluster.now_us)
    for message, answers in (
        (AppendEntries(SHARD, raft.term, replica, raft.replica, 0, 0, 0, ()), []),
        (RequestPreVote(SHARD, raft.term + 1, replica, raft.replica, 0, 0), [RemovalNotice]),
    ):
        other.host.step(PeerFrameReceived(cluster.now_us, host, (message,)))  # type: ignore[arg-type]
        turn = other.host.begin_turn(cluster.now_us)
        assert [type(said) for target, of_host in turn.messages if target == host for said in of_host] == answers


@pytest.mark.parametrize("leads", [True, False], ids=["leader", "follower"])
def test_whoever_left_and_asks_for_votes_is_told_also_while_the_log_names_it(cluster: Cluster, leads: bool) -> None:
    host = follower(cluster)
    away = cluster.processes.pop(host)
    replica = away.host.voters[SHARD].raft.replica
    change(cluster, remove=(replica,))
    cluster.run(1)
    asked = cluster.leader_of(SHARD) if leads else cluster.processes[follower(cluster)]
    raft = asked.host.voters[SHARD].raft
    assert raft.configurations.knows(replica)
    asked.host.begin_turn(cluster.now_us)
    question = RequestPreVote(SHARD, raft.term + 1, replica, raft.replica, 0, 0)
    asked.host.step(PeerFrameReceived(cluster.now_us, host, (question,)))
    turn = asked.host.begin_turn(cluster.now_us)
    assert RemovalNotice in [type(said) for target, of_host in turn.messages if target == host for said in of_host]


def test_a_replica_goes_only_when_nothing_of_it_can_reach_the_disk_any_more(cluster: Cluster) -> None:
    host = follower(cluster)
    process = cluster.processes[host]
    replica = replica_on(cluster, host)
    process.is_syncing = False
    leader = cluster.leader_of(SHARD)
    voter = leader.host.voters[SHARD]
    for request_id in range(1, 12):
        put(cluster, leader, request_id, b"k%d" % request_id, b"v" * 100)
        cluster.settle()
    voter.raft.propose_membership(MembershipChange(remove=(replica,)), cluster.now_us)
    leader.host.touch(voter)
    cluster.run(1)
    process.is_syncing = True
    cluster.run(4)
    assert host not in holders(cluster)
    assert (process.store.states, process.store.logs) == ({}, {})
    assert process.host.flushing.buffer_bytes == 0
    assert process.host.flushing.idle
