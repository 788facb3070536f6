"""Hosts that join and leave a running cluster, each a process, by the commands of an operator."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from shardraft.cli.layout import free_ports
from tests.cli.test_commands import out, refused
from tests.dev_cluster import SHARDRAFT, DevCluster, dev_cluster
from tests.eventually import eventually


class Newcomer:
    """One ``shardraft host --join``."""

    def __init__(self, host: int, directory: Path, cluster: DevCluster) -> None:
        self.host = host
        self.place = f"127.0.0.1:{next(free_ports(()))}"
        self.log = directory / f"host-{host}.log"
        data_dir = str(directory / f"host-{host}")
        self._command = [
            *SHARDRAFT, "host", "--id", str(host), "--listen", self.place, "--data-dir", data_dir,
            "--empty", "--join", ",".join(cluster.endpoints),
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(lambda: b" started " in self.log.read_bytes(), within_seconds=30)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DevCluster]:
    with dev_cluster(tmp_path, "--shards", "2", "--learners", "0") as running:
        yield running


@pytest.fixture
def newcomers(cluster: DevCluster, tmp_path: Path) -> Iterator[list[Newcomer]]:
    with ExitStack() as stack:
        made = []
        for host in (4, 5):
            made.append(Newcomer(host, tmp_path, cluster))
            stack.callback(made[-1].stop)
        yield made


def voters(cluster: DevCluster) -> list[list[int]]:
    status = json.loads(cluster.shardraft("status", "--json").stdout)
    return [shard["voters"] for shard in status["shards"]]


def member(cluster: DevCluster, *arguments: str) -> dict[str, Any]:
    ran = cluster.shardraft("member", *arguments, "--json", "--within", "60")
    assert ran.returncode == 0, ran.stderr.decode()
    value: dict[str, Any] = json.loads(ran.stdout)
    return value


def test_hosts_join_lead_leave_and_take_the_place_of_a_dead_one(cluster: DevCluster, newcomers: list[Newcomer]) -> None:
    fourth, fifth = newcomers
    out(cluster.shardraft("put", "life/a", "before"))
    added = member(cluster, "add", "--host", "4", "--at", fourth.place)
    assert [each["voters"] for each in added["done"]] == [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert member(cluster, "add", "--host", "4", "--at", fourth.place) == {"done": [], "failed": []}, "it is so already"

    # The host that leads everything leaves.
    out(cluster.shardraft("transfer", "--all", "--to", "1"))
    removed = cluster.shardraft("member", "remove", "--host", "1")
    assert sorted(line.partition(" (")[0] for line in out(removed).splitlines()) == [
        "shard 1: host 1 is removed, voters 2 3 4",
        "shard 2: host 1 is removed, voters 2 3 4",
    ]
    assert removed.stderr.endswith(b"host 1 holds nothing any more: it can be stopped\n")
    out(cluster.shardraft("transfer", "--all", "--to", "4"))
    assert out(cluster.shardraft("get", "life/a")) == "before\n"

    # The newcomer starts again from what it kept: its shards, and where the others are.
    fourth.stop()
    fourth.start()
    eventually(lambda: cluster.shardraft("put", "life/b", "after").returncode == 0, within_seconds=30)

    # A dead host is replaced, by way of a configuration in which it is staging.
    third = cluster.places["hosts"][2]["pid"]
    subprocess.run(["kill", "-STOP", str(third)], check=True)
    try:
        replaced = cluster.shardraft("member", "replace", "--host", "3", "--by", "5", "--at", fifth.place)
        lines = sorted(line.partition(" (")[0] for line in out(replaced).splitlines())
        assert lines == [f"shard {shard}: host 5 replaces host 3, voters 2 4 5" for shard in (1, 2)]
        assert out(cluster.shardraft("get", "life/b")) == "after\n"
        assert voters(cluster) == [[2, 4, 5], [2, 4, 5]]
    finally:
        subprocess.run(["kill", "-CONT", str(third)], check=True)


def test_what_cannot_be_changed_is_refused_and_said(cluster: DevCluster) -> None:
    assert "host 9 cannot be reached" in refused(cluster.shardraft("member", "replace", "--host", "3", "--by", "9"), 2)
    ran = cluster.shardraft("member", "add", "--host", "9", "--at", "127.0.0.1:1", "--within", "1", "--shard", "1")
    assert (ran.returncode, ran.stdout) == (3, b"")
    last = ran.stderr.decode().splitlines()[-1]
    assert last.startswith("error: shard 1: not done yet (staging 9 (")
    assert last.endswith("; it goes on")
    second = cluster.shardraft("member", "remove", "--host", "3", "--shard", "1")
    assert second.returncode == 1
    assert "staging; remove them to give that change up" in second.stderr.decode()
    assert member(cluster, "remove", "--host", "9", "--shard", "1")["done"][0]["voters"] == [1, 2, 3]
    assert voters(cluster) == [[1, 2, 3], [1, 2, 3]]
