"""One block in a process of its own: start the system, run its rows, report each as a line of JSON, stop it.

The process leads a group to which all servers and load generators belong; when its standard input ends
(the run is over, or was killed), the whole group is killed.

    python -m bench.harness.block DIRECTORY < block.json
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path

import anyio

from bench.harness.launching import StartError
from bench.harness.ports import DrivenSystem, Servers, System
from bench.harness.rows import Block, Measurement, Outcome, Row
from bench.harness.stage import Stage
from bench.harness.workloads import run_driven_row, run_row
from bench.systems import find_system

CONNECT_SECONDS_MAX = 60.0
ROW_SECONDS_EXTRA = 60.0
"""How much longer than its timed part a row may take, for reading back and per kill; loading has its own."""


def main() -> int:
    block = Block.from_json(json.loads(sys.stdin.readline()))
    threading.Thread(target=_die_with_the_run, daemon=True).start()
    system = find_system(block.system)
    runner = BlockRunner(block, system)
    try:
        servers = system.start(Path(sys.argv[1]), block.cluster)
    except (StartError, OSError) as error:
        runner.fail_rest(f"it did not start: {error}")
        return 0
    try:
        anyio.run(runner.run, servers, backend=system.loop)
    finally:
        servers.stop()
    return 0


def _die_with_the_run() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


class BlockRunner:
    """Runs the rows of a block in order. After a failed row the later ones run on the same cluster all the same."""

    def __init__(self, block: Block, system: System) -> None:
        self._block = block
        self._system = system
        self._version = system.version()
        self._remaining = list(block.rows)

    async def run(self, servers: Servers) -> None:
        try:
            with anyio.fail_after(CONNECT_SECONDS_MAX):
                client = await self._system.connect(servers)
        except (Exception, TimeoutError) as error:
            self.fail_rest(f"it did not come to work: {describe(error)}")
            return
        stage = Stage(self._system, servers, client)
        gc.collect()
        while self._remaining:
            row = self._remaining[0]
            self.report(await self._try(stage, row))
            self._remaining.pop(0)
        await client.close()

    async def _try(self, stage: Stage, row: Row) -> Outcome:
        seconds_max = row.seconds + row.warm_up_seconds + ROW_SECONDS_EXTRA * max(1, row.times) + row.records / 1_000
        try:
            with anyio.fail_after(seconds_max):
                found = await self._measure(stage, row)
        except Exception as error:
            return self._outcome(row, failure=describe(error))
        if found.wrong:
            return self._outcome(row, failure=f"read back something else: {found.wrong:,} of {found.read_back:,} wrong")
        return self._outcome(row, measurement=found)

    async def _measure(self, stage: Stage, row: Row) -> Measurement:
        if isinstance(self._system, DrivenSystem):
            return await run_driven_row(stage, row, self._system.driver(stage.servers, stage.client))
        return await run_row(stage, row)

    def fail_rest(self, failure: str) -> None:
        for row in self._remaining:
            self.report(self._outcome(row, failure=failure))
        self._remaining.clear()

    def _outcome(self, row: Row, *, measurement: Measurement | None = None, failure: str = "") -> Outcome:
        return Outcome(
            key=row.key,
            system=self._system.name,
            workload=f"{row.workload}; {self._system.subject(self._block.cluster)}",
            unit=row.unit,
            version=self._version,
            promise=self._system.promise,
            measurement=measurement,
            failure=failure,
        )

    @staticmethod
    def report(outcome: Outcome) -> None:
        print(json.dumps(outcome.to_json()), flush=True)


def describe(error: BaseException) -> str:
    """An error in one line: the first one inside a group, with its kind."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError) and not str(error):
        return "it took too long"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
