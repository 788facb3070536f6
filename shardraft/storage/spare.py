"""A segment of zeros that is made before it is needed, piece by piece, beside the commits.

A file system remembers of reserved room that nothing was written to it, and a synced write has to change that in its
journal too. Where zeros were written a sync is one write. They are written ahead of time and a piece at a time, so
that no commit waits for more than one of them (decision 0029).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

PIECE_BYTES: Final = 1 << 20
"""Zeros that are written and synced at a time: some milliseconds of a disk."""
WRITE_BYTES: Final = 32 << 10
"""Zeros in one call. What a call writes lies together in memory from then on, and Linux counts all of that as written
(in ``/proc/<pid>/io``) for each byte that is changed in it; a megabyte at a time, each commit counted as one."""
BYTES_PER_SECOND_MAX: Final = 16 << 20
"""Of a log that grows faster every byte counts, and its large blocks gain little; it gets no spare segment."""
_NAME: Final = "spare"


class Spare:
    """The segment that comes next, or nothing. Whatever goes wrong with it, there is none, and nobody needs it.

    ``begin`` may be called on any thread while ``go_on`` and ``take`` are not at work, which belong to one.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = directory / _NAME
        self._clock = clock
        self._begun_at = clock()
        self._wanted_bytes = 0
        self._made_bytes = 0
        self.remove()

    @property
    def is_being_made(self) -> bool:
        """Whether ``go_on`` has something to do."""
        return self._made_bytes < self._wanted_bytes

    def begin(self, segment_bytes: int) -> None:
        """A segment of that size is begun, and so will the next be: want that, unless it is filled too soon."""
        seconds, self._begun_at = self._clock() - self._begun_at, self._clock()
        if self._wanted_bytes == 0 and segment_bytes <= seconds * BYTES_PER_SECOND_MAX:
            self._wanted_bytes = segment_bytes

    def go_on(self) -> None:
        """Make the next piece, durably, if one is wanted."""
        if not self.is_being_made:
            return
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if self._made_bytes == 0:
                    os.posix_fallocate(fd, 0, self._wanted_bytes)
                size = min(PIECE_BYTES, self._wanted_bytes - self._made_bytes)
                written = 0
                while written < size:
                    zeros = bytes(min(WRITE_BYTES, size - written))
                    written += os.pwrite(fd, zeros, self._made_bytes + written)
                os.fsync(fd)
            finally:
                os.close(fd)
            self._made_bytes += written
        except OSError:
            self.remove()  # A full disk, most likely: the log needs that room more.

    def take(self, path: Path, bytes_min: int) -> bool:
        """Give it that name, if it is whole and large enough; whether that was so. Not durable yet."""
        if self._made_bytes == 0 or self.is_being_made or self._made_bytes < bytes_min:
            return False
        try:
            self._path.rename(path)
        except OSError:
            return False
        self._wanted_bytes = self._made_bytes = 0
        return True

    def remove(self) -> None:
        """Delete what there is of it."""
        self._wanted_bytes = self._made_bytes = 0
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            pass  # It is in nobody's way, and the next one is written over it.
