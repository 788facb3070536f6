"""What a system must offer to be measured. One small class per system, in ``bench.systems``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import attrs

from bench.harness.rows import Cluster, Kind, Row


class Servers(Protocol):
    """The running processes of one system."""

    @property
    def pids(self) -> list[int]:
        """All processes that serve; this one too when the client is a member of the cluster."""

    def check(self) -> None:
        """Raise ``StartError`` when a process has ended."""

    def stop(self) -> None: ...


class Client(Protocol):
    """One client in this process. A call that the system does not offer is never made (``System.offers``)."""

    async def put(self, key: bytes, value: bytes) -> None:
        """Write one key; returns once the system's promise on disk holds."""

    async def put_despite_failures(self, key: bytes, value: bytes) -> None:
        """Write one key, trying again for as long as no server acknowledges it."""

    async def put_batch(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Write many keys with one call, in the way that suits the system best."""

    async def put_atomic(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Write many keys, all or nothing."""

    async def get(self, key: bytes) -> bytes | None:
        """The strongest read of one key that the system offers."""

    async def stale_get(self, key: bytes) -> bytes | None:
        """The cheapest read of one key that may be old."""

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One call for many keys; used for reading back as well."""

    async def scan(self, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """At most ``limit`` entries in the order of their keys, from ``start``."""

    async def scan_all(self) -> list[tuple[bytes, bytes]]:
        """Every entry, in whatever order is cheapest."""

    async def close(self) -> None: ...


class System(Protocol):
    """A system to be measured, by name."""

    name: str
    offers: frozenset[Kind]
    loop: Literal["trio", "asyncio"]
    is_ordered: bool
    """Whether keys can be scanned in their order, which YCSB E needs."""
    promise: str
    """What it has done with a write before it acknowledges it, in a few words: stands beside every number."""
    promise_in_full: str
    """The same in whole sentences."""

    def missing(self) -> str | None:
        """The sentence with which it is skipped on this machine; None when everything that it needs is here."""

    def version(self) -> str:
        """Of the server and of the client that drives it."""

    def subject(self, cluster: Cluster) -> str:
        """What the work is done to, in words: how many members, how many shards."""

    def start(self, directory: Path, cluster: Cluster) -> Servers: ...

    async def connect(self, servers: Servers) -> Client:
        """A client, once the cluster works. Raises ``StartError`` when a process ended."""


@runtime_checkable
class Failing(Protocol):
    """Servers whose leader can be killed and brought back."""

    async def kill_leader(self) -> str:
        """kill -9 the leader; the name of the process."""

    async def restart(self, name: str) -> None:
        """Start it again, and return when the cluster is whole."""


@attrs.frozen(slots=True)
class Driven:
    """What a load generator reported: keys handled, in how many seconds, and their latencies (``histogram.fold``)."""

    operations: int
    seconds: float
    histogram: str


class Driver(Protocol):
    """A load generator that is a program of its own."""

    async def prepare(self, row: Row) -> None:
        """Write what the row reads."""

    async def drive(self, row: Row, seconds: float) -> Driven:
        """Run the program. Raises ``DriverError`` when it fails or its report cannot be read."""

    async def check(self, row: Row, driven: Sequence[Driven]) -> tuple[int, int]:
        """Ask the system itself what was done in all runs of the row: how many operations were checked and wrong."""


class DriverError(Exception):
    """A load generator failed; the text says how."""


@runtime_checkable
class DrivenSystem(Protocol):
    """A system whose rows are run by a ``Driver`` instead of by calls of a ``Client``."""

    def driver(self, servers: Servers, client: Client) -> Driver: ...
