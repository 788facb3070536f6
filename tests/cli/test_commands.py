"""The commands that use a cluster, each run as a process against a real one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.dev_cluster import SHARDRAFT, DevCluster
from tests.eventually import eventually

BINARY = bytes(range(256))


def out(ran: subprocess.CompletedProcess[bytes]) -> str:
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


def refused(ran: subprocess.CompletedProcess[bytes], code: int) -> str:
    """The one line that a failed command prints."""
    assert (ran.returncode, ran.stdout) == (code, b"")
    line = ran.stderr.decode()
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def revision_of(ran: subprocess.CompletedProcess[bytes]) -> int:
    word, number = out(ran).split()
    assert word == "revision"
    return int(number)


def test_what_is_put_is_got_and_what_is_deleted_is_gone(cluster: DevCluster) -> None:
    revision_of(cluster.shardraft("put", "life/a", "hello, wörld"))
    assert out(cluster.shardraft("get", "life/a")) == "hello, wörld\n"
    assert out(cluster.shardraft("delete", "life/a")).startswith("deleted at revision ")
    assert "no such key: life/a" in refused(cluster.shardraft("get", "life/a"), 1)
    assert out(cluster.shardraft("delete", "life/a")) == "no such key\n"


def test_compare_and_set_by_revision_and_by_absence(cluster: DevCluster) -> None:
    first = revision_of(cluster.shardraft("put", "cas/a", "1", "--if-absent"))
    refused(cluster.shardraft("put", "cas/a", "2", "--if-absent"), 1)
    second = revision_of(cluster.shardraft("put", "cas/a", "2", "--if-revision", str(first)))
    assert second > first
    refused(cluster.shardraft("put", "cas/a", "3", "--if-revision", str(first)), 1)
    refused(cluster.shardraft("delete", "cas/a", "--if-revision", str(first)), 1)
    assert out(cluster.shardraft("get", "cas/a")) == "2\n"


def test_any_bytes_go_in_and_out_through_files_and_pipes(cluster: DevCluster, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(BINARY)
    out(cluster.shardraft("put", "bin/file", "--file", str(source)))
    out(cluster.shardraft("get", "bin/file", "--file", str(copy)))
    assert copy.read_bytes() == BINARY
    out(cluster.shardraft("put", "bin/pipe", "--file", "-", stdin=BINARY))
    assert cluster.shardraft("get", "bin/pipe", "--file", "-").stdout == BINARY


def test_a_value_that_is_not_text_is_not_thrown_at_the_terminal(cluster: DevCluster) -> None:
    out(cluster.shardraft("put", "bin/raw", "--file", "-", stdin=b"\xff\xfe"))
    assert "use --file PATH, --file - or --base64" in refused(cluster.shardraft("get", "bin/raw"), 1)


def test_keys_and_values_in_base64(cluster: DevCluster) -> None:
    out(cluster.shardraft("put", "--base64", "/wA=", "/v8="))
    assert out(cluster.shardraft("get", "--base64", "/wA=")) == "/v8=\n"
    record = json.loads(out(cluster.shardraft("get", "--base64", "/wA=", "--json")))
    assert (record["key_base64"], record["value_base64"]) == ("/wA=", "/v8=")


def test_a_stale_read_comes_from_the_highest_tier_and_says_so(cluster: DevCluster) -> None:
    revision = revision_of(cluster.shardraft("put", "stale/a", "1"))

    def arrived() -> bool:
        record = json.loads(cluster.shardraft("get", "stale/a", "--stale", "--json").stdout)
        assert record["tier"] == 2
        assert record["served_by"] == cluster.places["learners"][1]["endpoint"]
        return bool(record["revision"] == revision)

    eventually(arrived)


def test_json_of_an_absent_key_has_no_value(cluster: DevCluster) -> None:
    ran = cluster.shardraft("get", "absent", "--json")
    record = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert "value" not in record
    assert record["revision"] is None


def test_a_scan_lists_in_order_within_bounds(cluster: DevCluster) -> None:
    for name in ("b", "a", "c", "d"):
        out(cluster.shardraft("put", f"scan/{name}", name.upper()))
    assert out(cluster.shardraft("scan", "scan/")) == "scan/a\tA\nscan/b\tB\nscan/c\tC\nscan/d\tD\n"
    assert out(cluster.shardraft("scan", "scan/", "--keys-only", "--limit", "2")) == "scan/a\nscan/b\n"
    bounded = cluster.shardraft("scan", "scan/", "--start", "scan/b", "--end", "scan/d", "--keys-only")
    assert out(bounded) == "scan/b\nscan/c\n"
    unordered = out(cluster.shardraft("scan", "scan/", "--unordered", "--keys-only"))
    assert sorted(unordered.split()) == ["scan/a", "scan/b", "scan/c", "scan/d"]


def test_a_scan_escapes_what_would_break_its_lines(cluster: DevCluster) -> None:
    out(cluster.shardraft("put", "lines/a", "--file", "-", stdin=b"1\n2\t\x1b\xff"))
    assert out(cluster.shardraft("scan", "lines/")) == "lines/a\t1\\n2\\t\\x1b\\xff\n"
    (line,) = out(cluster.shardraft("scan", "lines/", "--json")).splitlines()
    assert json.loads(line) == {"key": "lines/a", "value_base64": "MQoyCRv/"}


def test_export_then_import_then_export_gives_the_same_bytes(cluster: DevCluster, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "binary").write_bytes(BINARY)
    (tree / "empty").write_bytes(b"")
    for number in range(300):
        (tree / f"text-{number}").write_text(f"number {number}\nwörld\u2028")
    assert "written 302 keys" in out(cluster.shardraft("import", str(tree), "--prefix", "tree/"))
    assert cluster.shardraft("get", "tree/deep/binary", "--file", "-").stdout == BINARY
    first, second = tmp_path / "first", tmp_path / "second"
    out(cluster.shardraft("export", str(first), "--prefix", "tree/"))
    assert first.read_bytes().count(b"\n") == 302
    for line in first.read_bytes().splitlines()[:3]:
        out(cluster.shardraft("delete", json.loads(line)["key"]))
    assert "written 302 keys" in out(cluster.shardraft("import", str(first)))
    out(cluster.shardraft("export", str(second), "--prefix", "tree/"))
    assert second.read_bytes() == first.read_bytes()
    assert cluster.shardraft("export", "--prefix", "tree/").stdout == first.read_bytes()


def test_an_import_from_a_pipe_tells_written_from_not_written(cluster: DevCluster, tmp_path: Path) -> None:
    large = json.dumps({"key": "part/large", "value": "x" * (1 << 20 | 1)}).encode()
    lines = b"\n".join([b'{"key": "part/a", "value": "1"}', large, b'{"key_base64": "cGFydC9i", "value": "2"}'])
    failed = tmp_path / "failed"
    ran = cluster.shardraft("import", "-", "--failed", str(failed), stdin=lines)
    assert ran.returncode == 2
    assert "written 2 keys" in ran.stdout.decode()
    said = ran.stderr.decode()
    assert "not written: part/large: " in said
    assert "error: incomplete import: 2 written, 1 not written, 0 unknown" in said
    assert json.loads(failed.read_text())["key"] == "part/large"
    assert out(cluster.shardraft("scan", "part/")) == "part/a\t1\npart/b\t2\n"


def test_an_import_stops_at_a_line_that_is_no_record(cluster: DevCluster) -> None:
    ran = cluster.shardraft("import", "-", stdin=b'{"key": "bad/a", "value": "1"}\nnonsense\n')
    assert ran.returncode == 2
    assert "nothing sent after record 1: line 2: not JSON" in ran.stderr.decode()


def test_the_status_names_every_leader_and_every_learner(cluster: DevCluster) -> None:
    value = json.loads(out(cluster.shardraft("status", "--json")))
    assert [host["id"] for host in value["hosts"]] == [1, 2, 3]
    assert [shard["shard"] for shard in value["shards"]] == [1, 2, 3, 4]
    assert all(shard["leader"] in (1, 2, 3) and shard["term"] >= 1 for shard in value["shards"])
    assert [(learner["id"], learner["tier"]) for learner in value["learners"]] == [(101, 1), (201, 2)]
    assert value["unreachable"] == []
    shown = out(cluster.shardraft("status"))
    assert {"leader", "term", "commit", "learner", "tier"} <= set(shown.split())


@pytest.mark.parametrize("key", ["", "k" * 481])
def test_a_key_of_an_impossible_length_is_a_usage_error(cluster: DevCluster, key: str) -> None:
    refused(cluster.shardraft("put", key, "v"), 2)


def test_a_value_that_is_too_large_is_a_usage_error(cluster: DevCluster) -> None:
    refused(cluster.shardraft("put", "large", "--file", "-", stdin=bytes(1 << 20 | 1)), 2)


@pytest.mark.parametrize("arguments", [("get", "k"), ("put", "k", "v"), ("scan",), ("export",)])
def test_where_nobody_listens_the_exit_code_is_3(arguments: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [*SHARDRAFT, *arguments, "--endpoint", "127.0.0.1:1", "--timeout", "0.5"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    refused(ran, 3)


def test_the_status_of_nobody_says_who_is_silent() -> None:
    ran = subprocess.run(
        [*SHARDRAFT, "status", "--json", "--endpoint", "127.0.0.1:1", "--timeout", "0.5"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 3
    assert json.loads(ran.stdout)["unreachable"][0]["endpoint"] == "127.0.0.1:1"


def test_a_reader_that_has_seen_enough_ends_a_scan_quietly(cluster: DevCluster, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).write_bytes(b"x" * 2000)
    out(cluster.shardraft("import", str(tmp_path), "--prefix", "pipe/"))
    command = f"{' '.join(SHARDRAFT)} scan pipe/ | head -n 1"
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, env=cluster.environment, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.count(b"\n") == 1


def test_an_interrupted_import_says_in_one_line_what_became_of_its_records(cluster: DevCluster) -> None:
    command = [*SHARDRAFT, "import", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cluster.environment
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for number in range(2000):
            process.stdin.write(b'{"key": "interrupted/%d", "value": "1"}\n' % number)
        process.stdin.flush()
        eventually(lambda: bool(out(cluster.shardraft("scan", "interrupted/", "--limit", "1"))))
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait(30) == 130
    assert re.fullmatch(r"error: interrupted: \d+ written, 0 not written, \d+ unknown; importing again is safe\n", said)
