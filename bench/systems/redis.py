"""Redis: a primary that syncs each write, a replica of it, and a sub-replica of that one for the stale reads."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bench.harness.launching import LOOPBACK, Processes, find_program, free_ports, output_of
from bench.harness.ports import Servers
from bench.harness.rows import Cluster, Kind
from bench.systems.unoffered import NothingOffered

POLL_SECONDS = 0.05
SCAN_PAGE_ENTRIES = 1_000
CONNECTIONS_MAX = 512


class RedisServers(Processes):
    """``redis-0`` is the primary, each further one a replica of the one before."""

    def __init__(self, directory: Path, cluster: Cluster) -> None:
        super().__init__(directory)
        self.ports = free_ports(cluster.members)
        program = find_program("redis-server")
        assert program is not None, "a system that is missing is not started"
        for number, port in enumerate(self.ports):
            data = directory / f"redis-{number}.data"
            data.mkdir()
            command = [program, "--port", str(port), "--bind", LOOPBACK, "--dir", str(data), "--save", ""]
            command += ["--appendonly", "yes", "--appendfsync", "always", "--maxclients", "2000"]
            if number:
                command += ["--replicaof", f"{LOOPBACK} {self.ports[number - 1]}"]
            self.start(f"redis-{number}", command)

    async def wait_until_whole(self) -> None:
        """Every replica is linked to the one that it follows."""
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        for port in reversed(self.ports):
            connection: Any = Redis(host=LOOPBACK, port=port)
            while True:
                self.check()
                try:
                    state = await connection.info("replication")
                    if state["role"] == "master" or state["master_link_status"] == "up":
                        break
                except RedisError:
                    pass  # It is still starting.
                await asyncio.sleep(POLL_SECONDS)
            await connection.aclose()


class RedisClient(NothingOffered):
    """redis-py on asyncio, with a connection for each call in flight, as its pool does it."""

    def __init__(self, servers: RedisServers) -> None:
        from redis.asyncio import Redis

        self._primary: Any = Redis(host=LOOPBACK, port=servers.ports[0], max_connections=CONNECTIONS_MAX)
        self._last: Any = Redis(host=LOOPBACK, port=servers.ports[-1], max_connections=CONNECTIONS_MAX)

    async def put(self, key: bytes, value: bytes) -> None:
        await self._primary.set(key, value)

    async def put_batch(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        await self._primary.mset(dict(items))

    async def get(self, key: bytes) -> bytes | None:
        value: bytes | None = await self._primary.get(key)
        return value

    async def stale_get(self, key: bytes) -> bytes | None:
        value: bytes | None = await self._last.get(key)
        return value

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        values: list[bytes | None] = await self._primary.mget(keys)
        return values

    async def scan_all(self) -> list[tuple[bytes, bytes]]:
        found: dict[bytes, bytes] = {}
        cursor = 0
        while True:
            cursor, keys = await self._primary.scan(cursor, count=SCAN_PAGE_ENTRIES)
            if keys:
                found.update(zip(keys, await self._primary.mget(keys), strict=True))
            if cursor == 0:
                return list(found.items())

    async def information(self, *, of_last: bool) -> dict[str, Any]:
        """The server's own counters."""
        counters: dict[str, Any] = await (self._last if of_last else self._primary).info("stats")
        return counters

    async def close(self) -> None:
        await self._primary.aclose()
        await self._last.aclose()


class Redis:
    """Redis, whichever version is installed."""

    name = "redis"
    offers = frozenset(
        {Kind.PUTS, Kind.BATCHES, Kind.GETS, Kind.STALE_GETS, Kind.GET_MANY, Kind.SCAN}
        | {Kind.YCSB, Kind.IDLE, Kind.MEMORY}
    )
    loop: Literal["trio", "asyncio"] = "asyncio"
    is_ordered = False
    promise = "fsync on the primary alone"
    promise_in_full = (
        "A write is acknowledged once the primary has it fsynced; the replicas get it afterwards and may never. "
        "No automatic failover; reads of the primary are linearizable only for as long as it is the primary."
    )

    def missing(self) -> str | None:
        if find_program("redis-server") is None:
            return "redis-server is not installed (Debian redis-server)"
        if find_spec("redis") is None:
            return "redis-py, which Redis is driven with, is not installed"
        return None

    def version(self) -> str:
        from importlib.metadata import version

        parser = " with hiredis" if find_spec("hiredis") else ""
        return f"Redis {redis_version()}, redis-py {version('redis')}{parser}"

    def subject(self, cluster: Cluster) -> str:
        return "primary, replica, sub-replica"

    def start(self, directory: Path, cluster: Cluster) -> Servers:
        return RedisServers(directory, cluster)

    async def connect(self, servers: Servers) -> RedisClient:
        assert isinstance(servers, RedisServers)
        await servers.wait_until_whole()
        return RedisClient(servers)


def redis_version() -> str:
    """What the server says of itself, as 7.0.15."""
    program = find_program("redis-server")
    assert program is not None, "a system that is missing is not asked"
    found = re.search(r"v=(\S+)", output_of(program, "--version"))
    return found.group(1) if found else "of unknown version"
