"""Reads that cost the leaders nothing: a tree of learners serves them, and one more learner is a command away.

    python examples/read_tree.py

Starts a local cluster of three hosts with two learners below them and four below those, reads the same keys from
the leaders and then from the tree, and prints what each process spent on it. Then a seventh learner joins below
the tree while reads go on, answers some of them, and leaves again.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import trio
from local_cluster import LocalCluster
from rich.console import Console
from rich.table import Table

from shardraft_router import Reading, Router, Stale, StatusReply, open_router

KEYS = 500
READS = 20_000
IN_FLIGHT = 64
NEWCOMER = 901
JOIN_SECONDS_MAX = 30.0

console = Console()


@attrs.define(slots=True)
class Phase:
    """One round of reads: how many each process answered, and the CPU time that each spent meanwhile."""

    name: str
    seconds: float = 0.0
    served_by: Counter[str] = attrs.field(factory=Counter)
    cpu_seconds: dict[str, float] = attrs.field(factory=dict)


def cpu_seconds_of(pid: int) -> float:
    """What a process has spent so far, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def read_many(read: Callable[[bytes], Awaitable[Reading]], phase: Phase, pids: dict[str, int]) -> Phase:
    """Read ``READS`` keys, ``IN_FLIGHT`` at a time, and check each value."""
    before = {name: cpu_seconds_of(pid) for name, pid in pids.items()}
    begun = time.perf_counter()
    numbers = iter(range(READS))

    async def work() -> None:
        for number in numbers:
            key = b"example/%d" % (number % KEYS)
            reading = await read(key)
            assert reading.value == b"value of " + key, f"{reading.served_by} answered {reading.value!r}"
            phase.served_by[reading.served_by] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(work)
    phase.seconds = time.perf_counter() - begun
    phase.cpu_seconds = {name: cpu_seconds_of(pid) - before[name] for name, pid in pids.items()}
    return phase


async def followed(router: Router, learners: int) -> None:
    """Wait until so many learners have applied all that is committed."""
    with trio.fail_after(JOIN_SECONDS_MAX):
        while True:
            replies = [reply for reply in await router.status() if isinstance(reply, StatusReply)]
            committed = {s.shard: s.commit_index for reply in replies for s in reply.shards if s.role == "leader"}
            level = [
                reply
                for reply in replies
                if reply.tier > 0 and {s.shard: s.applied_index for s in reply.shards} == committed
            ]
            if len(level) == learners:
                return
            await trio.sleep(0.05)


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def newcomer_serves(directory: Path, router: Router, parent: str, learners: int) -> int:
    """Start one more learner below ``parent``; how many of the reads that follow it answers."""
    command = [sys.executable, "-m", "shardraft", "learner", "--id", str(NEWCOMER)]
    command += ["--listen", f"127.0.0.1:{free_port()}"]
    command += ["--parent", parent, "--data-dir", str(directory / "newcomer"), "--log-level", "error"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        await followed(router, learners + 1)
        served = 0
        with trio.fail_after(JOIN_SECONDS_MAX):
            while not served:  # The router looks for new learners every few seconds.
                readings = [await router.read(b"example/%d" % number, Stale()) for number in range(KEYS)]
                served = sum(reading.tier == 3 for reading in readings)
        return served
    finally:
        process.terminate()
        process.wait(JOIN_SECONDS_MAX)


def show(phases: list[Phase], tiers: dict[str, int]) -> None:
    """The table: what each process answered, and what it spent."""
    table = Table(title=f"{READS:,} reads each, {IN_FLIGHT} at a time")
    for column in ("process", "tier", *(f"{phase.name}\nreads / CPU s" for phase in phases)):
        table.add_column(column, justify="right")
    for name, tier in tiers.items():
        cells = [f"{phase.served_by[name]:,} / {phase.cpu_seconds[name]:.2f}" for phase in phases]
        table.add_row(name, str(tier), *cells)
    console.print(table)


async def run(directory: Path) -> int:
    """The whole story on a cluster in ``directory``; the exit code."""
    cluster = LocalCluster(directory, "--hosts", "3", "--shards", "8", "--learners", "2,4")
    try:
        await tell(directory, await cluster.ready())
    finally:
        code = cluster.stop()
    return code


async def tell(directory: Path, places: dict[str, Any]) -> None:
    """Write, read both ways, show, and let one more learner join."""
    processes = [{**host, "tier": 0} for host in places["hosts"]] + places["learners"]
    pids = {process["endpoint"]: process["pid"] for process in processes}
    async with open_router([host["endpoint"] for host in places["hosts"]]) as router:
        await router.put_many({b"example/%d" % n: b"value of example/%d" % n for n in range(KEYS)})
        await followed(router, len(places["learners"]))
        phases = [
            await read_many(router.read, Phase("from the leaders"), pids),
            await read_many(lambda key: router.read(key, Stale()), Phase("from the tree"), pids),
        ]
        show(phases, {process["endpoint"]: process["tier"] for process in processes})
        parent = places["learners"][-1]["endpoint"]
        served = await newcomer_serves(directory, router, parent, len(places["learners"]))
    console.print(f"a new learner below {parent} joined and answered {served} of {KEYS} reads", soft_wrap=True)


def main() -> int:
    """Run the example in a directory of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="shardraft-example-") as directory:
        return trio.run(run, Path(directory))


if __name__ == "__main__":
    sys.exit(main())
