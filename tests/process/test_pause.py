"""SIGSTOP of a leader past the election timeout, then SIGCONT: it wakes believing that it leads and must not say so."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from shardraft.errors import NotLeader
from shardraft.kv.requests import Consistency, ErrorReply, ReadReply, ReadRequest
from shardraft.wire.client import encode_request
from tests.eventually import eventually
from tests.process.cluster import process_cluster
from tests.process.wire_client import WireClient
from tests.process.workload import workload

pytestmark = pytest.mark.slow


def test_a_leader_that_slept_answers_no_stale_read(tmp_path: Path) -> None:
    with process_cluster(tmp_path, shards=1) as cluster, workload(cluster) as load:
        sleeper, shard_map = cluster.leader_of(1), cluster.shard_map()
        with WireClient(cluster.endpoints[sleeper]) as client:
            client.hello()
            cluster.processes[sleeper].send_signal(signal.SIGSTOP)
            load.wait_for_more()  # Another leads and acknowledges writes that the sleeper knows nothing of.
            key, written = next(reversed(load.acknowledged.items()))
            routing_key = shard_map.routing_key(key)
            client.send(encode_request(ReadRequest(1, 1, 1, 10_000, Consistency.LINEARIZABLE, [routing_key])))
            cluster.processes[sleeper].send_signal(signal.SIGCONT)
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
        cluster.wait_until_ready()
        # It asked whether it would win an election and was told no: nobody's term rose (thesis 9.6).
        assert cluster.shard_status(leader, 1).term == term
