"""Applied state goes to disk in whole flushes, and logs are cut behind it, never ahead of it."""

from __future__ import annotations

import pytest

from shardraft.config import HostConfig, Limits
from tests.host.cluster import Cluster
from tests.host.test_host import SHARD, put


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.run(3)
    return cluster


def test_applied_state_is_flushed_at_the_latest_after_its_age(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    put(cluster, leader, 1, b"k")
    cluster.run(1 + Limits().flush_age_ms_max // 1000)
    machine = leader.host.replicas[SHARD].machine
    assert machine.flushed_index == machine.last_applied > 0
    assert machine.buffer_bytes == 0
    assert leader.host.flushing.buffer_bytes == 0


@pytest.mark.replaces_code
def test_applying_waits_while_memory_holds_twice_what_it_may() -> None:
    limits = Limits(write_buffer_bytes_max=2_000)
    cluster = Cluster(hosts=1, shards=1, config=HostConfig(limits=limits))
    cluster.run(3)
    leader = cluster.leader_of(SHARD)
    flushes: list[object] = []
    leader.store.commit_state = flushes.append  # type: ignore[method-assign]  # A disk that hangs.
    cluster_step = leader.host.step
    leader.host.step = lambda event: None if type(event).__name__ == "StateFlushed" else cluster_step(event)  # type: ignore[method-assign]
    for request_id in range(1, 40):
        put(cluster, leader, request_id, b"k%d" % request_id, b"v" * 200)
        cluster.settle()
    assert flushes
    assert leader.host.flushing.stalled
    assert leader.host.voters[SHARD].applied_behind


def test_a_log_is_cut_behind_the_flushed_state_and_never_ahead_of_it() -> None:
    limits = Limits(log_bytes_max=20_000, flush_age_ms_max=60_000)
    cluster = Cluster(hosts=1, shards=1, config=HostConfig(limits=limits))
    cluster.run(3)
    leader = cluster.leader_of(SHARD)
    for request_id in range(1, 300):
        put(cluster, leader, request_id, b"k%d" % request_id, b"v" * 200)
        cluster.settle()
        replica = leader.host.replicas[SHARD]
        assert replica.log.first_index - 1 <= replica.machine.flushed_index
    assert replica.log.log_bytes <= limits.log_bytes_max + 1_000
    leader.store.crash()
    leader.start(cluster.now_us)
    cluster.run(3)
    assert leader.host.replicas[SHARD].machine.revision == 299
