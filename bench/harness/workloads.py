"""What each kind of row does, and what it measures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import cycle
from random import Random

import anyio
import attrs

from bench.harness.failover import failover
from bench.harness.histogram import count_of, fold
from bench.harness.keys import value_of
from bench.harness.load import Load
from bench.harness.ports import Driver
from bench.harness.process import Meter, Usage
from bench.harness.rows import SIMULATED, Kind, Measurement, Row
from bench.harness.stage import Stage
from bench.harness.ycsb import ycsb

SETTLE_SECONDS = 2.0
"""Before memory is measured, so that what was just done is finished."""
SEED = 20_14
"""Of everything drawn at random: each system gets the same keys in the same order."""


async def run_row(stage: Stage, row: Row) -> Measurement:
    """Run one row; whatever goes wrong is raised."""
    return await _RUN[row.kind](stage, row)


async def run_driven_row(stage: Stage, row: Row, driver: Driver) -> Measurement:
    """Run one row with a load generator that is a program of its own."""
    await driver.prepare(row)
    warm_up = [await driver.drive(row, row.warm_up_seconds)] if row.warm_up_seconds else []
    meter = Meter(stage.servers.pids)
    meter.begin()
    driven = await driver.drive(row, row.seconds)
    usage = meter.end()
    stage.servers.check()
    checked, wrong = await driver.check(row, [*warm_up, driven])
    return attrs.evolve(
        measurement(None, usage, read_back=checked, wrong=wrong),
        operations=driven.operations,
        calls=count_of(driven.histogram),
        seconds=driven.seconds,
        histogram=driven.histogram,
    )


async def _writes(stage: Stage, row: Row) -> Measurement:
    keys, client, batch = stage.keys, stage.client, row.batch
    first = keys.next_number

    async def put() -> int:
        key = keys.take()
        await client.put(key, value_of(key))
        return 1

    async def put_batch() -> int:
        taken = [keys.take() for _ in range(batch)]
        await client.put_batch([(key, value_of(key)) for key in taken])
        return batch

    load, usage = await stage.measure(row, put if row.kind is Kind.PUTS else put_batch)
    written = range(first, keys.next_number)
    read_back, wrong = await stage.read_back(written)
    return measurement(load, usage, written=len(written), read_back=read_back, wrong=wrong)


async def _atomic_batches(stage: Stage, row: Row) -> Measurement:
    """Keys of one batch share a tag, since only the keys of one shard can be written all or nothing."""
    keys, client = stage.keys, stage.client
    batches: list[list[bytes]] = []

    async def put_batch() -> int:
        tag = keys.take()[:8]
        taken = [b"{%b}%06x" % (tag, place) for place in range(row.batch)]
        await client.put_atomic([(key, value_of(key)) for key in taken])
        batches.append(taken)
        return row.batch

    load, usage = await stage.measure(row, put_batch)
    chosen = batches[:: max(1, len(batches) // 100)]
    wrong = sum([stage.count_wrong(part, await client.get_many(part)) for part in chosen])
    written = len(batches) * row.batch
    return measurement(load, usage, written=written, read_back=len(chosen) * row.batch, wrong=wrong)


async def _reads(stage: Stage, row: Row) -> Measurement:
    await stage.load(row.records)
    if row.kind is Kind.STALE_GETS:
        await stage.catch_up()
    read = stage.client.stale_get if row.kind is Kind.STALE_GETS else stage.client.get
    keys = cycle(Random(SEED).sample(stage.loaded, len(stage.loaded)))
    wrong = 0

    async def get() -> int:
        nonlocal wrong
        key = next(keys)
        if await read(key) != value_of(key):
            wrong += 1
        return 1

    load, usage = await stage.measure(row, get)
    return measurement(load, usage, read_back=load.operations, wrong=wrong)


async def _get_many(stage: Stage, row: Row) -> Measurement:
    await stage.load(row.records)
    order = Random(SEED).sample(stage.loaded, len(stage.loaded))
    starts = cycle(range(0, len(order) - row.batch + 1, row.batch))
    wrong = 0

    async def get_many() -> int:
        nonlocal wrong
        start = next(starts)
        keys = order[start : start + row.batch]
        found = await stage.client.get_many(keys)
        wrong += stage.count_wrong(keys, found)
        return len(keys)

    load, usage = await stage.measure(row, get_many)
    return measurement(load, usage, read_back=load.operations, wrong=wrong)


async def _scan(stage: Stage, row: Row) -> Measurement:
    await stage.load(row.records)
    expected = {key: value_of(key) for key in stage.loaded}
    wrong = 0

    async def scan() -> int:
        nonlocal wrong
        found = await stage.client.scan_all()
        wrong += len(expected.items() ^ set(found)) + len(found) - len(dict(found))
        return len(found)

    load, usage = await stage.measure(row, scan)
    return measurement(load, usage, read_back=load.operations, wrong=wrong)


async def _idle(stage: Stage, row: Row) -> Measurement:
    await anyio.sleep(row.warm_up_seconds)
    meter = Meter(stage.servers.pids)
    meter.begin()
    await anyio.sleep(row.seconds)
    usage = meter.end()
    stage.servers.check()
    return measurement(None, usage)


async def _memory(stage: Stage, row: Row) -> Measurement:
    first = stage.keys.next_number
    meter = Meter(stage.servers.pids)
    meter.begin()
    await stage.load(row.records)
    await anyio.sleep(SETTLE_SECONDS)
    usage = meter.end()
    read_back, wrong = await stage.read_back(range(first, stage.keys.next_number))
    return attrs.evolve(measurement(None, usage), written=row.records, read_back=read_back, wrong=wrong)


def measurement(
    load: Load | None, usage: Usage, *, written: int = 0, read_back: int = 0, wrong: int = 0
) -> Measurement:
    """Put together what was timed, what was spent and what was checked."""
    return Measurement(
        operations=load.operations if load else 0,
        calls=len(load.latencies_ns) if load else 0,
        seconds=load.seconds if load else usage.seconds,
        histogram=fold(load.latencies_ns) if load else "",
        cpu_seconds=usage.cpu_seconds,
        client_cpu_seconds=usage.client_cpu_seconds,
        disk_bytes=usage.disk_bytes,
        rss_bytes=usage.rss_bytes,
        rss_bytes_largest=usage.rss_bytes_largest,
        others_share=usage.others_share,
        written=written,
        read_back=read_back,
        wrong=wrong,
    )


async def _ycsb(stage: Stage, row: Row) -> Measurement:
    load, usage, checked, wrong = await ycsb(stage, row, SEED)
    return measurement(load, usage, read_back=checked, wrong=wrong)


async def _failover(stage: Stage, row: Row) -> Measurement:
    load, usage, gaps, read_back, wrong = await failover(stage, row)
    found = measurement(load, usage, written=load.operations, read_back=read_back, wrong=wrong)
    # What a killed process had spent is gone with it.
    return attrs.evolve(found, samples=tuple(gaps), cpu_seconds=0.0, disk_bytes=0)


_RUN: dict[Kind, Callable[[Stage, Row], Awaitable[Measurement]]] = {
    Kind.PUTS: _writes,
    Kind.BATCHES: _writes,
    Kind.ATOMIC_BATCHES: _atomic_batches,
    Kind.GETS: _reads,
    Kind.STALE_GETS: _reads,
    Kind.GET_MANY: _get_many,
    Kind.SCAN: _scan,
    Kind.YCSB: _ycsb,
    Kind.FAILOVER: _failover,
    Kind.IDLE: _idle,
    Kind.MEMORY: _memory,
}
assert set(_RUN) == set(Kind) - SIMULATED, "every kind of row can be run; these have a driver"
