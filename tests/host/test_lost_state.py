"""A replica whose disk lost what it acknowledged stops, says so, and disturbs nobody."""

from __future__ import annotations

import pytest

from shardraft.errors import Unavailable
from shardraft.kv.requests import Consistency
from shardraft.raft.ready import StateLost
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
