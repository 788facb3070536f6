"""Waiting under trio: the task parks and is rescheduled."""

from __future__ import annotations

import signal
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Final

from anyio.abc import ByteStream
from outcome import Outcome
from trio.lowlevel import (
    Abort,
    current_task,
    enable_ki_protection,
    reschedule,
    spawn_system_task,
    wait_readable,
    wait_task_rescheduled,
)

from shardraft_router.berths import Berths
from shardraft_router.channels import Channel, SocketChannel
from shardraft_router.waiting import Child


class _Woken(Outcome[None]):
    """What a woken task is given. An ``outcome.Value`` serves once, and making one costs a third of the wake."""

    def unwrap(self) -> None:
        return None

    def send(self, gen: Generator[Any, None, Any]) -> Any:
        return gen.send(None)

    async def asend(self, agen: AsyncGenerator[Any, None]) -> Any:
        return await agen.asend(None)


_WOKEN: Final = _Woken()


@types.coroutine
def _yielding(trap: Any) -> Generator[Any, Any, None]:
    """Park the running task. Whoever is cancelled is given another outcome, which raises."""
    outcome = yield trap
    if outcome is not _WOKEN:
        outcome.unwrap()


def _trap_of(abort: Callable[[Any], Abort]) -> Any:
    """What ``wait_task_rescheduled`` yields; trio takes out ``abort`` and keeps nothing else, so it serves again."""
    waiting = wait_task_rescheduled(abort)
    trap = waiting.send(None)
    waiting.close()
    return trap


class TrioWaiting:
    """The ``Waiting`` contract on ``trio.lowlevel``.

    A thread runs one trio loop at a time, and a router does not outlive the one it was opened in, so callers are told
    apart by their thread.
    """

    def __init__(self) -> None:
        berths = Berths(
            current_task=current_task,
            reschedule=reschedule,
            yielding=_yielding,
            trap_of=_trap_of,
            woken=_WOKEN,
            aborted=Abort.SUCCEEDED,
        )
        self.check_caller = berths.check_caller
        self.wait = berths.wait
        self.wake = berths.wake

    def spawn(self, main: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await main()
            except* KeyboardInterrupt:
                self.interrupt()  # A system task that fails takes the whole program with it.

        # A nursery around the caller's body would wrap its errors in groups; a system task does not.
        spawn_system_task(run, name="shardraft_router")

    def guarded(self, child: Child) -> Child:
        # Only system tasks are protected by themselves, and the tasks that these start are none.
        @enable_ki_protection
        async def run(*arguments: Any) -> None:
            await child(*arguments)

        return run

    def interrupt(self) -> None:
        # The caller is protected, so trio raises the repeated signal in the main task.
        signal.raise_signal(signal.SIGINT)

    def channel(self, stream: ByteStream) -> Channel:
        return SocketChannel(stream, wait_readable)
