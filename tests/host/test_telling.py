"""What followers are to learn soon rides along with whatever leaves for their hosts anyway."""

from __future__ import annotations

import pytest

from shardraft.host.events import PeerFrameReceived
from shardraft.raft.messages import AppendEntries, CommitAdvance
from tests.host.cluster import Cluster, Process, put_batch, write_request
from tests.host.test_host import key_of

pytestmark = pytest.mark.replaces_code

PUSH_US = 5_000
Frame = tuple[int, set[type]]


@pytest.fixture
def cluster() -> Cluster:
    """Three hosts that lead one shard of three each, and do nothing."""
    cluster = Cluster(hosts=3, shards=3)
    cluster.run(20)
    assert all(len(process.host.leads()) == 1 for process in cluster.processes.values())
    return cluster


def put(cluster: Cluster, leader: Process, request_id: int) -> None:
    (shard,) = leader.host.leads()
    batch = put_batch(request_id, {key_of(cluster, b"k", shard): b"v"}, session=bytes([leader.host.host]) * 16)
    cluster.ask(leader, write_request(request_id, shard, batch))


def told(cluster: Cluster) -> list[Frame]:
    """By which frames commit indexes travel from now on: to whom, and beside what else."""
    frames: list[Frame] = []

    def watch(process: Process) -> None:
        step = process.host.step

        def stepping(event: object) -> None:
            if isinstance(event, PeerFrameReceived):
                kinds = {type(message) for message in event.messages}
                if CommitAdvance in kinds:
                    frames.append((process.host.host, kinds - {CommitAdvance}))
            step(event)  # type: ignore[arg-type]

        process.host.step = stepping  # type: ignore[method-assign]

    for process in cluster.processes.values():
        watch(process)
    return frames


def test_alone_it_leaves_after_a_while(cluster: Cluster) -> None:
    frames = told(cluster)
    put(cluster, cluster.processes[1], 1)
    cluster.settle()
    assert frames == []
    cluster.run(PUSH_US / 1e6)
    assert frames == [(2, set()), (3, set())]


def test_an_acknowledgement_for_another_group_takes_it_along(cluster: Cluster) -> None:
    """This driver sends what a commit releases in a frame of its own; a real one lets both share a frame."""
    frames = told(cluster)
    put(cluster, cluster.processes[1], 1)
    cluster.settle()
    cluster.run(0.001)
    put(cluster, cluster.processes[2], 2)
    cluster.settle()
    assert frames == [(2, set())], "host 3 was sent nothing by host 1"
    cluster.run(PUSH_US / 1e6)
    assert sorted(host for host, _ in frames) == [1, 2, 3, 3]


def test_entries_for_another_group_take_it_along(cluster: Cluster) -> None:
    host = cluster.processes[2].host
    voter = host.voters[host.leads()[0]]
    voter.raft.transfer(voter.raft.membership.replica_on(1), cluster.now_us, keep=True)
    host.touch(voter)
    cluster.run(1)
    both = cluster.processes[1].host.leads()
    assert len(both) == 2
    frames = told(cluster)
    for request_id, led in enumerate(both, 1):
        cluster.run(0.001)
        batch = put_batch(request_id, {key_of(cluster, b"k", led): b"v"})
        cluster.ask(cluster.processes[1], write_request(request_id, led, batch))
        cluster.settle()
    assert frames == [(2, {AppendEntries}), (3, {AppendEntries})]


def test_it_is_told_once(cluster: Cluster) -> None:
    frames = told(cluster)
    leader = cluster.processes[1]
    (shard,) = leader.host.leads()
    for request_id in range(1, 6):
        put(cluster, leader, request_id)
        cluster.settle()
        cluster.run(0.02)
    assert len(frames) == 10, "two followers, five times"
    commits = {process.host.voters[shard].commit_index for process in cluster.processes.values()}
    assert len(commits) == 1


def test_a_replica_that_has_stopped_tells_nothing(cluster: Cluster) -> None:
    frames = told(cluster)
    host = cluster.processes[1].host
    put(cluster, cluster.processes[1], 1)
    cluster.settle()
    host.voters[host.leads()[0]].leave(cluster.now_us)
    put(cluster, cluster.processes[2], 2)
    cluster.settle()
    assert frames == []
