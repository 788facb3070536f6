"""A real local cluster for tests: ``shardraft dev`` as a process, and what its ready file says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.eventually import eventually

SHARDRAFT = (sys.executable, "-m", "shardraft")
STOP_SECONDS_MAX = 30.0


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet collected by its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class DevCluster:
    """One run of ``shardraft dev``. ``places`` is the ready file; ``environment`` finds the cluster by itself."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.ready_file = directory / "ready.json"
        self.output = directory / "dev.log"
        # A supervisor that was killed left it; the next one removes it, but not before it has been started.
        self.ready_file.unlink(missing_ok=True)
        places = ["--data-dir", str(self.data_dir), "--ready-file", str(self.ready_file)]
        command = [*SHARDRAFT, "dev", *places, *arguments]
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def wait_until_ready(self, *, within_seconds: float = 60.0) -> None:
        """Returns when the ready file is there; fails with the output when the process ends instead."""

        def ready_or_dead() -> bool:
            return self.ready_file.exists() or self.process.poll() is not None

        try:
            eventually(ready_or_dead, within_seconds=within_seconds)
        except AssertionError as error:
            raise AssertionError(self.story()) from error
        assert self.process.poll() is None, self.output.read_text()

    def story(self) -> str:
        """What the cluster said of itself, for the message of a failed test."""
        layout = json.loads((self.data_dir / "cluster.json").read_text())
        endpoints = ",".join(host["endpoint"] for host in layout["hosts"])
        status = subprocess.run(
            [*SHARDRAFT, "status", "--endpoint", endpoints], capture_output=True, text=True, timeout=60, check=False
        )
        logs = [f"{path.name}:\n{path.read_text()[-2000:]}" for path in sorted(self.data_dir.glob("logs/*.log"))]
        return "\n".join([self.output.read_text(), status.stdout, status.stderr, *logs])

    @property
    def places(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.ready_file.read_text())
        return value

    @property
    def endpoints(self) -> list[str]:
        return [host["endpoint"] for host in self.places["hosts"]]

    @property
    def pids(self) -> list[int]:
        return [place["pid"] for place in self.places["hosts"] + self.places["learners"]]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SHARDRAFT_ENDPOINT": ",".join(self.endpoints)}

    def shardraft(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run one command against the cluster."""
        return subprocess.run(
            [*SHARDRAFT, *arguments], input=stdin, capture_output=True, env=self.environment, timeout=120, check=False
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS_MAX)


@contextmanager
def dev_cluster(directory: Path, *arguments: str) -> Iterator[DevCluster]:
    """A cluster that is ready, and stopped at the end whatever happens."""
    cluster = DevCluster(directory, *arguments)
    try:
        cluster.wait_until_ready()
        yield cluster
    finally:
        cluster.stop()
