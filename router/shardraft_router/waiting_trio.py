"""Waiting under trio: the task parks and is rescheduled."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from threading import get_ident
from typing import Any, Final

from outcome import Outcome
from trio.lowlevel import (
    Abort,
    current_task,
    enable_ki_protection,
    reschedule,
    spawn_system_task,
    wait_task_rescheduled,
)

from shardraft_router.waiting import Awaited, Child, elsewhere


class _Woken(Outcome[None]):
    """What a woken task is given. An ``outcome.Value`` serves once, and making one costs a third of the wake."""

    def unwrap(self) -> None:
        return None

    def send(self, gen: Generator[Any, None, Any]) -> Any:
        return gen.send(None)

    async def asend(self, agen: AsyncGenerator[Any, None]) -> Any:
        return await agen.asend(None)


_WOKEN: Final = _Woken()


class TrioWaiting:
    """The ``Waiting`` contract on ``trio.lowlevel``."""

    def __init__(self) -> None:
        self._thread = get_ident()

    def check_caller(self) -> None:
        # A thread runs one trio loop at a time, and a router does not outlive the one it was opened in.
        if get_ident() != self._thread:
            raise elsewhere("thread")

    def wait(self, call: Awaited, abandon: Callable[[Any], object]) -> Awaitable[None]:
        def abort(_: Callable[[], object]) -> Abort:
            call.waiter = None
            abandon(call)
            return Abort.SUCCEEDED

        call.waiter = current_task()
        return wait_task_rescheduled(abort)

    def wake(self, call: Awaited) -> None:
        task = call.waiter
        if task is not None:
            call.waiter = None
            reschedule(task, _WOKEN)

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
