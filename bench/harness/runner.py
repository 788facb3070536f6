"""Runs the blocks of a plan one after the other, each in its own process, and gathers what they report."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.harness.ports import System
from bench.harness.rows import Block, Outcome

ROOT = Path(__file__).resolve().parent.parent.parent
STOP_SECONDS_MAX = 30.0
"""For stopping the servers after the last row was reported."""


def run_blocks(
    blocks: list[Block],
    systems: dict[str, System],
    directory: Path,
    *,
    seconds_max: float,
    report: Callable[[Block, Outcome], None],
    command: tuple[str, ...] = (sys.executable, "-m", "bench.harness.block"),
) -> list[Outcome]:
    """Run all blocks; every row of each has an outcome in the result, whatever happened.

    A block that takes longer than its own ``seconds_max`` is killed, as is the one that runs when ``seconds_max`` is
    over, and none begins after that: their rows have failed then. ``report`` is told each outcome at once.
    """
    deadline = time.monotonic() + seconds_max
    found: list[Outcome] = []
    for block in blocks:
        system = systems[block.system]
        if time.monotonic() > deadline:
            outcomes = iter(failures(block, system, set(), "not run: the time for the whole run is used up"))
        else:
            outcomes = _run_block(block, system, directory / f"block-{block.number}", command, deadline)
        for outcome in outcomes:
            found.append(outcome)
            report(block, outcome)
    return found


def _run_block(
    block: Block, system: System, directory: Path, command: tuple[str, ...], deadline: float
) -> Iterator[Outcome]:
    directory.mkdir(parents=True)
    with open(directory / "client.log", "wb") as log:
        process = subprocess.Popen(
            [*command, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
    seen: set[str] = set()
    try:
        _tell(process, block)
        for outcome in _outcomes(process, min(deadline, time.monotonic() + block.seconds_max)):
            seen.add(outcome.key)
            yield outcome
        reason = _last_words(process, directory / "client.log")
    finally:
        _kill(process)
    yield from failures(block, system, seen, reason)
    if seen == {row.key for row in block.rows}:
        shutil.rmtree(directory, ignore_errors=True)


def _tell(process: subprocess.Popen[bytes], block: Block) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(block.to_json()).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # It ended at once, and its last words say why.


def _outcomes(process: subprocess.Popen[bytes], deadline: float) -> Iterator[Outcome]:
    """What the block reports, until it ends or its time is up."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    assert process.stdout is not None
    stdout = process.stdout

    def read() -> None:
        with stdout:
            for line in stdout:
                lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return
        if not line:
            return
        yield Outcome.from_json(json.loads(line))


def _last_words(process: subprocess.Popen[bytes], log: Path) -> str:
    try:
        code = process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return "it timed out"
    words = log.read_text(errors="replace").strip().splitlines()
    return f"the client ended with code {code}" + (f": {words[-1]}" if words else "")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the block: its client, its servers, its load generators."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # All of it has ended.
    process.wait()
    assert process.stdin is not None
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass  # What it was told last was not read any more.


def failures(block: Block, system: System, seen: set[str], reason: str) -> list[Outcome]:
    """An outcome for each row of the block that has none yet."""
    return [
        Outcome(
            key=row.key,
            system=system.name,
            workload=f"{row.workload}; {system.subject(block.cluster)}",
            unit=row.unit,
            version="",
            promise=system.promise,
            failure=reason,
        )
        for row in block.rows
        if row.key not in seen
    ]
