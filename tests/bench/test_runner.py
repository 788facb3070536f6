"""Blocks run in processes of their own, which may crash, hang or say less than they should."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.__main__ import usable
from bench.harness.launching import Processes, StartError, free_ports
from bench.harness.process import Meter, cpu_seconds, own_seconds
from bench.harness.rows import Block, Cluster, Kind, Outcome, Row
from bench.harness.runner import run_blocks
from tests.bench.fake import FakeSystem

ROWS = (Row(key="puts-1", kind=Kind.PUTS), Row(key="puts-2", kind=Kind.PUTS, in_flight=2))
REPORT = """
import json, sys
block = json.loads(sys.stdin.readline())
for row in block["rows"][:{count}]:
    print(json.dumps(dict(key=row["key"], system="fake", workload="w", unit="puts", version="1", promise="p",
        measurement=None, failure="seen")), flush=True)
{then}
"""


def run_script(
    tmp_path: Path, script: str, *, seconds_max: float = 20.0, run_seconds_max: float = 60.0
) -> list[Outcome]:
    block = Block(number=1, system="fake", cluster=Cluster(), rows=ROWS, seconds_max=seconds_max)
    return run_blocks(
        [block],
        {"fake": FakeSystem()},
        tmp_path,
        seconds_max=run_seconds_max,
        report=lambda _block, _outcome: None,
        command=(sys.executable, "-c", script),
    )


def test_what_a_block_reports_is_the_result_and_its_directory_goes(tmp_path: Path) -> None:
    assert [outcome.failure for outcome in run_script(tmp_path, REPORT.format(count=2, then=""))] == ["seen", "seen"]
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_dies_fails_its_other_rows_with_its_last_words(tmp_path: Path) -> None:
    first, second = run_script(tmp_path, REPORT.format(count=1, then="sys.exit('no more')"))
    assert (first.failure, second.key) == ("seen", "puts-2")
    assert second.failure == "the client ended with code 1: no more"
    assert second.workload == "puts, 2 in flight; 3 fakes"
    assert (tmp_path / "block-1" / "client.log").exists(), "what it said is kept"


def test_a_block_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.harness.runner.STOP_SECONDS_MAX", 0.1)
    outcomes = run_script(tmp_path, REPORT.format(count=1, then="import signal; signal.pause()"), seconds_max=0.5)
    assert [outcome.failure for outcome in outcomes] == ["seen", "it timed out"]


def test_the_block_that_runs_when_the_time_is_over_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.harness.runner.STOP_SECONDS_MAX", 0.1)
    script = REPORT.format(count=1, then="import signal; signal.pause()")
    outcomes = run_script(tmp_path, script, seconds_max=600.0, run_seconds_max=0.5)
    assert [outcome.failure for outcome in outcomes] == ["seen", "it timed out"]


def test_when_the_time_is_used_up_the_rest_is_not_run(tmp_path: Path) -> None:
    outcomes = run_script(tmp_path, "raise SystemExit('must not run')", run_seconds_max=-1.0)
    assert {outcome.failure for outcome in outcomes} == {"not run: the time for the whole run is used up"}
    assert [outcome.key for outcome in outcomes] == ["puts-1", "puts-2"]


def test_a_system_that_is_not_installed_is_skipped_with_a_sentence() -> None:
    systems = {"here": FakeSystem("here"), "gone": FakeSystem("gone", missing="gone is not installed")}
    found, sentences = usable(dict(systems), [])
    assert list(found) == ["here"]
    assert sentences == ["gone is skipped: gone is not installed."]


def test_only_the_systems_asked_for_are_used_and_an_unknown_one_is_an_error() -> None:
    systems = {"one": FakeSystem("one"), "two": FakeSystem("two")}
    assert list(usable(dict(systems), ["two"])[0]) == ["two"]
    with pytest.raises(SystemExit, match="no system called three"):
        usable(dict(systems), ["three"])


def test_a_server_that_ends_is_noticed_with_its_last_words(tmp_path: Path) -> None:
    servers = Processes(tmp_path)
    servers.start("quick", [sys.executable, "-c", "print('a word'); raise SystemExit(3)"])
    os.waitid(os.P_PID, servers.pids[0], os.WEXITED | os.WNOWAIT)
    with pytest.raises(StartError, match="quick ended with code 3: a word"):
        servers.check()


def test_servers_stop_and_a_killed_one_starts_again(tmp_path: Path) -> None:
    servers = Processes(tmp_path)
    servers.start("one", [sys.executable, "-c", "import signal; signal.pause()"])
    servers.kill("one")
    servers.start_again("one")
    servers.check()
    assert len(servers.pids) == 1
    servers.stop()
    with pytest.raises(StartError):
        servers.check()


def test_free_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_the_meter_sees_the_work_of_a_process() -> None:
    meter = Meter([os.getpid()])
    meter.begin()
    before = own_seconds()
    while own_seconds() - before < 0.02:
        pass
    usage = meter.end()
    assert usage.cpu_seconds >= 0.02
    assert usage.rss_bytes == usage.rss_bytes_largest > 1 << 20
    assert usage.seconds > 0


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert cpu_seconds(2**22 + 1) == 0
