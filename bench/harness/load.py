"""Closed-loop load: a fixed number of calls in flight, each timed, for a fixed time."""

from __future__ import annotations

import time
from array import array
from collections.abc import Awaitable, Callable

import anyio
import attrs

Operation = Callable[[], Awaitable[int]]
"""One call; returns how many operations (keys, entries) it was."""


@attrs.frozen(slots=True)
class Load:
    """What a load did. ``seconds`` ends with the last call, begun within the time but finished after it."""

    operations: int
    seconds: float
    latencies_ns: array[int]


async def run_load(operation: Operation, in_flight: int, seconds: float) -> Load:
    """Keep ``in_flight`` calls under way for ``seconds``. The first failing call ends the load with its error."""
    latencies: array[int] = array("q")
    clock = time.perf_counter_ns
    begun = clock()
    end = begun + int(seconds * 1e9)
    operations = 0

    async def work() -> None:
        nonlocal operations
        while (start := clock()) < end:
            done = await operation()
            latencies.append(clock() - start)
            # Not in one statement with the await, which would add to the sum as it was before the call.
            operations += done

    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(work)
    return Load(operations, (clock() - begun) / 1e9, latencies)
