"""What a run ran on: without it no number means anything to anybody else."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

SYNCS = 200
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "overlay"})


def file_system_of(directory: Path) -> str:
    """The kind of file system that a directory lies on."""
    path = directory.resolve()
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if path.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]


def sync_ms(directory: Path) -> float:
    """The median time of appending 4 KiB and making it durable."""
    path = directory / "sync-probe"
    times = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(SYNCS):
            begun = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    path.unlink()
    return 1000 * statistics.median(times)


def describe_machine(directory: Path) -> str:
    """One sentence: cores, memory, system, file system and how long a sync takes now."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    kind = file_system_of(directory)
    warning = ", where a sync means nothing" if kind in MEMORY_FILE_SYSTEMS else ""
    return (
        f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}, "
        f"data on {kind}{warning}; "
        f"4 KiB appended and synced in {sync_ms(directory):.2f} ms (median); load average {os.getloadavg()[0]:.1f}."
    )
