"""What processes cost, from /proc: CPU seconds, bytes written to the disk, resident memory. Linux only."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import attrs

_CPU_CLOCK = 2
"""CPUCLOCK_SCHED of the kernel's process clocks, which is what clock_getcpuclockid(3) makes."""
_RSS_PERIOD_SECONDS = 1.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, ended ones too; 0 when the process is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK)
    except OSError:
        return 0.0


def disk_bytes(pid: int) -> int:
    """Bytes that a process caused to be written to storage, pages of its memory maps included."""
    return _number(Path(f"/proc/{pid}/io"), "write_bytes:")


def rss_bytes(pid: int) -> int:
    """``Rss`` of smaps_rollup: resident pages, those of mapped files included."""
    return 1024 * _number(Path(f"/proc/{pid}/smaps_rollup"), "Rss:")


def _number(path: Path, field: str) -> int:
    try:
        text = path.read_text()
    except OSError:
        return 0  # The process is gone, which the row itself notices.
    for line in text.splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


def busy_seconds() -> float:
    """CPU time of the whole machine since it started, all programs and the kernel, without waiting."""
    user, nice, system, _idle, _wait, *rest = (
        int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + sum(rest[:2])) / _TICKS_PER_SECOND


def own_seconds() -> float:
    """CPU time of this process and of the children that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@attrs.frozen(slots=True)
class Usage:
    """What the servers and the client spent between ``Meter.begin`` and ``Meter.end``."""

    seconds: float
    cpu_seconds: float
    client_cpu_seconds: float
    disk_bytes: int
    rss_bytes: int
    rss_bytes_largest: int
    others_share: float


@attrs.frozen(slots=True)
class _Reading:
    at: float
    cpu_seconds: float
    own_seconds: float
    busy_seconds: float
    disk_bytes: int


class Meter:
    """Measures the given server processes while work goes on; memory about once a second, on its own thread."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._own = os.getpid() in self._pids
        self._stopped = threading.Event()
        self._peak = 0
        self._peak_largest = 0
        self._thread = threading.Thread(target=self._watch_memory, daemon=True)

    def begin(self) -> None:
        self._sample_memory()
        self._thread.start()
        self._first = self._read()

    def end(self) -> Usage:
        first, last = self._first, self._read()
        self._stopped.set()
        self._thread.join()
        self._sample_memory()
        seconds = last.at - first.at
        cpu, own = last.cpu_seconds - first.cpu_seconds, last.own_seconds - first.own_seconds
        # A client that is a member of the cluster is counted as a server already.
        ours = cpu if self._own else cpu + own
        others = max(0.0, last.busy_seconds - first.busy_seconds - ours)
        share = others / (seconds * (os.cpu_count() or 1)) if seconds else 0.0
        written = last.disk_bytes - first.disk_bytes
        return Usage(seconds, cpu, own, written, self._peak, self._peak_largest, share)

    def _read(self) -> _Reading:
        return _Reading(
            time.perf_counter(),
            sum(cpu_seconds(pid) for pid in self._pids),
            own_seconds(),
            busy_seconds(),
            sum(disk_bytes(pid) for pid in self._pids),
        )

    def _sample_memory(self) -> None:
        sizes = [rss_bytes(pid) for pid in self._pids]
        self._peak = max(self._peak, sum(sizes))
        self._peak_largest = max(self._peak_largest, max(sizes, default=0))

    def _watch_memory(self) -> None:
        while not self._stopped.wait(_RSS_PERIOD_SECONDS):
            self._sample_memory()
