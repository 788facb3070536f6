"""A process that is asked to stop finishes what it was asked, flushes, closes and ends with exit code 0."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from shardraft.host.ports import RecoveredShard
from shardraft.storage.store import open_store
from tests.process.cluster import ProcessCluster, process_cluster
from tests.process.server_process import ServerProcess
from tests.process.wire_client import WireClient
from tests.process.workload import workload

pytestmark = pytest.mark.slow


def stored_shards(process: ServerProcess) -> tuple[RecoveredShard, ...]:
    """What the next start of a stopped process would begin with."""
    store = open_store(process.data_dir, cluster_id=None, host=process.host)
    try:
        return store.recover().shards
    finally:
        store.close()


def test_a_host_stops_under_load_and_nobody_notices(tmp_path: Path) -> None:
    with process_cluster(tmp_path) as cluster, workload(cluster) as load:
        leader = cluster.busiest_leader()
        assert cluster.processes[leader].stop() == 0
        cluster.processes[leader].heard("stopping", signal="SIGTERM")
        cluster.processes[leader].heard("stopped")
        load.wait_for_more()
        cluster.start(leader)
        load.wait_for_more()


def test_the_next_start_has_nothing_to_replay(tmp_path: Path) -> None:
    with process_cluster(tmp_path, learners={101: (1,)}) as cluster:
        with workload(cluster):
            pass
        applied = {
            host: {status.shard: status.applied_index for status in reply.shards}
            for host in cluster.processes
            if (reply := cluster.status(host)) is not None
        }
        for host, process in reversed(cluster.processes.items()):
            process.send_signal(signal.SIGINT)
            assert process.exit_code() == 0
            for shard in stored_shards(process):
                assert shard.state.last_applied >= max(applied[host][shard.shard], shard.hard_state.commit_index)


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    limits = "[transport]\nlinger_ms = 60000\n"
    with process_cluster(tmp_path, hosts=1, limits=limits) as cluster:
        process = cluster.processes[1]
        with WireClient(process.endpoint) as client:
            client.hello()  # It never closes its side, which a stop gives time to.
            process.send_signal(signal.SIGTERM)
            process.heard("stopping")
            process.send_signal(signal.SIGTERM)
            assert process.exit_code(within_seconds=5) == 128 + signal.SIGTERM
        process.heard("stop-cut-short", reason="SIGTERM came as well")


def test_a_stop_cut_short_loses_nothing(tmp_path: Path) -> None:
    with process_cluster(tmp_path, hosts=1) as cluster, workload(cluster) as load:
        cluster.processes[1].send_signal(signal.SIGTERM)
        cluster.processes[1].send_signal(signal.SIGTERM)
        assert cluster.processes[1].exit_code() in (0, 128 + signal.SIGTERM)
        cluster.start(1)
        load.wait_for_more()


def test_a_learner_that_still_looks_for_its_parent_stops_at_once(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path, hosts=1, learners={101: (1,)})
    try:
        cluster.start(101)
        cluster.processes[101].heard("connect-failed", remote=str(cluster.endpoints[1]))
        assert cluster.processes[101].stop() == 0
        cluster.processes[101].heard("stopped")
    finally:
        cluster.abolish()


def test_a_host_that_stops_hands_over_what_it_leads(tmp_path: Path) -> None:
    with process_cluster(tmp_path) as cluster, workload(cluster) as load:
        leader = cluster.busiest_leader()
        terms = {shard.shard: shard.term for shard in cluster.view().shards if shard.leader == leader}
        assert cluster.processes[leader].stop() == 0
        for shard, term in terms.items():
            cluster.processes[leader].heard("transfer-began", shard=shard, term=term)
        load.wait_for_more()
        cluster.start(leader)
