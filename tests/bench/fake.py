"""A system in this process: a dictionary that yields to other tasks on every call, and lies when told to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import anyio

from bench.harness.rows import Cluster, Kind, Row
from bench.systems.unoffered import NothingOffered

FAST = {"seconds": 0.02, "warm_up_seconds": 0.01}


class FakeServers:
    def __init__(self) -> None:
        self.leader = "one"
        self.killed: list[str] = []
        self.stopped = False

    @property
    def pids(self) -> list[int]:
        return [os.getpid()]

    def check(self) -> None:
        return

    def stop(self) -> None:
        self.stopped = True

    async def kill_leader(self) -> str:
        self.killed.append(self.leader)
        return self.leader

    async def restart(self, name: str) -> None:
        await anyio.lowlevel.checkpoint()


class FakeClient(NothingOffered):
    """``lost``: every so many puts one is acknowledged and forgotten. ``stale``: reads show what was there first."""

    def __init__(self, *, lost: int = 0, stale: bool = False, fails: bool = False) -> None:
        self.values: dict[bytes, bytes] = {}
        self.first: dict[bytes, bytes] = {}
        self.puts = 0
        self._lost = lost
        self._stale = stale
        self._fails = fails

    async def put(self, key: bytes, value: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self._fails:
            raise ConnectionError("the fake is down")
        self.puts += 1
        if self._lost and self.puts % self._lost == 0:
            return
        self.first.setdefault(key, value)
        self.values[key] = value

    async def put_despite_failures(self, key: bytes, value: bytes) -> None:
        await self.put(key, value)

    async def put_batch(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in items:
            await self.put(key, value)

    async def put_atomic(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        await self.put_batch(items)

    async def get(self, key: bytes) -> bytes | None:
        await anyio.lowlevel.checkpoint()
        return (self.first if self._stale else self.values).get(key)

    async def stale_get(self, key: bytes) -> bytes | None:
        return await self.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        await anyio.lowlevel.checkpoint()
        return [self.values.get(key) for key in keys]

    async def scan(self, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        await anyio.lowlevel.checkpoint()
        return sorted(entry for entry in self.values.items() if entry[0] >= start)[:limit]

    async def scan_all(self) -> list[tuple[bytes, bytes]]:
        return await self.scan(b"", len(self.values))


class FakeSystem:
    loop: Literal["trio", "asyncio"] = "trio"
    is_ordered = True
    promise = "kept in memory"
    promise_in_full = "Nothing is on disk."

    def __init__(
        self,
        name: str = "fake",
        *,
        offers: frozenset[Kind] = frozenset(Kind),
        missing: str | None = None,
        client: FakeClient | None = None,
    ) -> None:
        self.name = name
        self.offers = offers
        self.client = client or FakeClient()
        self._missing = missing

    def missing(self) -> str | None:
        return self._missing

    def version(self) -> str:
        return f"{self.name} 1.0"

    def subject(self, cluster: Cluster) -> str:
        return f"{cluster.members} fakes"

    def start(self, directory: Path, cluster: Cluster) -> FakeServers:
        return FakeServers()

    async def connect(self, servers: object) -> FakeClient:
        return self.client


def fast_row(kind: Kind, **fields: object) -> Row:
    return Row.from_json({"key": str(kind), "kind": kind, **FAST, **fields})
