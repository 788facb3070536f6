"""Reading and writing sockets that do not wait: in C where that was compiled, else in Python; the same tests for both.

The functions in C keep the interpreter's lock. A call of the kernel that does not wait takes some microseconds. Whoever
lets the lock go for it gives it to a thread that flushes, which keeps it a hundred times as long (decision 0031).
"""

from __future__ import annotations

import os
from typing import Final

_RECEIVE_BYTES: Final = 64 << 10
"""What one receive in Python takes at most; in C it is 256 KiB, since it needs no memory for what does not come."""


def read_in_python(fd: int) -> bytes | None:
    """What is there to read; b"" at the end, however it came; None when there is nothing."""
    try:
        return os.read(fd, _RECEIVE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def write_in_python(fd: int, data: bytes) -> int:
    """Give the kernel what it takes of ``data``; how many bytes that was, 0 where the connection is broken."""
    try:
        return os.write(fd, data)
    except OSError:
        return 0


try:
    from shardraft.transport.socket_calls import read_at_once, write_at_once
except ModuleNotFoundError:  # A source tree has none; one that is there and cannot be loaded is an error.
    read_at_once, write_at_once = read_in_python, write_in_python

__all__ = ["read_at_once", "write_at_once"]
