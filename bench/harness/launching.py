"""Server processes of a block: ports, starting, killing, stopping, and what they said when they fail."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"
PORTS = range(20_000, 32_000)
"""Below the range from which the kernel takes ports for outgoing connections."""
STOP_SECONDS_MAX = 10.0


class StartError(Exception):
    """A system could not be started or did not come to work; the text says why."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface on which nobody listens, all different."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def find_program(name: str) -> str | None:
    """Where a program is: beside this interpreter, on PATH, or where Debian puts servers."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def output_of(*command: str) -> str:
    """What a short program prints, for asking it which version it is."""
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    return ran.stdout + ran.stderr


class Processes:
    """Named server processes with a log file each. They end with the block's process group at the latest."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._environment = environment
        self._commands: dict[str, Sequence[str]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str]) -> None:
        self._commands[name] = command
        with open(self.log_path(name), "ab") as log:
            self._running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, env=self._environment
            )

    def kill(self, name: str) -> None:
        """kill -9, as a crash of the process does."""
        self._running[name].send_signal(signal.SIGKILL)
        self._running[name].wait()

    def start_again(self, name: str) -> None:
        self.start(name, self._commands[name])

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._running.values()]

    @property
    def names(self) -> list[str]:
        return list(self._running)

    def pid_of(self, name: str) -> int:
        return self._running[name].pid

    def log_path(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def check(self) -> None:
        """Raise ``StartError`` with the last words of a process that has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                words = self.log_path(name).read_text(errors="replace").strip().splitlines()
                raise StartError(f"{name} ended with code {process.returncode}: {words[-1] if words else 'no word'}")

    def stop(self) -> None:
        """Ask all to end, and kill those that take too long."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
