"""shardraft itself: voter hosts, and one tier of learners for the reading rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import anyio

from bench.harness.launching import LOOPBACK, Processes, free_ports
from bench.harness.ports import Servers
from bench.harness.rows import SIMULATED, Cluster, Kind
from shardraft import __version__, build
from shardraft.cli.view import ClusterView, view_of
from shardraft.errors import ShardraftError
from shardraft.kv.requests import StatusReply
from shardraft_router import Put, Router, Stale, open_router

POLL_SECONDS = 0.1
CALL_SECONDS_MAX = 30.0
_STALE = Stale()


class ShardraftServers(Processes):
    """Voter hosts ``host-N`` and learners ``learner-N``."""

    def __init__(self, directory: Path, cluster: Cluster) -> None:
        super().__init__(directory)
        self.cluster = cluster
        ports = free_ports(cluster.members + cluster.readers)
        self.endpoints = [f"{LOOPBACK}:{port}" for port in ports[: cluster.members]]
        peers = [f"--peer={number}={endpoint}" for number, endpoint in enumerate(self.endpoints, 1)]
        for number, endpoint in enumerate(self.endpoints, 1):
            self._start("host", number, endpoint, *peers, "--shards", str(cluster.shards))
        for number, port in enumerate(ports[cluster.members :], 101):
            self._start("learner", number, f"{LOOPBACK}:{port}", "--parent", ",".join(self.endpoints))

    def _start(self, kind: str, number: int, endpoint: str, *options: str) -> None:
        program = ["-m", "shardraft"]
        if self.cluster.sync_delay_ms:
            program = ["-m", "bench.systems.slow_sync", str(self.cluster.sync_delay_ms)]
        name = f"{kind}-{number}"
        command = [sys.executable, *program, kind, "--id", str(number), "--listen", endpoint]
        data = str(self.directory / f"{name}.data")
        self.start(name, [*command, "--data-dir", data, "--log-level", "warning", *options])

    async def view(self, router: Router) -> ClusterView | None:
        """The cluster as its processes see it, once every one of them answers."""
        answers = [answer for answer in await router.status() if isinstance(answer, StatusReply)]
        return view_of(answers) if len(answers) == self.cluster.members + self.cluster.readers else None

    async def wait_until_whole(self) -> None:
        """Every shard led, every follower and learner with everything that is committed."""
        while True:
            self.check()
            async with open_router(self.endpoints, timeout_seconds=5.0) as router:
                try:
                    view = await self.view(router)
                except ShardraftError:
                    view = None
            if view is not None and _is_whole(view, self.cluster):
                return
            await anyio.sleep(POLL_SECONDS)

    async def leader_of_first_shard(self) -> str:
        """The name of its process; the cluster is whole."""
        async with open_router(self.endpoints, timeout_seconds=5.0) as router:
            view = await self.view(router)
        assert view is not None, "a leader is killed only while the cluster is whole"
        return f"host-{view.shards[0].leader}"

    async def kill_leader(self) -> str:
        """Of the first shard, which in a row about failover is the only one."""
        name = await self.leader_of_first_shard()
        self.kill(name)
        return name

    async def restart(self, name: str) -> None:
        self.start_again(name)
        await self.wait_until_whole()


def _is_whole(view: ClusterView, cluster: Cluster) -> bool:
    return (
        view.all_led
        and len(view.shards) == cluster.shards
        and len(view.learners) == cluster.readers
        and all(learner.lag_entries is not None for learner in view.learners)
    )


class ShardraftClient:
    """One router, used as a program would."""

    def __init__(self, router: Router, resources: AsyncExitStack) -> None:
        self._router = router
        self._resources = resources

    async def put(self, key: bytes, value: bytes) -> None:
        await self._router.put(key, value)

    async def put_despite_failures(self, key: bytes, value: bytes) -> None:
        await self._router.put(key, value)  # Retrying is the router's business.

    async def put_batch(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        await self._router.put_many(dict(items))

    async def put_atomic(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        await self._router.batch([Put(key, value) for key, value in items])

    async def get(self, key: bytes) -> bytes | None:
        return await self._router.get(key)

    async def stale_get(self, key: bytes) -> bytes | None:
        return (await self._router.read(key, _STALE)).value

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found = await self._router.get_many(keys)
        return [found.get(key) for key in keys]

    async def scan(self, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return [entry async for entry in self._router.scan(start=start, limit=limit)]

    async def scan_all(self) -> list[tuple[bytes, bytes]]:
        return [entry async for entry in self._router.scan(ordered=False)]

    async def close(self) -> None:
        await self._resources.aclose()


class Shardraft:
    """This project, from the checkout that the benchmark lies in."""

    offers = frozenset(Kind) - SIMULATED
    is_ordered = True
    promise = "fsync on a majority"
    promise_in_full = "A write is acknowledged once a majority of the shard's voters have it fsynced in their logs."

    def __init__(self, name: str, loop: Literal["trio", "asyncio"]) -> None:
        self.name = name
        self.loop: Literal["trio", "asyncio"] = loop

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        python = ".".join(map(str, sys.version_info[:3]))
        return f"shardraft {__version__} ({build()}), Python {python}, {self.loop} client"

    def subject(self, cluster: Cluster) -> str:
        shards = f"{cluster.shards:,} shard{'s' if cluster.shards > 1 else ''}"
        learners = f", {cluster.readers} learner{'s' if cluster.readers > 1 else ''}" if cluster.readers else ""
        delay = f", {cluster.sync_delay_ms:g} ms added to each sync" if cluster.sync_delay_ms else ""
        return f"{hosts_in_words(cluster.members)}, {shards}{learners}{delay}"

    def start(self, directory: Path, cluster: Cluster) -> Servers:
        return ShardraftServers(directory, cluster)

    async def connect(self, servers: Servers) -> ShardraftClient:
        assert isinstance(servers, ShardraftServers)
        await servers.wait_until_whole()
        resources = AsyncExitStack()
        router = await resources.enter_async_context(open_router(servers.endpoints, timeout_seconds=CALL_SECONDS_MAX))
        return ShardraftClient(router, resources)


def hosts_in_words(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"
