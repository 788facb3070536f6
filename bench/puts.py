"""Puts per second: 16 byte keys, 256 byte values, every put acknowledged by a synced majority.

Starts its own cluster (3 hosts, 8 shards, no learners) unless ``--endpoint`` names one. One client
process runs each row on trio and on asyncio: 1, 64 and 256 puts in flight, and batches of 100 with 16
of them in flight. Every row writes keys of its own and reads all of them back afterwards.

    python bench/puts.py [--seconds 5] [--endpoint HOST:PORT,...] [--json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import attrs

from shardraft_router import Router, open_router

KEY_BYTES = 16
VALUE_BYTES = 256
BATCH = 100
BATCHES_IN_FLIGHT = 16
WARM_UP_SECONDS = 1.0
START_SECONDS_MAX = 60.0
READ_BACK_KEYS = 1000

Operation = Callable[[Router, "Keys"], Awaitable[None]]


@attrs.frozen(slots=True)
class Row:
    """One line of the result; latencies are of one call, which for a batch is ``BATCH`` puts."""

    loop: str
    what: str
    puts_per_second: float
    p50_ms: float
    p99_ms: float
    puts: int
    read_back: int
    wrong: int


class Keys:
    """Keys of one row, no two of them equal, and for each the one value that belongs to it."""

    def __init__(self, row: int) -> None:
        self._prefix = f"{row:02x}{os.getpid():06x}".encode()[:8]
        self._numbers = itertools.count()
        self.written: list[bytes] = []

    def next(self) -> tuple[bytes, bytes]:
        key = self._prefix + b"%08x" % next(self._numbers)
        assert len(key) == KEY_BYTES
        return key, value_of(key)


def value_of(key: bytes) -> bytes:
    """The value that ``key`` is written with: recognisable, and different for each key."""
    return (key * (VALUE_BYTES // KEY_BYTES))[:VALUE_BYTES]


async def put_one(router: Router, keys: Keys) -> None:
    key, value = keys.next()
    await router.put(key, value)
    keys.written.append(key)


async def put_batch(router: Router, keys: Keys) -> None:
    items = dict(keys.next() for _ in range(BATCH))
    await router.put_many(items)
    keys.written.extend(items)


async def run_for(seconds: float, in_flight: int, router: Router, keys: Keys, operation: Operation) -> list[float]:
    """Keep ``in_flight`` calls under way for ``seconds``; the latency of each that finished in that time."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def work() -> None:
        while (begun := time.perf_counter()) < end:
            await operation(router, keys)
            latencies.append(time.perf_counter() - begun)

    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(work)
    return latencies


async def count_wrong(router: Router, keys: Keys) -> int:
    """Read back everything that was acknowledged; how many keys are missing or hold something else."""
    wrong = 0
    for start in range(0, len(keys.written), READ_BACK_KEYS):
        part = keys.written[start : start + READ_BACK_KEYS]
        found = await router.get_many(part)
        wrong += sum(found.get(key) != value_of(key) for key in part)
    return wrong


async def measure(
    endpoints: str, seconds: float, number: int, loop: str, what: str, in_flight: int, operation: Operation
) -> Row:
    """One row: warm up, run, read back."""
    per_call = BATCH if operation is put_batch else 1
    async with open_router(endpoints) as router:
        keys = Keys(number)
        await run_for(min(WARM_UP_SECONDS, seconds), in_flight, router, keys, operation)
        begun = time.perf_counter()
        latencies = sorted(await run_for(seconds, in_flight, router, keys, operation))
        elapsed = time.perf_counter() - begun
        wrong = await count_wrong(router, keys)
    puts = len(latencies) * per_call
    p50, p99 = (1000 * latencies[int(len(latencies) * share)] for share in (0.50, 0.99))
    return Row(loop, what, puts / elapsed, p50, p99, puts, len(keys.written), wrong)


def run_all(endpoints: str, seconds: float, loops: list[str], report: Callable[[Row], None]) -> list[Row]:
    """All rows on each event loop, one after the other, in one process."""
    cases: list[tuple[str, int, Operation]] = [
        *((f"{count} in flight", count, put_one) for count in (1, 64, 256)),
        (f"batches of {BATCH}", BATCHES_IN_FLIGHT, put_batch),
    ]
    rows = []
    for number, (loop, (what, in_flight, operation)) in enumerate(itertools.product(loops, cases)):
        row = anyio.run(measure, endpoints, seconds, number, loop, what, in_flight, operation, backend=loop)
        report(row)
        rows.append(row)
    return rows


@contextmanager
def own_cluster() -> Iterator[str]:
    """A fresh local cluster while the body runs; yields its endpoints."""
    with tempfile.TemporaryDirectory(prefix="shardraft-bench-") as directory:
        ready = Path(directory, "ready.json")
        command = [sys.executable, "-m", "shardraft", "dev", "--hosts", "3", "--shards", "8", "--learners", "0"]
        command += ["--data-dir", f"{directory}/data", "--ready-file", str(ready), "--no-restart"]
        with open(Path(directory, "dev.log"), "wb") as log:
            dev = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_SECONDS_MAX
            while not ready.exists():
                if dev.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"error: the cluster did not start: {Path(directory, 'dev.log').read_text()}")
                time.sleep(0.05)
            yield ",".join(host["endpoint"] for host in json.loads(ready.read_text())["hosts"])
        finally:
            dev.send_signal(signal.SIGTERM)
            dev.wait()


def print_row(row: Row) -> None:
    checked = "all read back" if not row.wrong else f"{row.wrong} OF {row.read_back} WRONG"
    print(
        f"{row.loop:<8} {row.what:<15} {row.puts_per_second:>9,.0f} puts/s"
        f"   p50 {row.p50_ms:7.2f} ms   p99 {row.p99_ms:7.2f} ms   {row.puts:>9,} puts, {checked}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Puts per second of a three-host cluster on this machine.")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each row runs (default 5)")
    parser.add_argument("--endpoint", help="an existing cluster, HOST:PORT[,...], instead of one of its own")
    parser.add_argument("--loop", choices=["trio", "asyncio"], help="only this event loop (default both)")
    parser.add_argument("--json", action="store_true", help="print one JSON array at the end instead of lines")
    options = parser.parse_args()
    loops = [options.loop] if options.loop else ["trio", "asyncio"]
    report: Callable[[Row], None] = (lambda _row: None) if options.json else print_row
    if options.endpoint:
        rows = run_all(options.endpoint, options.seconds, loops, report)
    else:
        with own_cluster() as endpoints:
            rows = run_all(endpoints, options.seconds, loops, report)
    if options.json:
        print(json.dumps([attrs.asdict(row) for row in rows], indent=2))
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
