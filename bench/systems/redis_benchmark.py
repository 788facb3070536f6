"""A Redis sub-replica read by redis-benchmark, without pipelining and without Python on the client's side."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from bench.harness.histogram import fold_counts
from bench.harness.launching import LOOPBACK, find_program
from bench.harness.ports import Client, Driven, DriverError, Servers
from bench.harness.rows import Cluster, Kind, Row
from bench.systems.redis import Redis, RedisClient, RedisServers, redis_version

FIRST_REQUESTS = 50_000
"""redis-benchmark takes a number of requests and no time; from this many follows how many fill the time."""
LOAD_BATCH = 100


class RedisBenchmarkDriver:
    """Runs redis-benchmark against the last replica, on keys as it names them (16 bytes, like all others)."""

    def __init__(self, servers: RedisServers, client: RedisClient) -> None:
        self._servers = servers
        self._client = client
        self._per_second = 0.0
        self._hits = 0

    async def prepare(self, row: Row) -> None:
        keys = [b"key:%012d" % number for number in range(row.records)]
        for start in range(0, len(keys), LOAD_BATCH):
            await self._client.put_batch([(key, key * 16) for key in keys[start : start + LOAD_BATCH]])
        while await self._client.stale_get(keys[-1]) != keys[-1] * 16:
            await asyncio.sleep(0.01)
        self._hits = await self._keyspace_hits()

    async def drive(self, row: Row, seconds: float) -> Driven:
        requests = max(FIRST_REQUESTS, round(self._per_second * seconds))
        program = find_program("redis-benchmark")
        assert program is not None, "a system that is missing is not run"
        command = [program, "-h", LOOPBACK, "-p", str(self._servers.ports[-1]), "-t", "get", "-P", "1"]
        command += ["-c", str(row.in_flight), "-n", str(requests), "-r", str(row.records), "--precision", "3"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output = (await process.communicate())[0].decode()
        rate = re.search(r"throughput summary: ([\d.]+) requests per second", output)
        counts = [
            (float(milliseconds), int(count))
            for milliseconds, count in re.findall(r"% <= ([\d.]+) milliseconds \(cumulative count (\d+)\)", output)
        ]
        if process.returncode or rate is None or not counts:
            raise DriverError(f"redis-benchmark failed: {' '.join(output.split())[-200:]}")
        self._per_second = float(rate.group(1))
        return Driven(requests, requests / self._per_second, fold_counts(_single(counts)))

    async def check(self, row: Row, driven: Sequence[Driven]) -> tuple[int, int]:
        operations = sum(each.operations for each in driven)
        hits = await self._keyspace_hits() - self._hits
        return operations, max(0, operations - hits)

    async def _keyspace_hits(self) -> int:
        return int((await self._client.information(of_last=True))["keyspace_hits"])


def _single(cumulative: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """From how many took at most so long, to how many took so long. The second list repeats the first one's counts."""
    ordered = sorted(set(cumulative), key=lambda pair: (pair[1], pair[0]))
    counts = [ordered[0], *((later[0], later[1] - earlier[1]) for earlier, later in pairwise(ordered))]
    return [(milliseconds, count) for milliseconds, count in counts if count > 0]


class RedisBenchmark(Redis):
    """Redis, driven by redis-benchmark."""

    name = "redis-benchmark"
    offers = frozenset({Kind.STALE_GETS})
    loop: Literal["trio", "asyncio"] = "asyncio"

    def missing(self) -> str | None:
        if find_program("redis-benchmark") is None:
            return "redis-benchmark is not installed (Debian redis-tools)"
        return super().missing()

    def version(self) -> str:
        return f"Redis {redis_version()}, redis-benchmark without pipelining"

    def subject(self, cluster: Cluster) -> str:
        return f"{super().subject(cluster)}, random keys"

    def driver(self, servers: Servers, client: Client) -> RedisBenchmarkDriver:
        assert isinstance(servers, RedisServers)
        assert isinstance(client, RedisClient)
        return RedisBenchmarkDriver(servers, client)
