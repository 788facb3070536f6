"""Every kind of row on a system that is a dictionary, and what happens when that dictionary lies."""

from __future__ import annotations

import anyio
import pytest

from bench.harness.block import BlockRunner, describe
from bench.harness.failover import longest_gap
from bench.harness.load import run_load
from bench.harness.rows import Block, Cluster, Kind, Measurement, Outcome, Row
from bench.harness.stage import Stage
from bench.harness.workloads import run_row
from bench.harness.zipfian import Zipfian
from tests.bench.fake import FakeClient, FakeServers, FakeSystem, fast_row

ROWS = {
    Kind.PUTS: fast_row(Kind.PUTS, in_flight=4),
    Kind.BATCHES: fast_row(Kind.BATCHES, in_flight=3, batch=10),
    Kind.ATOMIC_BATCHES: fast_row(Kind.ATOMIC_BATCHES, in_flight=3, batch=10),
    Kind.GETS: fast_row(Kind.GETS, in_flight=4, records=50),
    Kind.STALE_GETS: fast_row(Kind.STALE_GETS, in_flight=4, records=50),
    Kind.GET_MANY: fast_row(Kind.GET_MANY, in_flight=4, records=50, batch=10),
    Kind.SCAN: fast_row(Kind.SCAN, records=50),
    Kind.YCSB: fast_row(Kind.YCSB, in_flight=4, records=50, mix="A"),
}


def run(row: Row, client: FakeClient | None = None) -> Measurement:
    system = FakeSystem(client=client)

    async def main() -> Measurement:
        return await run_row(Stage(system, FakeServers(), system.client), row)

    return anyio.run(main, backend="trio")


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_counts_what_it_did_and_reads_it_back(kind: Kind) -> None:
    found = run(ROWS[kind])
    assert found.wrong == 0
    assert found.calls > 0
    per_call = {Kind.SCAN: 50}.get(kind, ROWS[kind].batch)
    assert found.operations == found.calls * per_call, "no operation is lost or counted twice among concurrent calls"
    assert found.read_back > 0
    assert found.seconds >= ROWS[kind].seconds
    assert found.rss_bytes >= found.rss_bytes_largest > 0


@pytest.mark.parametrize("mix", "ABCDEF")
def test_every_mix_runs_and_checks_every_read(mix: str) -> None:
    found = run(fast_row(Kind.YCSB, in_flight=4, records=50, mix=mix))
    assert found.wrong == 0
    assert found.operations == found.calls > 0
    assert found.read_back >= 50


@pytest.mark.parametrize("kind", [Kind.PUTS, Kind.BATCHES, Kind.YCSB])
def test_an_acknowledged_write_that_is_gone_is_found(kind: Kind) -> None:
    assert run(ROWS[kind], FakeClient(lost=7)).wrong > 0


@pytest.mark.parametrize("kind", [Kind.GETS, Kind.GET_MANY, Kind.SCAN])
def test_a_read_of_something_else_is_found(kind: Kind) -> None:
    assert run(ROWS[kind], FakeClient(lost=7)).wrong > 0


def test_a_read_of_a_replaced_value_is_found() -> None:
    assert run(ROWS[Kind.YCSB], FakeClient(stale=True)).wrong > 0


def test_wrong_values_are_all_counted_although_parts_are_read_at_once() -> None:
    client = FakeClient()
    system = FakeSystem(client=client)
    stage = Stage(system, FakeServers(), client)

    async def main() -> tuple[int, int]:
        await stage.load(2_000)
        client.values.clear()
        return await stage.read_back(range(2_000))

    assert anyio.run(main, backend="trio") == (2_000, 2_000)


def test_idle_and_memory_count_no_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.harness.workloads.SETTLE_SECONDS", 0.0)
    assert run(fast_row(Kind.IDLE)).operations == 0
    found = run(fast_row(Kind.MEMORY, records=200))
    assert (found.written, found.read_back, found.wrong) == (200, 200, 0)


def test_a_failover_kills_as_often_as_asked_and_measures_a_gap_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.harness.failover.CALM_SECONDS", 0.05)
    found = run(Row(key="failover", kind=Kind.FAILOVER, times=3))
    assert len(found.samples) == 3
    assert all(0 < gap < 1 for gap in found.samples)
    assert found.wrong == 0
    assert found.read_back == found.operations > 0


def test_the_longest_gap_is_that_of_neighbours_within_the_time() -> None:
    moments = [0.0, 5.0, 5.1, 7.0, 7.1, 20.0]
    assert longest_gap(moments, 5.05, 8.0) == pytest.approx(12.9), "a gap that begins within the time counts"
    assert longest_gap(moments, 5.05, 7.0) == pytest.approx(1.9)
    assert longest_gap([], 0.0, 1.0) == 0


def test_a_load_ends_with_the_first_error_of_a_call() -> None:
    async def fail() -> int:
        raise ConnectionError("down")

    with pytest.raises(BaseExceptionGroup) as caught:
        anyio.run(run_load, fail, 4, 1.0, backend="trio")
    assert describe(caught.value) == "ConnectionError: down"


def test_few_records_are_hot() -> None:
    ranks = Zipfian(1_000, seed=1, drawn=10_000)
    drawn = [ranks.rank() for _ in range(10_000)]
    assert drawn.count(0) > 20 * drawn.count(500)
    assert set(drawn) <= set(range(1_000))
    again = [ranks.rank() for _ in range(10_000)]
    assert again == drawn


class _Kept(BlockRunner):
    outcomes: list[Outcome]

    def report(self, outcome: Outcome) -> None:  # type: ignore[override]  # An instance of it is told here.
        self.outcomes.append(outcome)


def run_block(client: FakeClient, *rows: Row) -> list[Outcome]:
    system = FakeSystem(client=client)
    runner = _Kept(Block(number=1, system="fake", cluster=Cluster(), rows=rows, seconds_max=10), system)
    runner.outcomes = []
    anyio.run(runner.run, FakeServers(), backend="trio")
    return runner.outcomes


def test_a_row_that_reads_back_something_else_has_no_number() -> None:
    [found] = run_block(FakeClient(lost=7), ROWS[Kind.PUTS])
    assert found.measurement is None
    assert found.failure.startswith("read back something else: ")


def test_a_row_that_fails_says_how_and_the_next_one_runs() -> None:
    failed, idle = run_block(FakeClient(fails=True), ROWS[Kind.PUTS], fast_row(Kind.PUTS, seconds=0.0))
    assert failed.failure == "ConnectionError: the fake is down"
    assert idle.key == "puts"


def test_an_outcome_says_what_was_done_to_what() -> None:
    [found] = run_block(FakeClient(), ROWS[Kind.PUTS])
    assert found.workload == "puts, 4 in flight; 3 fakes"
    assert (found.version, found.promise, found.unit) == ("fake 1.0", "kept in memory", "puts")
    assert Outcome.from_json(found.to_json()) == found
