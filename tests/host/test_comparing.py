"""Replicas compare their rolling hashes at equal indexes; one that differs stops and says so (PROTOCOL)."""

from __future__ import annotations

import pytest

from shardraft.config import HostConfig, Limits
from shardraft.errors import NotLeader, Unavailable
from shardraft.host.comparing import Comparing
from shardraft.host.events import PeerFrameReceived
from shardraft.host.messages import HashCheck
from shardraft.host.turn import ReplicaStopped
from shardraft.kv.machine import HASH_CHECKS_MAX
from shardraft.kv.requests import Consistency, StatusReply, StatusRequest
from shardraft.raft.ready import Refused
from shardraft.types import TERM_MAX
from tests.host.cluster import Cluster, Process
from tests.host.test_host import SHARD, follower_of, put, read, refusal

EVERY = 4


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(config=HostConfig(limits=Limits(hash_check_entries=EVERY)))
    cluster.run(3)
    return cluster


def write(cluster: Cluster, first: int, count: int) -> None:
    for request_id in range(first, first + count):
        put(cluster, cluster.leader_of(SHARD), request_id, b"k%d" % request_id)
        cluster.settle()


def stops(process: Process) -> list[ReplicaStopped]:
    return [note for note in process.notes if isinstance(note, ReplicaStopped)]


def test_equal_replicas_compare_and_go_on(cluster: Cluster) -> None:
    write(cluster, 1, 3 * EVERY)
    hashes = [process.host.voters[SHARD].machine.hash_checks for process in cluster.processes.values()]
    assert len(hashes[0]) >= 2
    assert hashes[0] == hashes[1] == hashes[2]
    assert not any(stops(process) for process in cluster.processes.values())


def test_a_follower_that_applied_something_else_stops_and_the_others_go_on(cluster: Cluster) -> None:
    leader, astray = cluster.leader_of(SHARD), follower_of(cluster)
    write(cluster, 1, EVERY)
    astray.host.voters[SHARD].machine.applied_hash ^= 1
    write(cluster, 10, 2 * EVERY)
    [stop] = stops(astray)
    assert (stop.shard, stop.index % EVERY, stop.host) == (SHARD, 0, leader.host.host)
    stopped = astray.host.voters[SHARD]
    last_index, last_applied = stopped.log.last_index, stopped.machine.last_applied
    write(cluster, 50, EVERY)
    cluster.run(5)
    assert (stopped.log.last_index, stopped.machine.last_applied) == (last_index, last_applied)
    assert leader.host.voters[SHARD].machine.last_applied > last_applied
    assert leader.host.voters[SHARD].raft.leading is not None, "a stopped replica disturbs nobody"
    assert [process for process in cluster.processes.values() if stops(process)] == [astray]


def test_a_stopped_replica_answers_nobody_and_says_what_it_is(cluster: Cluster) -> None:
    astray = follower_of(cluster)
    astray.host.voters[SHARD].machine.applied_hash ^= 1
    write(cluster, 1, 2 * EVERY)
    assert stops(astray)
    read(astray, cluster, 70, b"k1", Consistency.STALE)
    cluster.settle()
    assert isinstance(refusal(cluster, astray, 70), Unavailable)
    put(cluster, astray, 71, b"k")
    cluster.settle()
    assert isinstance(refusal(cluster, astray, 71), NotLeader)
    cluster.ask(astray, StatusRequest(72))
    cluster.settle()
    reply = cluster.reply_to(astray, 72)
    assert isinstance(reply, StatusReply)
    assert [status.role for status in reply.shards if status.shard == SHARD] == ["stopped"]
    assert all(status.role != "stopped" for status in reply.shards if status.shard != SHARD)


def test_a_stopped_replica_feeds_no_learner(cluster: Cluster) -> None:
    astray = follower_of(cluster)
    learner = cluster.add_learner(101, parent=astray.host.host)
    write(cluster, 1, 2)
    cluster.run(1)
    followed = learner.host.replicas[SHARD]
    assert followed.machine.last_applied == astray.host.voters[SHARD].machine.last_applied
    astray.host.voters[SHARD].machine.applied_hash ^= 1
    write(cluster, 10, 2 * EVERY)
    assert stops(astray)
    last_applied = followed.machine.last_applied
    write(cluster, 30, EVERY)
    cluster.run(2)
    assert followed.machine.last_applied == last_applied
    assert astray.host.tree.feed.children() == (), "it was told so, and left to ask elsewhere"


def test_a_stopped_replica_ends_the_copies_that_it_sends() -> None:
    limits = Limits(hash_check_entries=EVERY, log_bytes_max=2_000, flush_age_ms_max=100)
    cluster = Cluster(config=HostConfig(limits=limits))
    cluster.run(3)
    astray = follower_of(cluster)
    write(cluster, 1, 40)
    cluster.run(1)
    cluster.add_learner(101, parent=astray.host.host)
    cluster.run(1)
    assert astray.host.copying.needed_above(SHARD) is not None, "a snapshot is sent, and kept for whoever asks next"
    astray.host.voters[SHARD].machine.applied_hash ^= 1
    write(cluster, 50, 2 * EVERY)
    assert stops(astray)
    cluster.run(1)
    assert astray.host.copying.needed_above(SHARD) is None
    assert astray.host.copying.deadline_us is None


@pytest.mark.parametrize("index", [0, TERM_MAX + 1, 2**64 - 1])
def test_an_impossible_index_is_refused(cluster: Cluster, index: int) -> None:
    leader, follower = cluster.leader_of(SHARD).host, follower_of(cluster)
    sender, receiver = leader.voters[SHARD].raft, follower.host.voters[SHARD].raft
    term = receiver.term
    check = HashCheck(SHARD, sender.term, sender.replica, receiver.replica, index, 0)
    follower.host.step(PeerFrameReceived(cluster.now_us, leader.host, (check,)))
    cluster.settle()
    assert any(isinstance(note, Refused) and "tells its hash" in note.reason for note in follower.notes)
    assert receiver.term == term
    assert not stops(follower)


# What is compared.


def test_a_hash_that_comes_early_is_compared_when_the_replica_gets_there() -> None:
    comparing = Comparing()
    comparing.expect(8, 11, 1)
    assert comparing.difference({4: 7}, 7) is None
    assert comparing.difference({4: 7, 8: 12}, 8) == (8, 1)
    assert comparing.difference({4: 7, 8: 12}, 9) is None, "it is told once"


def test_a_hash_of_an_index_that_nobody_remembers_says_nothing() -> None:
    comparing = Comparing()
    comparing.expect(8, 11, 1)
    assert comparing.difference({16: 5}, 16) is None


def test_of_too_many_hashes_that_come_early_the_lowest_are_forgotten() -> None:
    comparing = Comparing()
    for index in range(1, HASH_CHECKS_MAX + 3):
        comparing.expect(index, 0, 1)
    assert comparing.difference({1: 9, 2: 9, 3: 9}, 2) is None
    assert comparing.difference({1: 9, 2: 9, 3: 9}, 3) == (3, 1)


def test_each_index_is_told_to_the_others_once() -> None:
    comparing = Comparing()
    assert comparing.reached({}) is None
    assert comparing.reached({4: 7, 8: 9}) == (8, 9)
    assert comparing.reached({4: 7, 8: 9}) is None
    assert comparing.reached({8: 9, 12: 1}) == (12, 1)
