"""Waiting for other processes: ask again until it is so, within a bound. The only place where tests sleep."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

Found = TypeVar("Found")
POLL_SECONDS = 0.02


def eventually(ask: Callable[[], Found], *, within_seconds: float = 30.0) -> Found:
    """What ``ask`` returns once that is true; fails with its last answer when that takes too long."""
    deadline = time.monotonic() + within_seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, f"still {found!r} after {within_seconds} s"
        time.sleep(POLL_SECONDS)
    return found


async def eventually_async(ask: Callable[[], Awaitable[Found]], *, within_seconds: float = 30.0) -> Found:
    """``eventually`` for an asynchronous question, on either event loop."""
    deadline = time.monotonic() + within_seconds
    while not (found := await ask()):
        assert time.monotonic() < deadline, f"still {found!r} after {within_seconds} s"
        await anyio.sleep(POLL_SECONDS)
    return found
