"""The simulated world, measured for itself: how much of it one core simulates in a second."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import anyio

from bench.harness.ports import Client, Driven, DriverError, Servers
from bench.harness.rows import SIMULATED, Cluster, Kind, Row
from bench.systems.shardraft import hosts_in_words
from bench.systems.simulating import Simulated
from bench.systems.unoffered import NothingOffered
from shardraft import __version__, build


class NoServers:
    """Nothing runs between the rows; ``cluster`` is what is simulated."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def pids(self) -> list[int]:
        return []

    def check(self) -> None:
        return

    def stop(self) -> None:
        return


class SimulatorDriver:
    """Runs ``bench.systems.simulating`` in a process of its own, so that nothing else of a block slows it down."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._checked = 0
        self._wrong = 0

    async def prepare(self, row: Row) -> None:
        return

    async def drive(self, row: Row, seconds: float) -> Driven:
        what = ["events", str(row.times)] if row.kind is Kind.SIMULATION else ["idle", str(seconds)]
        command = [sys.executable, "-m", "bench.systems.simulating", *what]
        command += [str(self._cluster.shards), str(self._cluster.readers)]
        ended = await anyio.run_process(command, check=False)
        if ended.returncode:
            raise DriverError(f"the simulation failed: {' '.join(ended.stderr.decode().split())[-200:]}")
        found = Simulated(**json.loads(ended.stdout))
        self._checked += found.checked
        self._wrong += found.wrong
        return Driven(found.operations, found.seconds, "")

    async def check(self, row: Row, driven: Sequence[Driven]) -> tuple[int, int]:
        return self._checked, self._wrong


class Simulator:
    """This project's simulator, from the checkout that the benchmark lies in."""

    name = "simulator"
    offers = SIMULATED
    loop: Literal["trio", "asyncio"] = "trio"
    is_ordered = False
    promise = "simulated disks"
    promise_in_full = "Nothing is on any disk, but every promise is checked after every event; one core is used."

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        python = ".".join(map(str, sys.version_info[:3]))
        return f"shardraft {__version__} ({build()}), Python {python}, simulator"

    def subject(self, cluster: Cluster) -> str:
        learners = f", {cluster.readers} learners in a chain" if cluster.readers else ""
        return f"{hosts_in_words(cluster.members)}, {cluster.shards} shards{learners}"

    def start(self, directory: Path, cluster: Cluster) -> Servers:
        return NoServers(cluster)

    async def connect(self, servers: Servers) -> Client:
        return NothingOffered()

    def driver(self, servers: Servers, client: Client) -> SimulatorDriver:
        assert isinstance(servers, NoServers)
        return SimulatorDriver(servers.cluster)
