"""Where trio's tasks wait: places that are used again and again, so that a wait makes nothing but a generator.

What trio must be told for a task to wait (the trap) holds the function that ends the wait when the task is cancelled.
A task alone has a new one of both for each wait, for more than the whole switch of tasks costs otherwise. Here a
place has them for as long as it lives, and knows who waits in it. This module is compiled; it knows trio by the
functions that it is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any, Final

from shardraft_router.waiting import Awaited, elsewhere

_IDENT: Final = get_ident
"""Compiled code finds a name of its own faster than one that it imports."""

Abandon = Callable[[Any], object]


class Berth:
    """A place for one task at a time. ``trap`` is what the task yields."""

    __slots__ = ("_berths", "abandon", "call", "task", "trap")

    def __init__(self, berths: Berths) -> None:
        self._berths = berths
        self.call: Any = None
        self.abandon: Any = None
        self.task: Any = None
        self.trap: Any = berths.trap_of(self.abort)

    def abort(self, _: object) -> Any:
        """Trio cancels the task that waits here, and wakes it itself."""
        call, abandon = self.call, self.abandon
        call.waiter = None
        self._berths.leave(self)
        abandon(call)
        return self._berths.aborted


class Berths:
    """All places of one trio run, and its thread.

    ``yielding`` is the generator function that yields a trap, ``trap_of`` makes the trap that goes with an abort
    function, and ``woken`` is what ``reschedule`` hands to a task.
    """

    def __init__(
        self,
        *,
        current_task: Callable[[], Any],
        reschedule: Callable[[Any, Any], None],
        yielding: Callable[[Any], Awaitable[None]],
        trap_of: Callable[[Callable[[Any], Any]], Any],
        woken: Any,
        aborted: Any,
    ) -> None:
        self.trap_of = trap_of
        self.aborted = aborted
        self._current_task = current_task
        self._reschedule = reschedule
        self._yielding = yielding
        self._woken = woken
        self._opened_in = get_ident()
        self._free: list[Berth] = []

    def check_caller(self) -> None:
        if _IDENT() != self._opened_in:
            raise elsewhere("thread")

    def wait(self, call: Awaited, abandon: Abandon) -> Awaitable[None]:
        free = self._free
        berth = free.pop() if free else Berth(self)
        berth.task = self._current_task()
        berth.call = call
        berth.abandon = abandon
        call.waiter = berth
        return self._yielding(berth.trap)

    def wake(self, call: Awaited) -> None:
        berth = call.waiter
        if berth is not None:
            call.waiter = None
            task = berth.task
            # From here on trio cannot cancel this wait any more, so another may have the place before the task runs.
            self._reschedule(task, self._woken)
            self.leave(berth)

    def leave(self, berth: Berth) -> None:
        """The place is free."""
        berth.task = berth.call = berth.abandon = None
        self._free.append(berth)
