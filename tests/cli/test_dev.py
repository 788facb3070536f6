"""``shardraft dev`` as its user meets it: a cluster that starts, is watched over, and stops without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.dev_cluster import SHARDRAFT, DevCluster, dev_cluster, runs
from tests.eventually import eventually

ALONE = ("--hosts", "1", "--shards", "2", "--learners", "0")


def test_the_ready_file_names_every_process_of_the_cluster(tmp_path: Path) -> None:
    with dev_cluster(tmp_path, "--shards", "3", "--learners", "1,1") as cluster:
        places = cluster.places
        assert set(places) == {"hosts", "learners", "shards"}
        assert places["shards"] == 3
        assert [set(host) for host in places["hosts"]] == [{"id", "endpoint", "pid", "data_dir"}] * 3
        assert [(host["id"], Path(host["data_dir"])) for host in places["hosts"]] == [
            (number, cluster.data_dir / f"host-{number}") for number in (1, 2, 3)
        ]
        assert [set(learner) for learner in places["learners"]] == [{"id", "tier", "parent", "endpoint", "pid"}] * 2
        tree = [(learner["id"], learner["tier"], learner["parent"]) for learner in places["learners"]]
        assert tree == [(101, 1, 1), (201, 2, 101)]
        assert all(runs(pid) for pid in cluster.pids)
        said = cluster.output.read_text()
        assert str(cluster.data_dir) in said
        assert all(endpoint in said for endpoint in cluster.endpoints)
        assert "shardraft put hello world" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_cluster_leaves_no_process_and_goes_on_where_it_stopped(
    tmp_path: Path, number: signal.Signals
) -> None:
    with dev_cluster(tmp_path, *ALONE) as cluster:
        endpoints, pids = cluster.endpoints, cluster.pids
        assert cluster.shardraft("put", "k", "v").returncode == 0
        assert cluster.stop(number) == 0
        assert not any(runs(pid) for pid in pids)
        assert not cluster.ready_file.exists()
    with dev_cluster(tmp_path) as cluster:
        assert cluster.endpoints == endpoints
        assert cluster.places["shards"] == 2
        assert cluster.shardraft("get", "k").stdout == b"v\n"


def test_a_killed_host_is_started_again_and_the_ready_file_has_its_new_pid(tmp_path: Path) -> None:
    with dev_cluster(tmp_path, *ALONE) as cluster:
        assert cluster.shardraft("put", "k", "v").returncode == 0
        (before,) = cluster.pids
        os.kill(before, signal.SIGKILL)
        eventually(lambda: cluster.pids != [before])
        assert cluster.shardraft("get", "k").stdout == b"v\n"
        assert f"host-1 (pid {before}) was killed by SIGKILL; starting it again" in cluster.output.read_text()


def test_with_no_restart_a_dead_host_stays_dead(tmp_path: Path) -> None:
    with dev_cluster(tmp_path, *ALONE, "--no-restart") as cluster:
        (pid,) = cluster.pids
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: "leaving it dead" in cluster.output.read_text())
        assert cluster.shardraft("get", "k", "--timeout", "0.5").returncode == 3
        assert cluster.process.poll() is None
        assert cluster.stop() == 0


def test_no_process_survives_a_killed_supervisor_and_the_next_one_waits_for_them(tmp_path: Path) -> None:
    with dev_cluster(tmp_path, *ALONE) as cluster:
        pids = cluster.pids
        assert cluster.shardraft("put", "k", "v").returncode == 0
        cluster.process.kill()
        cluster.process.wait()
    with dev_cluster(tmp_path) as cluster:
        assert not any(runs(pid) for pid in pids)
        assert cluster.shardraft("get", "k").stdout == b"v\n"


def failing(directory: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and last line of a ``dev`` that does not start."""
    command = [*SHARDRAFT, "dev", "--data-dir", str(directory / "data"), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ran.returncode, ran.stderr.strip().splitlines()[-1]


def test_two_cannot_run_on_one_directory(tmp_path: Path) -> None:
    with dev_cluster(tmp_path, *ALONE) as cluster:
        code, line = failing(tmp_path)
        assert code == 1
        assert f"is in use by another shardraft dev (pid {cluster.process.pid})" in line


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, line = failing(tmp_path, *ALONE, "--port", str(port))
    assert code == 2
    assert f"host-1 belongs on 127.0.0.1:{port}, and another program listens there" in line


def test_a_host_that_cannot_start_ends_it_all_with_the_hosts_own_words(tmp_path: Path) -> None:
    foreign = tmp_path / "data" / "host-1"
    foreign.mkdir(parents=True)
    (foreign / "holiday.jpg").touch()
    code, line = failing(tmp_path, *ALONE, "--no-restart")
    assert code == 1
    assert line.startswith("error: host-1 does not start: ")
    assert "host that never ran" in line


def test_the_clusters_own_commands_find_it_in_the_default_directory(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SHARDRAFT_ENDPOINT"}
    environment["XDG_DATA_HOME"] = str(tmp_path)
    ready = tmp_path / "ready.json"
    dev = subprocess.Popen(
        [*SHARDRAFT, "dev", *ALONE, "--ready-file", str(ready)], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        eventually(lambda: ready.exists())
        (host,) = json.loads(ready.read_text())["hosts"]
        assert Path(host["data_dir"]) == tmp_path / "shardraft" / "dev" / "host-1"
        ran = subprocess.run([*SHARDRAFT, "put", "k", "v"], env=environment, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
    finally:
        dev.terminate()
        assert dev.wait(30) == 0


def test_the_command_line_of_a_process_is_what_a_person_would_type(tmp_path: Path) -> None:
    with dev_cluster(tmp_path, "--hosts", "1", "--shards", "2", "--learners", "1") as cluster:
        host, learner = (Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[1:] for pid in cluster.pids)
    endpoint = host[host.index("--listen") + 1]
    assert host[:3] == ["-m", "shardraft", "host"]
    assert host[host.index("--peer") + 1] == f"1={endpoint}"
    assert learner[:3] == ["-m", "shardraft", "learner"]
    assert learner[learner.index("--parent") + 1] == endpoint


def test_the_fixture_reports_a_cluster_that_cannot_start(tmp_path: Path) -> None:
    cluster = DevCluster(tmp_path, "--hosts", "2")
    with pytest.raises(AssertionError, match="a group has 1, 3 or 5 voters"):
        cluster.wait_until_ready()
