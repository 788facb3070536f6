"""The host alone: turns, durability, reads, refusals, flushes and compaction."""

from __future__ import annotations

import attrs
import pytest

from shardraft.config import HostConfig, Limits
from shardraft.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotLeader,
    Overloaded,
    SessionExpired,
    ShardraftError,
    WrongShard,
)
from shardraft.host.events import ConnectionClosed, DiskSpace, PeerDisconnected
from shardraft.kv.commands import Outcome
from shardraft.kv.requests import (
    Consistency,
    ErrorReply,
    MapReply,
    MapRequest,
    ReadReply,
    ReadRequest,
    ScanReply,
    ScanRequest,
    StatusReply,
    StatusRequest,
    WriteReply,
    WriteRequest,
)
from shardraft.raft.messages import AppendEntries, AppendEntriesReply
from tests.host.cluster import CLIENT, Cluster, Process, put_batch, write_request

SHARD = 1


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.run(3)
    return cluster


def key_of(cluster: Cluster, name: bytes, shard: int = SHARD) -> bytes:
    found = cluster.shard_map.shard_by_id(shard)
    assert found is not None
    return (found.key_range.start or b"\0\0") + name


def put(cluster: Cluster, process: Process, request_id: int, name: bytes, value: bytes = b"value") -> None:
    cluster.ask(process, write_request(request_id, SHARD, put_batch(request_id, {key_of(cluster, name): value})))


def read(process: Process, cluster: Cluster, request_id: int, name: bytes, consistency: Consistency) -> None:
    cluster.ask(process, ReadRequest(request_id, SHARD, 1, 5_000, consistency, (key_of(cluster, name),)))


def refusal(cluster: Cluster, process: Process, request_id: int) -> ShardraftError:
    reply = cluster.reply_to(process, request_id)
    assert isinstance(reply, ErrorReply), f"expected a refusal, got {reply}"
    return reply.error


def follower_of(cluster: Cluster, shard: int = SHARD) -> Process:
    leader = cluster.leader_of(shard)
    return next(process for process in cluster.processes.values() if process is not leader)


# Writes and durability.


def test_a_write_is_answered_once_a_majority_has_synced_it(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    put(cluster, leader, 1, b"k")
    cluster.settle()
    reply = cluster.reply_to(leader, 1)
    assert isinstance(reply, WriteReply)
    assert reply.result.outcomes == bytes([Outcome.WRITTEN])
    assert reply.result.first_revision == 1


def test_a_write_is_not_answered_while_only_the_leader_has_synced_it(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    for process in cluster.processes.values():
        process.is_syncing = process is leader
    put(cluster, leader, 1, b"k")
    cluster.settle()
    assert cluster.reply_to(leader, 1) is None


def test_two_followers_are_a_majority_while_the_leaders_own_disk_works(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    leader.is_syncing = False
    put(cluster, leader, 1, b"k")
    cluster.settle()
    assert isinstance(cluster.reply_to(leader, 1), WriteReply)


def test_an_acknowledgement_waits_for_its_commit(cluster: Cluster) -> None:
    leader, follower = cluster.leader_of(SHARD), follower_of(cluster)
    sent: list[object] = []
    original = cluster._send

    def watch(process: Process, messages: tuple[tuple[int, tuple[object, ...]], ...]) -> None:
        if process is follower:
            sent.extend(message for _, of_host in messages for message in of_host)
        original(process, messages)

    cluster._send = watch  # type: ignore[method-assign]  # Watches what leaves; changes nothing.
    follower.is_syncing = False
    put(cluster, leader, 1, b"k")
    cluster.settle()
    assert not [message for message in sent if isinstance(message, AppendEntriesReply)]
    follower.is_syncing = True
    cluster.settle()
    assert [message for message in sent if isinstance(message, AppendEntriesReply)]


def test_at_the_limit_of_turns_in_flight_writes_wait_and_reads_go_on(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    put(cluster, leader, 1, b"k")
    cluster.settle()
    leader.is_syncing = False
    for request_id in range(2, 22):
        put(cluster, leader, request_id, b"k%d" % request_id)
        cluster.settle()
    assert len(leader.unsynced) == cluster.config.limits.turns_in_flight_max
    read(leader, cluster, 100, b"k", Consistency.LINEARIZABLE)
    cluster.settle()
    assert isinstance(cluster.reply_to(leader, 100), ReadReply)
    leader.is_syncing = True
    cluster.run(0.2)
    assert all(isinstance(cluster.reply_to(leader, request_id), WriteReply) for request_id in range(1, 22))


def test_what_was_acknowledged_survives_the_crash_of_every_host(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    put(cluster, leader, 1, b"k", b"kept")
    cluster.settle()
    for process in cluster.processes.values():
        process.store.crash()
        process.unsynced.clear()
        process.start(cluster.now_us)
    cluster.run(5)
    leader = cluster.leader_of(SHARD)
    read(leader, cluster, 2, b"k", Consistency.LINEARIZABLE)
    cluster.settle()
    reply = cluster.reply_to(leader, 2)
    assert isinstance(reply, ReadReply)
    assert reply.values == [b"kept"]


def test_a_retry_after_the_crash_of_every_host_applies_once(cluster: Cluster) -> None:
    batch = put_batch(1, {key_of(cluster, b"k"): b"v"})
    leader = cluster.leader_of(SHARD)
    cluster.ask(leader, write_request(1, SHARD, batch))
    cluster.settle()
    first = cluster.reply_to(leader, 1)
    for process in cluster.processes.values():
        process.store.crash()
        process.start(cluster.now_us)
    cluster.run(5)
    leader = cluster.leader_of(SHARD)
    cluster.ask(leader, write_request(2, SHARD, batch))
    cluster.settle()
    again = cluster.reply_to(leader, 2)
    assert isinstance(first, WriteReply)
    assert isinstance(again, WriteReply)
    assert again.result == first.result
    assert leader.host.replicas[SHARD].machine.revision == 1


# Who leads.


def test_a_write_to_a_follower_is_refused_with_the_leader_named(cluster: Cluster) -> None:
    follower = follower_of(cluster)
    put(cluster, follower, 1, b"k")
    cluster.settle()
    error = refusal(cluster, follower, 1)
    assert isinstance(error, NotLeader)
    assert error.applied == "no"
    assert error.leader == cluster.leader_of(SHARD).host.host


def test_a_deposed_leader_says_that_the_outcome_of_what_it_appended_is_unknown(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    lost = cluster.processes.pop(leader.host.host)
    cluster.ask(lost, write_request(1, SHARD, put_batch(1, {key_of(cluster, b"k"): b"v"})))
    cluster.turn(lost)
    for process in cluster.processes.values():
        process.host.step(PeerDisconnected(cluster.now_us, leader.host.host))
    cluster.run(3)
    assert cluster.leader_of(SHARD) is not lost
    cluster.processes[lost.host.host] = lost
    cluster.run(3)
    error = refusal(cluster, lost, 1)
    assert isinstance(error, NotLeader)
    assert error.applied == "unknown"


def test_a_closed_connection_of_the_leader_elects_another_within_a_fraction_of_the_timeout(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    del cluster.processes[leader.host.host]
    for process in cluster.processes.values():
        process.host.step(PeerDisconnected(cluster.now_us, leader.host.host))
    cluster.run(0.1)
    assert cluster.leader_of(SHARD) is not leader


# Reads.


@pytest.mark.parametrize("consistency", list(Consistency))
def test_the_leader_reads_what_was_written(cluster: Cluster, consistency: Consistency) -> None:
    leader = cluster.leader_of(SHARD)
    put(cluster, leader, 1, b"k", b"v1")
    cluster.settle()
    read(leader, cluster, 2, b"k", consistency)
    cluster.settle()
    reply = cluster.reply_to(leader, 2)
    assert isinstance(reply, ReadReply)
    assert (reply.values, reply.revisions, reply.tier) == ([b"v1"], [1], 0)


def test_a_linearizable_read_is_not_answered_without_a_quorum(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    others = [host for host in cluster.processes if host != leader.host.host]
    for host in others:
        del cluster.processes[host]
    read(leader, cluster, 1, b"k", Consistency.LINEARIZABLE)
    cluster.run(3)
    assert isinstance(refusal(cluster, leader, 1), NotLeader)


def test_a_page_of_a_scan_ends_at_its_limit_and_says_so(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    items = {key_of(cluster, b"k%03d" % number): b"v" for number in range(10)}
    cluster.ask(leader, write_request(1, SHARD, put_batch(1, items)))
    cluster.settle()
    cluster.ask(leader, ScanRequest(2, SHARD, 1, 5_000, Consistency.LINEARIZABLE, b"", b"", 4))
    cluster.settle()
    reply = cluster.reply_to(leader, 2)
    assert isinstance(reply, ScanReply)
    assert list(reply.keys) == sorted(items)[:4]
    assert reply.more


def test_a_reply_above_the_page_bytes_ends_early() -> None:
    cluster = Cluster(config=HostConfig(limits=Limits(page_bytes_max=1_000)))
    cluster.run(3)
    leader = cluster.leader_of(SHARD)
    keys = [key_of(cluster, b"k%d" % number) for number in range(5)]
    cluster.ask(leader, write_request(1, SHARD, put_batch(1, dict.fromkeys(keys, b"v" * 400))))
    cluster.settle()
    cluster.ask(leader, ReadRequest(2, SHARD, 1, 5_000, Consistency.STALE, keys))
    cluster.settle()
    reply = cluster.reply_to(leader, 2)
    assert isinstance(reply, ReadReply)
    assert len(reply.values) == 2


def test_a_read_of_keys_of_which_one_is_not_the_shards_is_not_answered(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    own, other = key_of(cluster, b"k"), key_of(cluster, b"k", shard=2)
    for request_id, keys in enumerate([(own, other), (other, own), (other,)], start=1):
        cluster.ask(leader, ReadRequest(request_id, SHARD, 1, 5_000, Consistency.STALE, keys))
        cluster.settle()
        assert isinstance(refusal(cluster, leader, request_id), WrongShard)


# Refusals at the door.


def test_bad_requests_are_refused_by_type_and_certainly_not_applied(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    elsewhere = put_batch(1, {key_of(cluster, b"k", shard=2): b"v"})
    empty_key = put_batch(1, {b"": b"v"})
    cluster.ask(leader, write_request(1, SHARD, elsewhere))
    cluster.ask(leader, write_request(2, SHARD, empty_key))
    cluster.ask(leader, WriteRequest(3, SHARD, 1, 5_000, b"garbage"))
    cluster.ask(leader, ReadRequest(4, SHARD, 1, 5_000, Consistency.STALE, ()))
    cluster.ask(leader, ScanRequest(5, SHARD, 1, 5_000, Consistency.STALE, b"b", b"a", 1))
    cluster.ask(leader, ReadRequest(6, 77, 1, 5_000, Consistency.STALE, (b"k",)))
    cluster.ask(leader, attrs.evolve(write_request(7, SHARD, elsewhere), timeout_ms=0))
    cluster.settle()
    expected = [WrongShard, InvalidArgument, InvalidArgument, InvalidArgument, InvalidArgument, WrongShard]
    expected.append(DeadlineExceeded)
    for request_id, error_type in enumerate(expected, start=1):
        error = refusal(cluster, leader, request_id)
        assert isinstance(error, error_type)
        assert error.applied == "no"
    assert leader.host.replicas[SHARD].machine.revision == 0


def test_an_unknown_session_is_refused_and_its_outcome_unknown(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    batch = attrs.evolve(put_batch(7, {key_of(cluster, b"k"): b"v"}), opens_session=False)
    cluster.ask(leader, write_request(1, SHARD, batch))
    cluster.settle()
    error = refusal(cluster, leader, 1)
    assert isinstance(error, SessionExpired)
    assert error.applied == "unknown"


def test_a_host_that_holds_too_many_requests_refuses_the_next() -> None:
    cluster = Cluster(config=HostConfig(limits=Limits(requests_in_flight_max=2)))
    cluster.run(3)
    leader = cluster.leader_of(SHARD)
    for process in cluster.processes.values():
        process.is_syncing = False
    for request_id in (1, 2, 3):
        put(cluster, leader, request_id, b"k")
    cluster.settle()
    assert isinstance(refusal(cluster, leader, 3), Overloaded)
    assert cluster.reply_to(leader, 1) is None


def test_writes_are_refused_before_the_disk_is_full(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    leader.host.step(DiskSpace(cluster.now_us, True))
    put(cluster, leader, 1, b"k")
    cluster.settle()
    assert isinstance(refusal(cluster, leader, 1), Overloaded)
    leader.host.step(DiskSpace(cluster.now_us, False))
    put(cluster, leader, 2, b"k")
    cluster.settle()
    assert isinstance(cluster.reply_to(leader, 2), WriteReply)


def test_a_write_whose_deadline_passes_is_answered_with_an_unknown_outcome(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    for process in cluster.processes.values():
        process.is_syncing = process is leader
    request = write_request(1, SHARD, put_batch(1, {key_of(cluster, b"k"): b"v"}))
    cluster.ask(leader, attrs.evolve(request, timeout_ms=200))
    cluster.run(0.3)
    error = refusal(cluster, leader, 1)
    assert isinstance(error, DeadlineExceeded)
    assert error.applied == "unknown"
    assert leader.host.pending.count == 0


def test_a_message_for_another_replica_changes_nothing(cluster: Cluster) -> None:
    leader, follower = cluster.leader_of(SHARD), follower_of(cluster)
    before = follower.host.voters[SHARD].raft.term
    cluster._send(leader, ((follower.host.host, (AppendEntries(SHARD, 99, 1, 42, 0, 0, 0),)),))
    cluster.settle()
    assert follower.host.voters[SHARD].raft.term == before


# What a host tells.


def test_the_map_and_the_status_are_told_to_anyone(cluster: Cluster) -> None:
    follower = follower_of(cluster)
    cluster.ask(follower, MapRequest(1))
    cluster.ask(follower, StatusRequest(2))
    cluster.settle()
    shard_map, status = cluster.reply_to(follower, 1), cluster.reply_to(follower, 2)
    assert isinstance(shard_map, MapReply)
    assert shard_map.shard_map == cluster.shard_map
    assert isinstance(status, StatusReply)
    assert [shard.shard for shard in status.shards] == [1, 2]
    assert status.shards[0].leader == cluster.leader_of(SHARD).host.host


def test_a_closed_client_connection_harms_nobody(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    put(cluster, leader, 1, b"k")
    leader.host.step(ConnectionClosed(cluster.now_us, CLIENT))
    cluster.settle()
    assert leader.host.replicas[SHARD].machine.revision == 1
