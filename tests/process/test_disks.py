"""A host starts from its own newest disk or not at all: exit code 1 and a sentence that says what to do."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from shardraft.types import HostId
from tests.process.cluster import ProcessCluster, process_cluster
from tests.process.server_process import ServerProcess
from tests.process.workload import workload

pytestmark = pytest.mark.slow


def refusal_of(process: ServerProcess) -> str:
    """Start a process that must refuse; why it did, from its last line."""
    process.start()
    assert process.exit_code() == 1
    assert process.events[-1]["event"] == "failed"
    assert process.events[-1]["level"] == "error"
    return str(process.events[-1]["reason"])


def stopped(cluster: ProcessCluster, host: HostId) -> ServerProcess:
    process = cluster.processes[host]
    assert process.stop() == 0
    return process


def test_a_wiped_disk_under_a_known_id_is_refused(tmp_path: Path) -> None:
    with process_cluster(tmp_path) as cluster, workload(cluster) as load:
        victim = stopped(cluster, 3)
        kept = victim.data_dir.rename(tmp_path / "kept")
        said = refusal_of(victim)
        assert "the disk was wiped or is an old copy" in said
        assert "bring back its newest data directory, or put a host under a new id in its place" in said
        shutil.rmtree(victim.data_dir)
        kept.rename(victim.data_dir)
        cluster.start(3)  # With its own disk it is welcome again.
        load.wait_for_more()


def test_an_old_copy_of_the_disk_is_refused(tmp_path: Path) -> None:
    with process_cluster(tmp_path) as cluster:
        victim = stopped(cluster, 3)
        old = shutil.copytree(victim.data_dir, tmp_path / "old")
        cluster.start(3)
        cluster.wait_until_ready()
        with workload(cluster):
            stopped(cluster, 3)
            newest = victim.data_dir.rename(tmp_path / "newest")
            old.rename(victim.data_dir)
            said = refusal_of(victim)
            assert "the disk was wiped or is an old copy" in said
            for _ in range(3):  # Each start is one more than the one before: it must never catch up with the newest.
                assert said in refusal_of(victim)
            shutil.rmtree(victim.data_dir)
            newest.rename(victim.data_dir)
            cluster.start(3)


def test_a_lost_learner_is_simply_made_anew(tmp_path: Path) -> None:
    with process_cluster(tmp_path, learners={101: (1,)}) as cluster, workload(cluster) as load:
        shutil.rmtree(stopped(cluster, 101).data_dir)
        load.wait_for_more()
        cluster.start(101)


def test_a_disk_that_fails_ends_its_host_and_nothing_else(tmp_path: Path) -> None:
    with process_cluster(tmp_path) as cluster, workload(cluster) as load:
        victim = cluster.processes[cluster.busiest_leader()]
        resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (0, 0))  # Not a byte more goes into any file.
        assert victim.exit_code() == 1
        victim.heard("failed", reason="this host stops, since after a failed sync a later one may lie")
        load.wait_for_more()
        victim.start()
        load.wait_for_more()


@pytest.fixture
def single(tmp_path: Path) -> ProcessCluster:
    """A cluster of one host that ran once and stopped."""
    with process_cluster(tmp_path, hosts=1) as cluster:
        stopped(cluster, 1)
        return cluster


def test_the_disk_of_another_cluster_is_refused(single: ProcessCluster, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = ProcessCluster(tmp_path / "other", hosts=1)
    said = refusal_of(other.process(1, single.processes[1].data_dir))
    assert f"{single.processes[1].data_dir} belongs to another cluster than these options describe" in said
    assert "--peer ids, --shards, --partitioning or --cluster" in said


def test_the_disk_of_another_host_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    three = ProcessCluster(tmp_path / "other", hosts=3)
    first = three.processes[1]
    first.start()
    first.heard("started")
    assert first.stop() == 0
    said = refusal_of(three.process(2, first.data_dir))
    assert f"{first.data_dir} belongs to host 1, not to host 2" in said


@pytest.mark.parametrize("name", ["log/segment-00000001", "state/data.mdb"])
@pytest.mark.parametrize("bytes_left", [0, 1000, 10_000])
def test_a_truncated_data_file_is_refused(single: ProcessCluster, name: str, bytes_left: int) -> None:
    process = single.processes[1]
    path = process.data_dir / name
    os.truncate(path, bytes_left)
    said = refusal_of(process)
    assert str(path.parent) in said
    assert "under a new host id" in said or "put back the one that belongs here" in said


def test_a_lost_identity_file_is_refused(single: ProcessCluster) -> None:
    process = single.processes[1]
    (process.data_dir / "identity").unlink()
    assert str(process.data_dir) in refusal_of(process)


def test_somebody_elses_directory_is_refused_and_left_as_it_is(single: ProcessCluster, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter.txt").write_text("dear diary")
    assert f"{theirs} is not empty (letter.txt is there)" in refusal_of(single.process(1, theirs))
    assert sorted(path.name for path in theirs.iterdir() if path.name != "lock") == ["letter.txt"]


def test_a_second_process_on_a_data_directory_is_refused(tmp_path: Path) -> None:
    with process_cluster(tmp_path, hosts=1) as cluster:
        first = cluster.processes[1]
        second = ServerProcess(
            "learner", 101, ProcessCluster(tmp_path, hosts=1).endpoints[1], first.data_dir, "--parent", "127.0.0.1:1"
        )
        try:
            assert "belongs to host 1, not to host 101" in refusal_of(second)
        finally:
            second.abolish()
        again = ProcessCluster(tmp_path, hosts=1).process(1, first.data_dir)
        try:
            assert f"{first.data_dir} is in use by process {first.pid}" in refusal_of(again)
        finally:
            again.abolish()


def test_a_port_that_is_taken_is_refused_before_the_disk_is_looked_at(tmp_path: Path) -> None:
    with process_cluster(tmp_path, hosts=1) as cluster:
        again = cluster.process(1, tmp_path / "fresh")
        try:
            assert refusal_of(again) == f"cannot listen on {again.endpoint}: Address already in use"
            assert not (tmp_path / "fresh").exists()
        finally:
            again.abolish()


def test_listening_where_others_can_connect_needs_to_be_asked_for(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path, hosts=1)
    for kind, more in (("host", f"--peer=1={cluster.endpoints[1]}"), ("learner", "--parent=127.0.0.1:1")):
        process = ServerProcess(kind, 1, cluster.endpoints[1], tmp_path / "data", more, "--listen", "0.0.0.0:27400")
        try:
            process.start()
            assert process.exit_code() == 2
            said = process.events[-1]["reason"]
            assert said.startswith("refusing to listen on 0.0.0.0")
            assert "--insecure" in said
        finally:
            process.abolish()
        assert not (tmp_path / "data").exists()
