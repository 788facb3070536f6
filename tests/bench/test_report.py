"""Results, targets and the table: no number without its workload, its version and its promise on disk."""

from __future__ import annotations

import json
from array import array
from io import StringIO
from pathlib import Path

import attrs
import pytest
from rich.console import Console

from bench.__main__ import save
from bench.harness.histogram import fold
from bench.harness.picture import draw, series
from bench.harness.results import Results
from bench.harness.rows import Measurement, Outcome
from bench.harness.table import print_table
from bench.harness.targets import TARGETS

MEASURED = Measurement(
    operations=10_000,
    calls=10_000,
    seconds=2.0,
    histogram=fold(array("q", [2_000_000] * 99 + [9_000_000])),
    cpu_seconds=1.0,
    disk_bytes=5_000_000,
    rss_bytes=3 << 20,
    rss_bytes_largest=1 << 20,
    read_back=10_000,
)


def outcome(key: str, system: str, measured: Measurement | None = MEASURED, failure: str = "") -> Outcome:
    return Outcome(
        key=key,
        system=system,
        workload=f"{key} in words",
        unit="puts",
        version=f"{system} 1.0",
        promise="on a majority",
        measurement=measured,
        failure=failure,
    )


def printed(results: Results) -> str:
    text = StringIO()
    print_table(results, ["a last sentence"], console=Console(file=text, width=260))
    return text.getvalue()


def test_rates_follow_from_the_sums_of_all_rounds() -> None:
    second = attrs.evolve(MEASURED, operations=30_000, cpu_seconds=3.0, rss_bytes=5 << 20)
    line = Results([outcome("puts-1", "etcd"), outcome("puts-1", "etcd", second)]).line("puts-1", "etcd")
    assert line is not None
    assert line.measurement is not None
    assert line.per_second == 10_000
    assert line.rounds == (5_000, 15_000)
    assert line.cpu_us_per_operation == 100
    assert line.disk_bytes_per_operation == 250
    assert line.measurement.rss_bytes == 5 << 20
    assert line.percentiles == pytest.approx((2, 2, 9), rel=1e-3)


def test_one_failed_round_fails_the_row() -> None:
    results = Results([outcome("puts-1", "etcd"), outcome("puts-1", "etcd", None, "it timed out")])
    assert [line.failure for line in results.failed] == ["it timed out"]
    assert results.failed[0].per_second is None


@pytest.mark.parametrize("missing", ["workload", "version", "promise"])
def test_a_number_without_workload_version_or_promise_cannot_exist(missing: str) -> None:
    fields = outcome("puts-1", "etcd").to_json() | {missing: ""}
    with pytest.raises(AssertionError, match="a number has its"):
        Outcome.from_json(fields)


def test_a_row_has_either_a_number_or_a_reason() -> None:
    with pytest.raises(AssertionError):
        outcome("puts-1", "etcd", None)
    with pytest.raises(AssertionError):
        outcome("puts-1", "etcd", MEASURED, "failed too")


def test_the_row_of_a_number_names_workload_version_and_promise() -> None:
    lines = [line for line in printed(Results([outcome("puts-1", "etcd")])).splitlines() if "5,000 puts/s" in line]
    assert len(lines) == 1
    for text in ("puts-1 in words", "etcd 1.0", "on a majority", "2.00", "9.01", "100", "500"):
        assert text in lines[0]


def test_a_failed_row_says_so_and_shows_no_number() -> None:
    text = printed(Results([outcome("puts-1", "etcd", None, "read back something else: 3 of 9 wrong")]))
    assert "FAILED" in text
    assert "3 of 9 wrong" in text.replace("\n", "")
    assert "puts/s" not in text


def test_a_target_stands_beside_its_row_with_value_and_verdict() -> None:
    slower = attrs.evolve(MEASURED, operations=2_000)
    text = printed(Results([outcome("puts-64", "shardraft"), outcome("puts-64", "etcd", slower)]))
    assert "rate / etcd's: 5, ≥ 4 ✓" in text
    assert "rate / etcd's with h2load: ≥ 2, not measured" in text


def test_a_target_is_missed_below_its_bound_and_unknown_when_a_row_failed() -> None:
    target = next(target for target in TARGETS if target.key == "puts-64" and target.other == ("puts-64", "etcd"))
    equal = Results([outcome("puts-64", "shardraft"), outcome("puts-64", "etcd")])
    assert target.value(equal) == 1
    assert target.describe(equal).endswith("✗")
    assert target.value(Results([outcome("puts-64", "shardraft"), outcome("puts-64", "etcd", None, "x")])) is None


def test_the_gaps_of_a_failover_have_their_targets() -> None:
    gaps = attrs.evolve(MEASURED, samples=(0.1, 0.2, 0.9))
    text = printed(Results([outcome("failover", "shardraft", gaps)]))
    assert "median gap in s: 0.2, ≤ 0.3 ✓" in text
    assert "longest gap in s: 0.9, ≤ 0.6 ✗" in text


def test_other_programs_that_disturbed_a_row_are_named() -> None:
    text = printed(Results([outcome("puts-1", "etcd", attrs.evolve(MEASURED, others_share=0.5))]))
    assert "others took 50%" in text


def test_json_holds_everything_and_the_picture_is_written(tmp_path: Path) -> None:
    rows = [
        outcome(key, "shardraft") for key in ("puts-1", "puts-64", "puts-256", "puts-256-shards-8", "stale-gets-64")
    ]
    results = Results([*rows, outcome("puts-1", "etcd", None, "it timed out")])
    save(results, tmp_path / "run.json", "a machine", ["nats is skipped: no nats."])
    saved = json.loads((tmp_path / "run.json").read_text())
    assert saved["run"] == "a machine"
    assert len(saved["rows"]) == 6
    assert saved["rows"][0]["per_second"] == 5_000
    assert saved["rows"][0]["promise"] == "on a majority"
    assert saved["rows"][5]["failure"] == "it timed out"
    assert draw(results, tmp_path / "run.png", "a machine") == f"Picture: {tmp_path / 'run.png'}"
    assert (tmp_path / "run.png").stat().st_size > 10_000
    assert [number for number, _ in series(results, "puts")["shardraft"]] == [1, 64, 256]
