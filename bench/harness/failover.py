"""The longest time without an acknowledged write when the leader is killed, measured again and again.

Puts begin every 10 ms whether or not earlier ones were answered, so that a gap does not hide behind a
client that waits.
"""

from __future__ import annotations

import time
from array import array
from itertools import pairwise

import anyio
from anyio.abc import TaskGroup

from bench.harness.keys import value_of
from bench.harness.load import Load
from bench.harness.ports import Failing
from bench.harness.process import Meter, Usage
from bench.harness.rows import Row
from bench.harness.stage import Stage

PUT_PERIOD_SECONDS = 0.01
CALM_SECONDS = 0.5
"""Puts go on undisturbed for so long before each kill, and after the restarted process is back."""
GAP_SECONDS_MAX = 20.0
"""A row with a longer gap has failed."""


class _Puts:
    """100 puts a second until told to stop; when each was acknowledged."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.acknowledged: list[float] = []
        self.latencies_ns: array[int] = array("q")
        self.stopping = False

    async def run(self, tasks: TaskGroup) -> None:
        due = time.monotonic()
        while not self.stopping:
            tasks.start_soon(self._put)
            due += PUT_PERIOD_SECONDS
            await anyio.sleep(max(0.0, due - time.monotonic()))

    async def _put(self) -> None:
        begun = time.perf_counter_ns()
        key = self._stage.keys.take()
        await self._stage.client.put_despite_failures(key, value_of(key))
        self.latencies_ns.append(time.perf_counter_ns() - begun)
        self.acknowledged.append(time.monotonic())

    async def acknowledges_since(self, moment: float) -> None:
        """Wait for a put to be acknowledged after ``moment``."""
        while not self.acknowledged or self.acknowledged[-1] <= moment:
            if time.monotonic() - moment > GAP_SECONDS_MAX:
                raise TimeoutError(f"no put was acknowledged for {GAP_SECONDS_MAX:.0f} s after the leader was killed")
            await anyio.sleep(PUT_PERIOD_SECONDS)

    def longest_gap(self, begin: float, end: float) -> float:
        """The longest time between two acknowledgements, one of which lies between ``begin`` and ``end``."""
        return longest_gap(self.acknowledged, begin, end)


def longest_gap(moments: list[float], begin: float, end: float) -> float:
    """The longest time between neighbours among ``moments``, of the pairs that touch ``begin`` to ``end``."""
    return max((after - before for before, after in pairwise(moments) if after >= begin and before <= end), default=0.0)


async def failover(stage: Stage, row: Row) -> tuple[Load, Usage, list[float], int, int]:
    """Kill the leader ``row.times`` times: the puts, their cost, the gaps in seconds, keys read back, wrong ones."""
    servers = stage.servers
    assert isinstance(servers, Failing), "only systems whose leader can be killed offer this"
    puts, gaps = _Puts(stage), []
    first = stage.keys.next_number
    meter = Meter(servers.pids)
    meter.begin()
    begun = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(puts.run, tasks)
        for _ in range(row.times):
            await anyio.sleep(CALM_SECONDS)
            killed = time.monotonic()
            name = await servers.kill_leader()
            # Acknowledgements that were on their way are let pass first.
            await puts.acknowledges_since(killed + CALM_SECONDS)
            await servers.restart(name)
            await anyio.sleep(CALM_SECONDS)
            # Up to here, since a process that comes back can disturb as much as one that goes.
            gaps.append(puts.longest_gap(killed, time.monotonic()))
        puts.stopping = True
    usage = meter.end()
    read_back, wrong = await stage.read_back(range(first, stage.keys.next_number))
    load = Load(len(puts.acknowledged), time.monotonic() - begun, puts.latencies_ns)
    return load, usage, gaps, read_back, wrong
