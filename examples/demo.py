"""The main job on real input: a cluster that loses a host in the middle of the work, and nothing else.

Starts a real local cluster, imports the source of Python's standard library (every ``.py`` file, path to
bytes) through the router, kills the host that leads most shards halfway, finishes, reads every file
back from the leaders and again from a learner of tier 2, and compares bytes. Ends non-zero if anything
differs. Run it with ``make demo``, or ``python examples/demo.py``.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import trio
from local_cluster import LocalCluster
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from shardraft.shards.keyspace import Partitioning, routing_key, split_evenly
from shardraft.shards.shard_map import SLOTS_DEFAULT
from shardraft_router import Router, Stale, StatusReply, open_router

IN_FLIGHT = 64
"""Files under way at once."""
TIER = 2
"""The learners that everything is read back from."""
CATCH_UP_SECONDS_MAX = 30.0

console = Console()


@attrs.define(slots=True)
class Imported:
    """What the import did; ``acknowledged`` names every file whose put returned.

    ``gaps`` says of each shard how long it acknowledged nothing at worst: over all shards together, those that
    still have a leader would hide that another has none.
    """

    gaps: Gaps
    acknowledged: set[bytes] = attrs.field(factory=set)
    retried: int = 0
    seconds: float = 0.0
    killed: str = ""


class Gaps:
    """The longest time without a successful write, shard by shard; an import touches every shard all the time."""

    def __init__(self, shards: int, begun: float) -> None:
        self._ranges = split_evenly(shards, SLOTS_DEFAULT)
        self._last = [begun] * shards
        self.longest_seconds = [0.0] * shards

    def shard_of(self, key: bytes) -> int:
        """The place of the key's shard among all; the map is the one that a cluster starts with."""
        routed = routing_key(key, Partitioning.HASH, SLOTS_DEFAULT)
        return next(place for place, held in enumerate(self._ranges) if held.holds(routed))

    def succeeded(self, key: bytes, now: float) -> None:
        """A write of ``key`` was acknowledged at ``now``."""
        place = self.shard_of(key)
        self.longest_seconds[place] = max(self.longest_seconds[place], now - self._last[place])
        self._last[place] = now


def standard_library() -> dict[bytes, bytes]:
    """Every ``.py`` file of the standard library, by its path."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = (path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts and path.is_file())
    return {path.relative_to(root).as_posix().encode(): path.read_bytes() for path in paths}


async def leaders_of(router: Router) -> Counter[int]:
    """How many shards each host leads."""
    replies = [reply for reply in await router.status() if isinstance(reply, StatusReply)]
    return Counter(reply.host for reply in replies for shard in reply.shards if shard.role == "leader")


async def import_all(
    router: Router, files: dict[bytes, bytes], done: Imported, at_half: Callable[[], Awaitable[None]]
) -> None:
    """Put every file, ``IN_FLIGHT`` at a time, and await ``at_half`` once in the middle, while puts go on."""
    waiting = iter(files.items())
    begun = time.perf_counter()

    async def work(bar: Progress, task: TaskID) -> None:
        for path, content in waiting:
            await router.put(path, content)
            done.gaps.succeeded(path, time.perf_counter())
            done.acknowledged.add(path)
            bar.advance(task)
            if len(done.acknowledged) == len(files) // 2:
                await at_half()

    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TextColumn("files"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(files))
        async with trio.open_nursery() as nursery:
            for _ in range(IN_FLIGHT):
                nursery.start_soon(work, bar, task)
    done.seconds = time.perf_counter() - begun


async def read_all(paths: Iterable[bytes], read: Callable[[bytes], Awaitable[bytes | None]]) -> dict[bytes, bytes]:
    """What ``read`` finds under each path, ``IN_FLIGHT`` at a time."""
    found: dict[bytes, bytes] = {}
    waiting = iter(paths)

    async def work() -> None:
        for path in waiting:
            content = await read(path)
            if content is not None:
                found[path] = content

    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(work)
    return found


async def lag_of(router: Router, tier: int) -> int | None:
    """How many committed entries the learners of ``tier`` have not applied in all; None if any is not to be asked."""
    replies = [reply for reply in await router.status() if isinstance(reply, StatusReply)]
    committed = {
        shard.shard: shard.commit_index for reply in replies for shard in reply.shards if shard.role == "leader"
    }
    learners = [reply for reply in replies if reply.tier == tier]
    applied = [(shard.shard, shard.applied_index) for reply in learners for shard in reply.shards]
    if len(applied) != len(committed) * len(learners) or not applied:
        return None
    return sum(max(0, committed[shard] - index) for shard, index in applied)


async def catch_up(router: Router, tier: int) -> float:
    """Wait until the learners of ``tier`` have applied everything; how long that took."""
    begun = time.perf_counter()
    with trio.fail_after(CATCH_UP_SECONDS_MAX):
        while await lag_of(router, tier) != 0:
            await trio.sleep(0.02)
    return time.perf_counter() - begun


async def read_from_tier(router: Router, path: bytes, tier: int) -> bytes | None:
    """Read from a learner of ``tier``; the router prefers the highest tier, but may fall back for a moment."""
    while True:
        reading = await router.read(path, Stale())
        if reading.tier == tier:
            return reading.value
        await trio.sleep(0.02)


def differences(files: dict[bytes, bytes], found: dict[bytes, bytes]) -> list[str]:
    """The paths under which something else was found than was put there."""
    return sorted(path.decode() for path in files if found.get(path) != files[path])


async def run(directory: Path, files: dict[bytes, bytes]) -> int:
    """The whole story on a cluster in ``directory``; the exit code."""
    cluster = LocalCluster(directory, "--no-restart")
    try:
        return await tell(await cluster.ready(), files)
    finally:
        code = cluster.stop()
        console.print("the cluster stopped cleanly" if code == 0 else f"THE CLUSTER STOPPED WITH EXIT CODE {code}")


async def tell(places: dict[str, Any], files: dict[bytes, bytes]) -> int:
    """Import, kill, read back, compare."""
    pids = {host["id"]: host["pid"] for host in places["hosts"]}
    console.print(f"{len(pids)} hosts, {places['shards']} shards and {len(places['learners'])} learners are up")
    async with open_router([host["endpoint"] for host in places["hosts"]], timeout_seconds=30.0) as router:

        done = Imported(Gaps(places["shards"], time.perf_counter()))

        async def kill_busiest() -> None:
            ((host, count),) = (await leaders_of(router)).most_common(1)
            os.kill(pids[host], signal.SIGKILL)
            after = f"after {len(done.acknowledged):,} files"
            done.killed = f"host {host}, which led {count} of {places['shards']} shards, {after}"

        await import_all(router, files, done, kill_busiest)
        done.retried = router.writes_retried
        lag = await lag_of(router, TIER)
        lag_seconds = await catch_up(router, TIER)
        console.print("reading everything back from the leaders, then from tier 2")
        from_leaders = await read_all(files, router.get)
        from_learner = await read_all(files, lambda path: read_from_tier(router, path, TIER))
    return report(files, done, lag, lag_seconds, differences(files, from_leaders), differences(files, from_learner))


def report(
    files: dict[bytes, bytes],
    done: Imported,
    lag: int | None,
    lag_seconds: float,
    wrong_at_leaders: list[str],
    wrong_at_learner: list[str],
) -> int:
    """Print the table; 1 if anything differs or an acknowledged write is lost, else 0."""
    megabytes = sum(map(len, files.values())) / 1e6
    lost = [path for path in wrong_at_leaders if path.encode() in done.acknowledged]
    gaps = done.gaps.longest_seconds
    behind = "unknown" if lag is None else f"{lag} entries"
    table = Table(show_header=False)
    for name, value in (
        ("files", f"{len(files):,}"),
        ("MB", f"{megabytes:.1f}"),
        ("MB/s", f"{megabytes / done.seconds:.1f}"),
        ("killed with SIGKILL", done.killed),
        ("writes retried", f"{done.retried:,}"),
        ("acknowledged writes lost", f"{len(lost)}"),
        ("longest gap without a successful write", f"{max(gaps):.2f} s, on the worst of {len(gaps)} shards"),
        ("tier-2 lag at the end of the import", f"{behind}, caught up {lag_seconds:.2f} s later"),
        ("files that differ at the leaders", f"{len(wrong_at_leaders)}"),
        ("files that differ at tier 2", f"{len(wrong_at_learner)}"),
    ):
        table.add_row(name, value)
    console.print(table)
    for path in (wrong_at_leaders + wrong_at_learner)[:10]:
        console.print(f"DIFFERS: {path}")
    return 1 if wrong_at_leaders or wrong_at_learner or not done.killed else 0


def main() -> int:
    """Run the demo in a directory of its own, which is gone afterwards."""
    files = standard_library()
    console.print(f"starting a cluster; {len(files):,} files of the standard library will go into it")
    with tempfile.TemporaryDirectory(prefix="shardraft-demo-") as directory:
        return trio.run(run, Path(directory), files)


if __name__ == "__main__":
    sys.exit(main())
