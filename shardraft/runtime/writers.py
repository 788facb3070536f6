"""Who writes the blocks of the log, several at a time: in C where that was compiled, else with threads of Python.

Either has the same face, ``Writer``, and passes the same tests. The one in C never needs the interpreter's lock, for
which the loop and a thread of Python wait for each other (decision 0029).
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Final, Protocol

from shardraft.storage.segment import BLOCKS_UNDER_WAY_MAX, write_all

try:
    from shardraft.runtime.block_writer import BlockWriter as _CompiledWriter
except ImportError:
    _CompiledWriter = None  # type: ignore[assignment,misc]  # A source tree has none.

WRITES_MAX: Final = BLOCKS_UNDER_WAY_MAX
"""Writes that may be under way at a time; whoever has more joins them into one."""


class Writer(Protocol):
    """Writes what it is given to files that are opened with ``O_DSYNC``, so that what is written is durable."""

    def fileno(self) -> int:
        """Readable, for epoll, when ``take_finished`` has something."""
        ...

    def write(self, fd: int, parts: tuple[bytes, ...], at: int, /) -> None:
        """Have the parts written one behind the other from ``at``; at most ``WRITES_MAX`` may be under way."""
        ...

    def take_finished(self) -> list[int]:
        """Of each write that was finished and has none before it that was not, in order: 0, or its ``errno``."""
        ...

    def stop(self, seconds: float, /) -> bool:
        """Let what was given be finished and end the threads; False when one still hangs after so many ``seconds``."""
        ...


class _Write:
    """One that is under way; ``error`` is None until it is finished."""

    def __init__(self, fd: int, parts: tuple[bytes, ...], at: int) -> None:
        self.fd = fd
        self.parts = parts
        self.at = at
        self.error: int | None = None


class ThreadsWriter:
    """``Writer`` with threads of Python."""

    def __init__(self, threads: int) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._given: SimpleQueue[_Write | None] = SimpleQueue()
        self._under_way: deque[_Write] = deque()
        self._is_stopped = False
        self._threads = [
            threading.Thread(target=self._run, name="shardraft-log", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def fileno(self) -> int:
        return self._event

    def write(self, fd: int, parts: tuple[bytes, ...], at: int, /) -> None:
        if self._is_stopped or len(self._under_way) == WRITES_MAX:
            raise RuntimeError("the writer was stopped" if self._is_stopped else "too many writes are under way")
        write = _Write(fd, parts, at)
        self._under_way.append(write)
        self._given.put(write)

    def take_finished(self) -> list[int]:
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            pass  # Who is finished from here on raises it again.
        taken = []
        while self._under_way and (error := self._under_way[0].error) is not None:
            self._under_way.popleft()
            taken.append(error)
        return taken

    def stop(self, seconds: float, /) -> bool:
        self._is_stopped = True
        for _ in self._threads:
            self._given.put(None)
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (write := self._given.get()) is not None:
            try:
                write_all(write.fd, write.parts, write.at)
                write.error = 0
            except OSError as error:
                write.error = error.errno
            finally:
                if write.error is None:
                    write.error = errno.EIO
                os.eventfd_write(self._event, 1)

    def __del__(self) -> None:
        os.close(self._event)  # No thread is alive any more: each of them refers to this.


def make_writer() -> Writer:
    """The best one that there is."""
    return ThreadsWriter(WRITES_MAX) if _CompiledWriter is None else _CompiledWriter(WRITES_MAX)
