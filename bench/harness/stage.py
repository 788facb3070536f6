"""Where the rows of a block run: the client, the servers, what was written so far, and reading it back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import islice

import anyio

from bench.harness.keys import Keys, key_of, spread, value_of
from bench.harness.launching import StartError
from bench.harness.load import Load, Operation, run_load
from bench.harness.ports import Client, Servers, System
from bench.harness.process import Meter, Usage
from bench.harness.rows import Kind, Row

LOAD_BATCH = 100
LOAD_IN_FLIGHT = 16
LOAD_SINGLE_IN_FLIGHT = 64
READ_BACK_KEYS_MAX = 50_000
READ_BACK_BATCH = 100
READ_BACK_IN_FLIGHT = 8
CATCH_UP_SECONDS_MAX = 60.0
CATCH_UP_KEYS = 1_000
POLL_SECONDS = 0.05


class Stage:
    """One client of one running system, shared by the rows of a block.

    ``loaded`` are the keys that reading rows read, each of which holds the ``value_of`` it.
    """

    def __init__(self, system: System, servers: Servers, client: Client) -> None:
        self.system = system
        self.servers = servers
        self.client = client
        self.keys = Keys()
        self.loaded: list[bytes] = []

    async def load(self, count: int) -> None:
        """Make sure that ``count`` keys are there to be read."""
        missing = count - len(self.loaded)
        if missing > 0:
            keys = [self.keys.take() for _ in range(missing)]
            await self.write((key, value_of(key)) for key in keys)
            self.loaded += keys

    async def write(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Write all items as fast as the system takes them."""
        remaining = iter(items)
        batch = LOAD_BATCH if Kind.BATCHES in self.system.offers else 1

        async def work() -> None:
            while part := list(islice(remaining, batch)):
                if batch > 1:
                    await self.client.put_batch(part)
                else:
                    await self.client.put(*part[0])

        async with anyio.create_task_group() as tasks:
            for _ in range(LOAD_IN_FLIGHT if batch > 1 else LOAD_SINGLE_IN_FLIGHT):
                tasks.start_soon(work)

    async def catch_up(self) -> None:
        """Wait until stale reads see what was loaded."""
        deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
        for index in spread(range(len(self.loaded)), CATCH_UP_KEYS):
            key = self.loaded[index]
            while await self.client.stale_get(key) != value_of(key):
                self.servers.check()
                if time.monotonic() > deadline:
                    raise StartError(f"stale reads did not see what was written within {CATCH_UP_SECONDS_MAX:.0f} s")
                await anyio.sleep(POLL_SECONDS)

    async def measure(self, row: Row, operation: Operation) -> tuple[Load, Usage]:
        """Warm up with the row's work, then do it with the clock running."""
        if row.warm_up_seconds:
            await run_load(operation, row.in_flight, row.warm_up_seconds)
        meter = Meter(self.servers.pids)
        meter.begin()
        load = await run_load(operation, row.in_flight, row.seconds)
        usage = meter.end()
        self.servers.check()
        return load, usage

    async def read_back(self, numbers: range) -> tuple[int, int]:
        """Read keys that were written once, all or evenly chosen ones: how many, and how many are wrong."""
        chosen = [key_of(number) for number in spread(numbers, READ_BACK_KEYS_MAX)]
        parts = iter([chosen[start : start + READ_BACK_BATCH] for start in range(0, len(chosen), READ_BACK_BATCH)])
        wrong = 0

        async def work() -> None:
            nonlocal wrong
            for part in parts:
                found = await self.client.get_many(part)
                wrong += self.count_wrong(part, found)

        async with anyio.create_task_group() as tasks:
            for _ in range(READ_BACK_IN_FLIGHT):
                tasks.start_soon(work)
        return len(chosen), wrong

    @staticmethod
    def count_wrong(keys: Sequence[bytes], values: Sequence[bytes | None]) -> int:
        """How many of the keys did not come with their value."""
        return sum(value != value_of(key) for key, value in zip(keys, values, strict=True))
