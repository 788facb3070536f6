"""A turn answers only so many bytes of reads: a flood of them neither fills the memory nor holds up the heartbeats."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shardraft.config import HostConfig, Limits
from shardraft.host.events import ConnectionClosed
from shardraft.kv.requests import Consistency, ErrorReply, ReadReply, ReadRequest, ScanRequest
from tests.host.cluster import CLIENT, Cluster, put_batch, write_request

SHARD = 1
VALUE = bytes(1_000)
KEYS = tuple(b"\x00\x00%d" % number for number in range(4))
TURN_BYTES = 10_000
READS = 50
"""Each answer has one value: 8 of them, and what looking them up costs, are what a turn may give."""


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(hosts=1, shards=1, config=HostConfig(limits=Limits(turn_read_bytes_max=TURN_BYTES)))
    cluster.run(3)
    cluster.ask(cluster.processes[1], write_request(1, SHARD, put_batch(1, dict.fromkeys(KEYS, VALUE))))
    cluster.run(1)
    cluster.processes[1].replies.clear()
    return cluster


def ask_reads(cluster: Cluster, consistency: Consistency, timeout_ms: int = 5_000) -> None:
    for number in range(READS):
        request = ReadRequest(number, SHARD, 1, timeout_ms, consistency, KEYS[:1])
        cluster.ask(cluster.processes[1], request)


def turns(cluster: Cluster, count: int) -> list[int]:
    """How many requests each of so many turns answers."""
    process = cluster.processes[1]
    answered = [len(process.replies)]
    for _ in range(count):
        cluster.turn(process)
        answered.append(len(process.replies))
    return [after - before for before, after in pairwise(answered)]


@pytest.mark.parametrize("consistency", list(Consistency))
def test_what_does_not_fit_into_a_turn_is_answered_by_the_next_ones_in_order(
    cluster: Cluster, consistency: Consistency
) -> None:
    ask_reads(cluster, consistency)
    assert turns(cluster, 7) == [8, 8, 8, 8, 8, 8, 2]
    replies = cluster.processes[1].replies
    assert [reply.request_id for reply in replies] == list(range(READS))
    assert all(isinstance(reply, ReadReply) and list(reply.values) == [VALUE] for reply in replies)
    assert cluster.processes[1].host.pending.count == 0


def test_the_host_asks_for_the_next_turn_at_once(cluster: Cluster) -> None:
    ask_reads(cluster, Consistency.STALE)
    turns(cluster, 1)
    assert cluster.processes[1].host.next_deadline_us == 0
    turns(cluster, 6)
    assert cluster.processes[1].host.next_deadline_us > cluster.now_us


def test_scans_count_what_they_read_even_when_they_answer_with_keys_only(cluster: Cluster) -> None:
    for number in range(READS):
        request = ScanRequest(number, SHARD, 1, 5_000, Consistency.STALE, b"", b"", 10, keys_only=True)
        cluster.ask(cluster.processes[1], request)
    assert turns(cluster, 2) == [2, 2]


def test_writes_go_on_in_between(cluster: Cluster) -> None:
    ask_reads(cluster, Consistency.STALE)
    cluster.ask(cluster.processes[1], write_request(99, SHARD, put_batch(2, {KEYS[1]: b"new"})))
    turns(cluster, 3)
    assert cluster.reply_to(cluster.processes[1], 99) is not None
    assert cluster.processes[1].host.reads.waiting


def test_nobody_looks_up_what_a_closed_connection_asked_for(cluster: Cluster) -> None:
    ask_reads(cluster, Consistency.STALE)
    turns(cluster, 1)
    cluster.processes[1].host.step(ConnectionClosed(cluster.now_us, CLIENT))
    assert turns(cluster, 2) == [0, 0]
    assert not cluster.processes[1].host.reads.waiting
    assert cluster.processes[1].host.pending.count == 0


def test_a_read_whose_deadline_passes_while_it_waits_is_refused_once(cluster: Cluster) -> None:
    ask_reads(cluster, Consistency.STALE, timeout_ms=1)
    turns(cluster, 1)
    cluster.now_us += 2_000
    turns(cluster, 7)
    replies = cluster.processes[1].replies
    assert sorted(reply.request_id for reply in replies) == list(range(READS))
    assert sum(isinstance(reply, ErrorReply) for reply in replies) == READS - 8
