"""The core workloads A to F of the Yahoo Cloud Serving Benchmark (Cooper et al., 2010), with this benchmark's keys.

Every value names the write that made it, and every read is checked: it must never return a write that an
acknowledged one had replaced before the read began.
"""

from __future__ import annotations

from random import Random

from bench.harness.keys import Ledger
from bench.harness.load import Load
from bench.harness.process import Usage
from bench.harness.rows import Row
from bench.harness.stage import READ_BACK_BATCH, Stage
from bench.harness.zipfian import Zipfian

READ_SHARE = {"A": 0.5, "B": 0.95, "C": 1.0, "D": 0.95, "E": 0.95, "F": 0.5}
SCAN_ENTRIES_MAX = 100


class _Table:
    """The records of one row. ``keys`` only grows."""

    def __init__(self, stage: Stage, row: Row, seed: int) -> None:
        self.stage = stage
        self.client = stage.client
        self.ledger = Ledger()
        self.random = Random(seed)
        self.keys = [stage.keys.take() for _ in range(row.records)]
        self.ranks = Zipfian(row.records, seed)
        self.shuffled = self.random.sample(range(row.records), row.records)
        self.checked = 0
        self.wrong = 0

    async def fill(self) -> None:
        writes = [self.ledger.begin(key) for key in self.keys]
        await self.stage.write((write.key, write.value) for write in writes)
        for write in writes:
            self.ledger.end(write)

    def popular(self) -> bytes:
        """A key by popularity; the hot ones lie anywhere in the order of keys."""
        return self.keys[self.shuffled[self.ranks.rank()]]

    def latest(self) -> bytes:
        """A key by age: the youngest is the hottest."""
        return self.keys[-1 - self.ranks.rank()]

    async def read(self, key: bytes) -> int:
        floor = self.ledger.floor(key)
        self.check(key, await self.client.get(key), floor)
        return 1

    def check(self, key: bytes, value: bytes | None, floor: int) -> None:
        self.checked += 1
        if not self.ledger.may_hold(key, value, floor):
            self.wrong += 1

    async def update(self, key: bytes) -> int:
        write = self.ledger.begin(key)
        await self.client.put(key, write.value)
        self.ledger.end(write)
        return 1

    async def insert(self) -> int:
        key = self.stage.keys.take()
        await self.update(key)
        self.keys.append(key)
        return 1

    async def scan(self, key: bytes) -> int:
        limit = 1 + self.random.randrange(SCAN_ENTRIES_MAX)
        floor = self.ledger.floor(key)
        found = await self.client.scan(key, limit)
        self.check(key, dict(found).get(key), floor)
        return 1

    async def read_back(self) -> None:
        """Every record as it stands at the end."""
        keys = self.ledger.keys()
        for start in range(0, len(keys), READ_BACK_BATCH):
            part = keys[start : start + READ_BACK_BATCH]
            for key, value in zip(part, await self.client.get_many(part), strict=True):
                self.check(key, value, self.ledger.floor(key))


async def ycsb(stage: Stage, row: Row, seed: int) -> tuple[Load, Usage, int, int]:
    """Run one mix on records of its own: the load, its cost, how many reads were checked, how many were wrong."""
    table = _Table(stage, row, seed)
    await table.fill()
    share, random = READ_SHARE[row.mix], table.random.random

    async def operation() -> int:
        is_read = random() < share
        if row.mix == "E":
            return await (table.scan(table.popular()) if is_read else table.insert())
        if row.mix == "D":
            return await (table.read(table.latest()) if is_read else table.insert())
        key = table.popular()
        if row.mix == "F" and not is_read:
            await table.read(key)
        return await (table.read(key) if is_read else table.update(key))

    load, usage = await stage.measure(row, operation)
    await table.read_back()
    return load, usage, table.checked, table.wrong
