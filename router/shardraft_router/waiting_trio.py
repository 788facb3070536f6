"""Waiting under trio: the task parks and is rescheduled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any

from trio.lowlevel import Abort, current_task, reschedule, spawn_system_task, wait_task_rescheduled

from shardraft_router.waiting import Awaited, elsewhere


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
            reschedule(task)

    def spawn(self, main: Callable[[], Awaitable[None]]) -> None:
        # A nursery around the caller's body would wrap its errors in groups; a system task does not.
        spawn_system_task(main, name="shardraft_router")
