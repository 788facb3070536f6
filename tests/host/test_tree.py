"""Learners behind a host: tiers, resuming, copies, and what they refuse."""

from __future__ import annotations

import attrs
import pytest

from shardraft.config import HostConfig, Limits
from shardraft.errors import CopyRefused, NotLeader
from shardraft.kv.machine import MachineState
from shardraft.kv.requests import (
    Consistency,
    ErrorReply,
    MapReply,
    MapRequest,
    ReadReply,
    ReadRequest,
    StatusReply,
    StatusRequest,
)
from tests.host.cluster import Cluster, Process, put_batch, write_request
from tests.host.test_host import SHARD, key_of, put


@pytest.fixture
def cluster() -> Cluster:
    limits = Limits(log_bytes_max=40_000, flush_age_ms_max=100)
    cluster = Cluster(config=HostConfig(limits=limits))
    cluster.run(3)
    return cluster


def write_many(cluster: Cluster, first: int, count: int, value_bytes: int = 200) -> None:
    leader = cluster.leader_of(SHARD)
    for request_id in range(first, first + count):
        batch = put_batch(request_id, {key_of(cluster, b"k%d" % (request_id % 50)): b"v" * value_bytes})
        batch = attrs.evolve(batch, answered_below=request_id)
        cluster.ask(leader, write_request(request_id, SHARD, batch))
        cluster.run(0.01)


def stale(cluster: Cluster, process: Process, request_id: int, name: bytes) -> ReadReply:
    cluster.ask(process, ReadRequest(request_id, SHARD, 1, 1_000, Consistency.STALE, (key_of(cluster, name),)))
    cluster.settle()
    reply = cluster.reply_to(process, request_id)
    assert isinstance(reply, ReadReply), reply
    return reply


def in_step(cluster: Cluster, process: Process) -> bool:
    """Whether it has applied what the leader has, and the same."""
    machine, leader = process.host.replicas[SHARD].machine, cluster.leader_of(SHARD).host.replicas[SHARD].machine
    return (machine.last_applied, machine.applied_hash) == (leader.last_applied, leader.applied_hash)


def test_a_learner_learns_the_map_and_follows_every_shard(cluster: Cluster) -> None:
    learner = cluster.add_learner(101, parent=1)
    cluster.run(1)
    assert sorted(learner.host.replicas) == [1, 2]
    put(cluster, cluster.leader_of(SHARD), 1, b"k", b"v1")
    cluster.settle()
    reply = stale(cluster, learner, 2, b"k")
    assert (reply.values, reply.revisions, reply.tier, reply.age_us) == ([b"v1"], [1], 1, None)


def test_a_learner_of_a_learner_is_of_tier_two(cluster: Cluster) -> None:
    cluster.add_learner(101, parent=2)
    cluster.run(1)
    second = cluster.add_learner(201, parent=101)
    cluster.run(1)
    put(cluster, cluster.leader_of(SHARD), 1, b"k", b"v1")
    cluster.settle()
    assert stale(cluster, second, 2, b"k").tier == 2
    cluster.ask(cluster.processes[2], MapRequest(3))
    cluster.settle()
    reply = cluster.reply_to(cluster.processes[2], 3)
    assert isinstance(reply, MapReply)
    assert [(place.host, place.tier, place.parent) for place in reply.learners] == [(101, 1, 2), (201, 2, 101)]


def test_a_learner_resumes_from_its_own_disk(cluster: Cluster) -> None:
    learner = cluster.add_learner(101, parent=1)
    cluster.run(1)
    write_many(cluster, 1, 20)
    cluster.cut(learner, next(iter(learner.links)))
    learner.store.crash()
    learner.start(cluster.now_us)
    before = learner.host.replicas[SHARD].log.last_index
    assert before > 0
    write_many(cluster, 21, 20)
    cluster.attach(101, 1)
    cluster.run(1)
    assert in_step(cluster, learner)
    assert not [note for note in learner.notes if "copy" in getattr(note, "what", "")]


def test_a_learner_that_fell_behind_the_log_is_given_a_copy(cluster: Cluster) -> None:
    learner = cluster.add_learner(101, parent=1)
    cluster.run(1)
    cluster.cut(learner, next(iter(learner.links)))
    write_many(cluster, 1, 400)
    assert cluster.processes[1].host.replicas[SHARD].log.first_index > learner.host.replicas[SHARD].log.last_index + 1
    cluster.attach(101, 1)
    cluster.run(2)
    assert in_step(cluster, learner)
    write_many(cluster, 401, 5)
    assert in_step(cluster, learner)
    assert [note for note in learner.notes if getattr(note, "what", "").startswith("installed a copy")]


def test_a_follower_that_fell_behind_the_log_is_given_a_copy(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    follower = next(process for process in cluster.processes.values() if process is not leader)
    del cluster.processes[follower.host.host]
    write_many(cluster, 1, 400)
    cluster.processes[follower.host.host] = follower
    follower.store.crash()
    follower.start(cluster.now_us)
    cluster.run(4)
    assert in_step(cluster, follower)
    write_many(cluster, 401, 5)
    assert in_step(cluster, follower)
    follower.store.crash()
    follower.start(cluster.now_us)
    cluster.run(3)
    assert in_step(cluster, follower)


def test_a_learner_takes_no_writes_and_answers_stale_reads_only(cluster: Cluster) -> None:
    learner = cluster.add_learner(101, parent=1)
    cluster.run(1)
    put(cluster, learner, 1, b"k")
    cluster.ask(learner, ReadRequest(2, SHARD, 1, 1_000, Consistency.LINEARIZABLE, (key_of(cluster, b"k"),)))
    cluster.settle()
    for request_id in (1, 2):
        reply = cluster.reply_to(learner, request_id)
        assert isinstance(reply, ErrorReply)
        assert isinstance(reply.error, NotLeader)
        assert reply.error.applied == "no"


def test_a_learner_keeps_serving_without_its_parent(cluster: Cluster) -> None:
    learner = cluster.add_learner(101, parent=1)
    cluster.run(1)
    put(cluster, cluster.leader_of(SHARD), 1, b"k", b"v1")
    cluster.settle()
    cluster.cut(learner, next(iter(learner.links)))
    cluster.run(5)
    assert stale(cluster, learner, 2, b"k").values == [b"v1"]


def test_the_status_of_a_parent_tells_how_far_its_children_are_behind(cluster: Cluster) -> None:
    learner = cluster.add_learner(101, parent=1)
    cluster.run(1)
    learner.is_syncing = False
    write_many(cluster, 1, 3)
    cluster.ask(cluster.processes[1], StatusRequest(9))
    cluster.settle()
    status = cluster.reply_to(cluster.processes[1], 9)
    assert isinstance(status, StatusReply)
    assert [(child.host, child.tier, child.lag_entries) for child in status.children] == [(101, 1, 3)]


@pytest.mark.replaces_code
def test_a_copy_that_the_store_rejects_changes_nothing_and_another_is_made(cluster: Cluster) -> None:
    learner = cluster.add_learner(101, parent=1)
    cluster.run(1)
    cluster.cut(learner, next(iter(learner.links)))
    write_many(cluster, 1, 400)
    install = learner.store.install_copy

    def reject_once(*arguments: int) -> MachineState:
        learner.store.install_copy = install  # type: ignore[method-assign]
        raise CopyRefused("chunk 1 of a copy is damaged")

    learner.store.install_copy = reject_once  # type: ignore[method-assign]  # A disk that damages one chunk.
    before = learner.host.replicas[SHARD].machine.last_applied
    cluster.attach(101, 1)
    cluster.settle()
    assert learner.host.replicas[SHARD].machine.last_applied == before
    for _ in range(5):
        cluster.run(2)
        if not learner.links:
            cluster.attach(101, 1)
    assert in_step(cluster, learner)
    assert learner.host.flushing.buffer_bytes >= 0
