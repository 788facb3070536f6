"""The commands that change a running cluster, each run as a process against a real one."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from tests.cli.test_commands import out, refused
from tests.dev_cluster import SHARDRAFT, DevCluster
from tests.eventually import eventually


def leaders(cluster: DevCluster) -> dict[int, int | None]:
    status = json.loads(cluster.shardraft("status", "--json").stdout)
    return {shard["shard"]: shard["leader"] for shard in status["shards"]}


def other_than(host: int | None) -> int:
    return 1 if host != 1 else 2


def test_a_shard_is_transferred_and_the_command_says_so(cluster: DevCluster) -> None:
    target = other_than(leaders(cluster)[1])
    ran = cluster.shardraft("transfer", "--shard", "1", "--to", str(target))
    assert out(ran).startswith(f"shard 1: host {target} leads, term ")
    assert ran.stderr.decode() == f"shard 1: handing over to host {target}\n"
    assert leaders(cluster)[1] == target


def test_all_shards_are_transferred_at_once(cluster: DevCluster) -> None:
    told = json.loads(out(cluster.shardraft("transfer", "--all", "--to", "2", "--json")))
    assert {(each["shard"], each["leader"]) for each in told["done"]} == {(1, 2), (2, 2), (3, 2), (4, 2)}
    assert told["failed"] == []
    assert set(leaders(cluster).values()) == {2}


def test_a_transfer_to_a_stranger_is_refused_with_the_hosts_there_are(cluster: DevCluster) -> None:
    ran = cluster.shardraft("transfer", "--shard", "1", "--to", "9")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert "error: shard 1: host 9 holds no replica of shard 1; hosts " in ran.stderr.decode()
    assert "host 9 has no voter of any shard" in refused(cluster.shardraft("transfer", "--all", "--to", "9"), 2)


def test_a_transfer_names_one_shard_or_all_of_them(cluster: DevCluster) -> None:
    refused(cluster.shardraft("transfer", "--to", "1"), 2)
    refused(cluster.shardraft("transfer", "--to", "1", "--all", "--shard", "1"), 2)


def test_a_snapshot_flushes_every_replica_and_cuts_its_log(cluster: DevCluster) -> None:
    out(cluster.shardraft("put", "snapshot/a", "x" * 10_000))

    def logs_are_short() -> bool:
        # A follower that lacks the last entry at that moment keeps a leader's log a little longer.
        told = json.loads(out(cluster.shardraft("snapshot", "--json")))
        assert {(each["shard"], each["host"]) for each in told["done"]} == {
            (shard, host) for shard in range(1, 5) for host in range(1, 4)
        }
        return all(each["log_bytes"] == 0 and each["first_index"] == each["index"] + 1 for each in told["done"])

    eventually(logs_are_short)
    lines = out(cluster.shardraft("snapshot", "--shard", "2")).splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == [f"shard 2 on host {host}" for host in (1, 2, 3)]
    assert all("flushed through index" in line for line in lines)
    assert "no host holds shard 99" in refused(cluster.shardraft("snapshot", "--shard", "99"), 2)
    assert out(cluster.shardraft("get", "snapshot/a")) == "x" * 10_000 + "\n"


def test_the_status_tells_the_voters(cluster: DevCluster) -> None:
    status: dict[str, Any] = json.loads(cluster.shardraft("status", "--json").stdout)
    assert all(shard["voters"] == [1, 2, 3] for shard in status["shards"])
    assert all(shard["staging"] == shard["voters_outgoing"] == [] for shard in status["shards"])
    assert "change" not in out(cluster.shardraft("status"))


def test_ctrl_c_says_that_what_was_begun_goes_on() -> None:
    command = [*SHARDRAFT, "transfer", "--shard", "1", "--to", "2", "--endpoint", "127.0.0.1:1", "--timeout", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"shard 1: handing over to host 2\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"error: interrupted; what was begun goes on (see shardraft status)\n"
        assert process.wait(30) == 130
