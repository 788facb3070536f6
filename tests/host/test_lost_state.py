"""A replica whose disk lost what it acknowledged stops, says so, and disturbs nobody."""

from __future__ import annotations

import pytest

from shardraft.errors import NotLeader, Unavailable
from shardraft.host.events import PeerFrameReceived
from shardraft.host.messages import Round, RoundReply
from shardraft.kv.requests import Consistency
from shardraft.raft.contact import Place
from shardraft.raft.messages import CommitAdvance, Heartbeat
from shardraft.raft.ready import StateLost
from shardraft.types import INTEGER_MAX
from tests.host.cluster import Cluster, Process
from tests.host.test_host import SHARD, follower_of, put, read, refusal


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.run(3)
    return cluster


def write(cluster: Cluster, first: int, count: int) -> None:
    for request_id in range(first, first + count):
        put(cluster, cluster.leader_of(SHARD), request_id, b"k%d" % request_id)
        cluster.settle()


def losses(process: Process) -> list[StateLost]:
    return [note for note in process.notes if isinstance(note, StateLost)]


def test_a_follower_on_a_disk_of_an_earlier_time_stops_and_the_others_go_on(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    astray = follower_of(cluster)
    write(cluster, 1, 3)
    earlier = astray.store.logs[SHARD].copy()
    write(cluster, 10, 3)
    last_index = astray.host.voters[SHARD].log.last_index
    astray.store.logs[SHARD] = earlier
    astray.start(cluster.now_us)
    cluster.run(3)
    [lost] = losses(astray)
    assert (lost.shard, lost.index, lost.last_index) == (SHARD, last_index, earlier.last_index)
    stopped = astray.host.voters[SHARD]
    assert stopped.stopped
    write(cluster, 50, 3)
    cluster.run(5)
    assert stopped.log.last_index == earlier.last_index
    assert leader.host.voters[SHARD].raft.leading is not None, "it disturbs nobody"
    assert [process for process in cluster.processes.values() if losses(process)] == [astray]
    read(astray, cluster, 70, b"k1", Consistency.STALE)
    cluster.settle()
    assert isinstance(refusal(cluster, astray, 70), Unavailable)


def accuse(cluster: Cluster, process: Process, sender: int, term: int) -> None:
    """Host ``sender``, which leads ``term``, knows of an entry that ``process`` does not have."""
    raft = process.host.voters[SHARD].raft
    from_replica = raft.membership.replica_on(sender)
    lost = Heartbeat(SHARD, term, from_replica, raft.replica, raft.log.last_index + 1, INTEGER_MAX)
    process.host.step(PeerFrameReceived(cluster.now_us, sender, (lost,)))


def test_a_replica_that_stops_applies_nothing_more(cluster: Cluster) -> None:
    sender, astray = cluster.leader_of(SHARD).host.host, follower_of(cluster)
    write(cluster, 1, 1)
    voter = astray.host.voters[SHARD]
    raft, last_applied = voter.raft, voter.machine.last_applied
    assert raft.commit_index == last_applied < raft.log.last_index, "it is not told yet that the write is committed"
    told = CommitAdvance(SHARD, raft.term, raft.leader, raft.replica, raft.log.last_index)
    astray.host.step(PeerFrameReceived(cluster.now_us, sender, (told,)))
    accuse(cluster, astray, sender, raft.term)
    cluster.settle()
    assert losses(astray)
    assert voter.machine.last_applied == last_applied


def test_a_leader_that_stops_leaves_no_read_without_an_answer(cluster: Cluster) -> None:
    leader, successor = cluster.leader_of(SHARD), follower_of(cluster)
    read(leader, cluster, 1, b"k", Consistency.LINEARIZABLE)
    leader.host.begin_turn(cluster.now_us)
    accuse(cluster, leader, successor.host.host, leader.host.voters[SHARD].raft.term + 1)
    cluster.settle()
    assert losses(leader)
    assert isinstance(refusal(cluster, leader, 1), NotLeader)


def test_a_replica_that_stopped_is_not_taken_for_one_that_rests(cluster: Cluster) -> None:
    sender, astray = cluster.leader_of(SHARD).host.host, follower_of(cluster)
    raft, peer = astray.host.voters[SHARD].raft, astray.host.rounds._peer(sender)
    assert raft.resting_on is peer.contact
    accuse(cluster, astray, sender, raft.term)
    notes = astray.host.begin_turn(cluster.now_us).notes
    assert any(isinstance(note, StateLost) for note in notes)
    assert peer.contact.left == {SHARD}
    place, number = Place(SHARD, raft.term, raft.leader, raft.replica), peer.heard + 1
    astray.host.step(PeerFrameReceived(cluster.now_us, sender, (Round(number, 1, 0, (place,)),)))
    answers = dict(astray.host.begin_turn(cluster.now_us).messages)[sender]
    assert RoundReply(number, 1, (SHARD,)) in answers
