"""How a task waits for a call, and how it is woken: one contract, two forms.

anyio offers nothing as cheap as what trio and asyncio each have: parking a task and rescheduling it
directly, with no event, task, or timeout scope per operation. Everything else of the faces is anyio.

The contract, tested for both forms:

- ``wait(call, abandon)`` returns once ``wake(call)`` was called after it began to wait.
- When the waiting task is cancelled, ``abandon(call)`` is called at once or before the task runs again,
  ``call.waiter`` is None from then on, and the cancellation goes on in the task.
- ``wake`` of a call that nobody waits for does nothing; it may be called from any task of the same loop.
- ``check_caller`` raises RuntimeError from another thread or another event loop.
- A Ctrl-C that meets a task which was spawned, or one of its ``guarded`` children, is raised in the program's
  own main task instead.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from anyio.abc import ByteStream

from shardraft_router.channels import Channel


class Awaited(Protocol):
    """What can be waited for: the ``waiter`` belongs to this module."""

    waiter: Any


Child = Callable[..., Coroutine[Any, Any, None]]
"""The function of a task that a spawned one starts."""


class Waiting(Protocol):
    """One event loop, in the one thread that runs it."""

    def check_caller(self) -> None:
        """Raise RuntimeError unless the caller runs in this loop."""
        ...

    def wait(self, call: Awaited, abandon: Callable[[Any], object]) -> Awaitable[None]:
        """Wait until ``wake(call)``."""
        ...

    def wake(self, call: Awaited) -> None:
        """Let the task that waits for ``call`` go on, if one does."""
        ...

    def spawn(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run ``main``, which raises nothing but cancellation and Ctrl-C, in a task that belongs to no task group."""
        ...

    def guarded(self, child: Child) -> Child:
        """``child`` as a task to start from ``main``: as a rule no Ctrl-C is raised in it."""
        ...

    def interrupt(self) -> None:
        """Pass a Ctrl-C on that met a task which is not guarded."""
        ...

    def channel(self, stream: ByteStream) -> Channel:
        """The cheapest way to send and receive on a connection."""
        ...


class Signal:
    """A thing to wait for that may have happened before; for one waiting task."""

    def __init__(self, waiting: Waiting) -> None:
        self.waiter: Any = None
        self._waiting = waiting
        self._raised = False

    def set(self) -> None:
        if not self._raised:
            self._raised = True
            self._waiting.wake(self)

    async def wait(self) -> None:
        """Wait until it is set, and take that back."""
        if not self._raised:
            await self._waiting.wait(self, _forget)
        self._raised = False


def _forget(_: Signal) -> None:
    """Nobody waits any more; the signal stays as it is."""


def waiting_here() -> Waiting:
    """The form for the event loop that is running; RuntimeError when none is."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        from shardraft_router.waiting_trio import TrioWaiting

        return TrioWaiting()
    from shardraft_router.waiting_asyncio import AsyncioWaiting

    return AsyncioWaiting()


def elsewhere(what: str) -> RuntimeError:
    return RuntimeError(f"this Router was opened in another {what}; open one in each {what} that needs one")
