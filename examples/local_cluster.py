"""A local cluster under ``shardraft dev``, for the examples that bring their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0


class LocalCluster:
    """Started with ``shardraft dev`` and further ``arguments``; leaves its directory and no process behind."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.ready_file = directory / "ready.json"
        self.log_path = directory / "dev.log"
        command = [sys.executable, "-m", "shardraft", "dev", "--data-dir", str(directory / "data"), *arguments]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--ready-file", str(self.ready_file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def ready(self) -> dict[str, Any]:
        """Wait until all shards have leaders and all learners follow; what the ready file says."""
        with trio.move_on_after(START_SECONDS_MAX):
            while self.process.poll() is None:
                if self.ready_file.exists():
                    places: dict[str, Any] = json.loads(self.ready_file.read_text())
                    return places
                await trio.sleep(0.05)
        raise SystemExit(f"error: the cluster did not start:\n{self.log_path.read_text()}")

    def stop(self) -> int:
        """Stop all of it as Ctrl-C would; the exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
