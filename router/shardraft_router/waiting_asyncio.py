"""Waiting under asyncio: one future per call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from anyio.abc import ByteStream

from shardraft_router.channels import Channel, StreamChannel
from shardraft_router.waiting import Awaited, Child, elsewhere


class AsyncioWaiting:
    """The ``Waiting`` contract on futures of one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def check_caller(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise elsewhere("thread") from None
        if loop is not self._loop:
            raise elsewhere("event loop")

    async def wait(self, call: Awaited, abandon: Callable[[Any], object]) -> None:
        future = call.waiter = self._loop.create_future()
        try:
            await future
        except asyncio.CancelledError:
            # Also after the wake, when the task was cancelled before it could run: then nobody takes the result.
            call.waiter = None
            abandon(call)
            raise

    def wake(self, call: Awaited) -> None:
        future = call.waiter
        if future is not None:
            call.waiter = None
            if not future.done():
                future.set_result(None)

    def spawn(self, main: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await main()

        # The loop keeps only a weak reference to a task.
        self._task = self._loop.create_task(run(), name="shardraft_router")

    def guarded(self, child: Child) -> Child:
        return child  # Under asyncio.run no Ctrl-C is raised in any task: it cancels the main one.

    def interrupt(self) -> None:
        raise KeyboardInterrupt  # The loop passes it on to whoever runs it.

    def channel(self, stream: ByteStream) -> Channel:
        return StreamChannel(stream)
