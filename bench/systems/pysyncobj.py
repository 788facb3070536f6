"""PySyncObj: a replicated dictionary with a journal on every member.

It is a library and no server: a program that uses it is a member of the cluster. So the benchmark's client is
one of the members, the others are processes that do nothing else, and the client's own CPU time counts as a server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bench.harness.launching import LOOPBACK, Processes, free_ports
from bench.harness.ports import Servers
from bench.harness.rows import Cluster, Kind
from bench.systems.unoffered import NothingOffered

ELECTION_SECONDS = (0.4, 0.8)
"""Of the client, so that it leads and no call has to be forwarded: its best case. The others wait longer."""
ELECTION_SECONDS_OTHERS = (15.0, 20.0)
POLL_SECONDS = 0.1


def member(directory: Path, own: str, others: Sequence[str], *, sends_at_once: bool, leads: bool) -> Any:
    """A replicated dictionary ``values`` with a call ``put(key, value, callback)``."""
    from pysyncobj import SyncObj, SyncObjConf, replicated

    class Table(SyncObj):  # type: ignore[misc]  # The library is not typed.
        def __init__(self, configuration: Any) -> None:
            super().__init__(own, list(others), configuration)
            self.values: dict[bytes, bytes] = {}

        @replicated  # type: ignore[untyped-decorator]
        def put(self, key: bytes, value: bytes) -> None:
            self.values[key] = value

    low, high = ELECTION_SECONDS if leads else ELECTION_SECONDS_OTHERS
    return Table(
        SyncObjConf(
            journalFile=str(directory / f"{own.replace(':', '-')}.journal"),
            appendEntriesUseBatch=not sends_at_once,
            raftMinTimeout=low,
            raftMaxTimeout=high,
            connectionTimeout=2 * ELECTION_SECONDS_OTHERS[1],
            connectionRetryTime=0.1,
        )
    )


class PySyncObjServers(Processes):
    """The members other than the client."""

    def __init__(self, directory: Path, cluster: Cluster, *, sends_at_once: bool) -> None:
        super().__init__(directory)
        self.addresses = [f"{LOOPBACK}:{port}" for port in free_ports(cluster.members)]
        for number, own in enumerate(self.addresses[1:], 1):
            others = [address for address in self.addresses if address != own]
            command = [sys.executable, "-m", "bench.systems.pysyncobj", own, str(int(sends_at_once)), *others]
            self.start(f"pysyncobj-{number}", command)

    @property
    def pids(self) -> list[int]:
        return [*super().pids, os.getpid()]


class PySyncObjClient(NothingOffered):
    """Calls of the member in this process; its own thread answers them."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._loop = asyncio.get_running_loop()

    async def put(self, key: bytes, value: bytes) -> None:
        future: asyncio.Future[None] = self._loop.create_future()

        def done(_result: object, failure: int) -> None:
            self._loop.call_soon_threadsafe(_finish, future, failure)

        self._table.put(key, value, callback=done)
        await future

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._table.values.get(key) for key in keys]

    async def close(self) -> None:
        self._table.destroy()


def _finish(future: asyncio.Future[None], failure: int) -> None:
    if failure:
        future.set_exception(RuntimeError(f"PySyncObj refused a put with code {failure}"))
    else:
        future.set_result(None)


class PySyncObj:
    """PySyncObj, whichever version is installed; ``sends_at_once`` is its appendEntriesUseBatch=False."""

    offers = frozenset({Kind.PUTS, Kind.IDLE, Kind.MEMORY})
    loop: Literal["trio", "asyncio"] = "asyncio"
    is_ordered = False
    promise = "written on a majority, no fsync"
    promise_in_full = (
        "A write is acknowledged once a majority of the members have it in the memory maps of their journals, which "
        "are never fsynced: a power failure of several machines loses acknowledged writes."
    )

    def __init__(self, name: str, *, sends_at_once: bool) -> None:
        self.name = name
        self._sends_at_once = sends_at_once

    def missing(self) -> str | None:
        return None if find_spec("pysyncobj") else "PySyncObj is not installed (PyPI pysyncobj)"

    def version(self) -> str:
        from importlib.metadata import version

        python = ".".join(map(str, sys.version_info[:3]))
        how = "appendEntriesUseBatch off" if self._sends_at_once else "default settings"
        return f"PySyncObj {version('pysyncobj')}, {how}, Python {python}"

    def subject(self, cluster: Cluster) -> str:
        return f"{cluster.members} members, the client leads"

    def start(self, directory: Path, cluster: Cluster) -> Servers:
        return PySyncObjServers(directory, cluster, sends_at_once=self._sends_at_once)

    async def connect(self, servers: Servers) -> PySyncObjClient:
        assert isinstance(servers, PySyncObjServers)
        own, *others = servers.addresses
        table = member(servers.directory, own, others, sends_at_once=self._sends_at_once, leads=True)
        while not (table.isReady() and str(table._getLeader()) == own):
            servers.check()
            await asyncio.sleep(POLL_SECONDS)
        # The first entry of a leader's term is what makes it able to commit others.
        client = PySyncObjClient(table)
        await client.put(b"ready", b"")
        return client


def main() -> int:
    """One member that is not the client: python -m bench.systems.pysyncobj OWN AT_ONCE OTHER..."""
    own, at_once, *others = sys.argv[1:]
    random.seed(own)
    table = member(Path.cwd(), own, others, sends_at_once=at_once == "1", leads=False)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    table.destroy()
    return 0


if __name__ == "__main__":
    sys.exit(main())
