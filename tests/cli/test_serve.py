"""``shardraft host`` and ``learner`` turn a command line into options, and refuse what cannot be a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from shardraft.cli import main
from shardraft.server.options import ServerOptions
from shardraft.shards.shard_map import Partitioning
from shardraft.types import Endpoint

Captured = pytest.CaptureFixture[str]
PEERS = ["--peer", "1=10.0.0.1:7400", "--peer", "3=10.0.0.3:7400", "--peer", "2=10.0.0.2:7400"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ServerOptions]:
    """What processes would have been started with; each of them ends with exit code 0 at once."""
    seen: list[ServerOptions] = []
    app = ModuleType("shardraft.server.app")
    app.run = lambda options: seen.append(options) or 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shardraft.server.app", app)
    return seen


def test_a_host_is_started_with_its_peers_in_order(started: list[ServerOptions]) -> None:
    arguments = ["host", "--id", "2", "--listen", "10.0.0.2:7400", "--data-dir", "/data", *PEERS]
    assert main.run([*arguments, "--shards", "64", "--partitioning", "range", "--cluster", "blue", "--insecure"]) == 0
    (options,) = started
    assert options.host == 2
    assert options.listen == Endpoint("10.0.0.2", 7400)
    assert options.peers == tuple((number, Endpoint(f"10.0.0.{number}", 7400)) for number in (1, 2, 3))
    assert (options.shards, options.partitioning, options.cluster_token) == (64, Partitioning.RANGE, "blue")
    assert (options.data_dir, options.insecure, options.parents) == (Path("/data"), True, ())


def test_what_is_not_said_has_a_default(started: list[ServerOptions]) -> None:
    main.run(["host", "--id", "1", "--listen", "127.0.0.1:1", "--data-dir", "/data", "--peer", "1=127.0.0.1:1"])
    (options,) = started
    assert (options.log_level, options.log_format) == ("info", "text")
    assert (options.insecure, options.exit_with_parent, options.advertise) == (False, False, None)
    assert (options.shards, options.partitioning) == (8, Partitioning.HASH)


def test_a_learner_is_started_with_its_parents_in_the_order_given(started: list[ServerOptions]) -> None:
    arguments = ["learner", "--id", "201", "--listen", "[::1]:7400", "--data-dir", "/data"]
    assert main.run([*arguments, "--parent", "b:2,a:1", "--parent", "c:3", "--advertise", "me:7400"]) == 0
    (options,) = started
    assert options.parents == (Endpoint("b", 2), Endpoint("a", 1), Endpoint("c", 3))
    assert options.peers == ()
    assert (options.listen, options.advertise) == (Endpoint("::1", 7400), Endpoint("me", 7400))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--id", "4", *PEERS], "--peer must name this host too: --peer 4=10.0.0.9:7400"),
        (["--id", "1", *PEERS[:4]], "a group has 1, 3 or 5 voters, so a cluster has 1, 3 or 5 hosts, not 2"),
        (["--id", "1", *PEERS, "--peer", "1=10.0.0.7:7400"], "--peer names a host twice: 1, 1, 2, 3"),
        (["--id", "1", "--peer", "10.0.0.1:7400"], "not of the form ID=HOST:PORT"),
        (["--id", "1", "--peer", "0=10.0.0.1:7400"], "not of the form ID=HOST:PORT"),
        (["--id", "1", "--peer", "1=10.0.0.1"], "not of the form HOST:PORT"),
        (["--id", "0", *PEERS], "not in the range"),
        (["--id", "1", *PEERS, "--shards", "0"], "not in the range"),
        (["--id", "1", *PEERS, "--empty"], "name one of its hosts with --join"),
    ],
)
def test_what_cannot_be_a_cluster_is_refused(
    arguments: list[str], said: str, started: list[ServerOptions], capsys: Captured
) -> None:
    assert main.run(["host", "--listen", "10.0.0.9:7400", "--data-dir", "/data", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert started == []


def test_a_learner_without_a_parent_is_refused(started: list[ServerOptions], capsys: Captured) -> None:
    assert main.run(["learner", "--id", "1", "--listen", "a:1", "--data-dir", "/data", "--parent", ","]) == 2
    assert "--parent names no host" in capsys.readouterr().err
    assert started == []
