"""A counter that many tasks increment at once, with compare-and-set, on asyncio.

    python examples/counter.py HOST:PORT

Each task reads the counter with its revision and writes it back only if nobody was faster. No increment is lost,
and none counts twice, whatever fails on the way: the router retries, and a write never applies twice.
"""

from __future__ import annotations

import asyncio
import sys

from shardraft_router import Conflict, Router, open_router

KEY = b"examples/counter"
TASKS = 8
INCREMENTS = 25


async def increment(router: Router) -> int:
    """Add one; how many attempts it took."""
    attempts = 1
    while True:
        reading = await router.read(KEY)
        value = int(reading.value or b"0") + 1
        try:
            await router.put(KEY, b"%d" % value, if_revision=reading.revision, if_absent=reading.revision is None)
        except Conflict:
            attempts += 1
        else:
            return attempts


async def main(endpoints: str) -> None:
    async with open_router(endpoints) as router:
        before = int(await router.get(KEY) or b"0")

        async def work() -> int:
            return sum([await increment(router) for _ in range(INCREMENTS)])

        attempts = sum(await asyncio.gather(*(work() for _ in range(TASKS))))
        after = int(await router.get(KEY) or b"0")
    print(f"{after - before} increments in {attempts} attempts: {before} -> {after}")
    assert after - before == TASKS * INCREMENTS


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/counter.py HOST:PORT[,HOST:PORT...]")
    asyncio.run(main(sys.argv[1]))
