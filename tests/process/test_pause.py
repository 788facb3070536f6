"""SIGSTOP of a leader past the election timeout, then SIGCONT: it wakes believing that it leads and must not say so."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from shardraft.errors import NotLeader
from shardraft.kv.requests import Consistency, ErrorReply, ReadReply, ReadRequest
from shardraft.wire.client import encode_request
from tests.eventually import eventually
from tests.process.cluster import BEHIND_UNDER_LOAD_MAX, process_cluster
from tests.process.wire_client import WireClient
from tests.process.workload import workload

pytestmark = pytest.mark.slow

READERS = 16
"""So many that some of them are heard, by a sleeper that wakes, before the new leader is."""


def test_a_leader_that_slept_answers_no_stale_read(tmp_path: Path) -> None:
    with process_cluster(tmp_path, shards=1) as cluster, workload(cluster) as load, ExitStack() as stack:
        sleeper, shard_map = cluster.leader_of(1), cluster.shard_map()
        clients = [stack.enter_context(WireClient(cluster.endpoints[sleeper])).hello() for _ in range(READERS)]
        cluster.processes[sleeper].send_signal(signal.SIGSTOP)
        load.wait_for_more()  # Another leads and acknowledges writes that the sleeper knows nothing of.
        key, written = next(reversed(load.acknowledged.items()))
        request = ReadRequest(1, 1, 1, 10_000, Consistency.LINEARIZABLE, [shard_map.routing_key(key)])
        for client in clients:
            client.send(encode_request(request))
        cluster.processes[sleeper].send_signal(signal.SIGCONT)
        for client in clients:
            reply = client.reply()
            if isinstance(reply, ReadReply):
                assert reply.revisions[0] >= written.revision
            else:
                assert isinstance(reply, ErrorReply)
                assert isinstance(reply.error, NotLeader)
        eventually(lambda: cluster.shard_status(sleeper, 1).role == "follower")
        load.wait_for_more()


def test_a_follower_that_slept_catches_up(tmp_path: Path) -> None:
    with process_cluster(tmp_path, shards=1) as cluster, workload(cluster) as load:
        leader = cluster.leader_of(1)
        sleeper = cluster.processes[next(each for each in cluster.hosts if each != leader)]
        term = cluster.shard_status(leader, 1).term
        sleeper.send_signal(signal.SIGSTOP)
        load.wait_for_more(1000)
        sleeper.send_signal(signal.SIGCONT)
        load.wait_for_more()
        cluster.wait_until_ready(BEHIND_UNDER_LOAD_MAX)
        # It asked whether it would win an election and was told no: nobody's term rose (thesis 9.6).
        assert cluster.shard_status(leader, 1).term == term
