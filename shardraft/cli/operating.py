"""What the commands that change a running cluster share: progress, many shards at once, what failed, Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from shardraft.cli.common import Target, print_json, with_router
from shardraft.cli.failures import EXIT_INTERRUPTED, exit_code_of, leaf_of, line_of
from shardraft.cli.view import ClusterView, view_of
from shardraft.errors import ShardraftError
from shardraft.kv.requests import StatusReply

if TYPE_CHECKING:
    from shardraft_router import Router

Item = TypeVar("Item")

AT_ONCE_MAX: Final = 8
"""Shards that are worked on at the same time; the others wait for their turn."""


@attrs.frozen(slots=True)
class Done:
    """One thing that was done: ``line`` tells it to a person, ``value`` to a program."""

    line: str
    value: dict[str, Any]


class Report:
    """Results on standard output, progress and failures on standard error; ``exit_code`` is that of the worst failure.

    With ``as_json`` standard output gets one object when all is over: {"done": [...], "failed": [...]}.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._done: list[dict[str, Any]] = []
        self._failed: list[dict[str, Any]] = []
        self.exit_code = 0

    def say(self, line: str) -> None:
        """Tell how it goes."""
        print(line, file=sys.stderr, flush=True)

    def done(self, done: Done) -> None:
        self._done.append(done.value)
        if not self._as_json:
            print(done.line, flush=True)

    def failed(self, what: str, value: dict[str, Any], error: ShardraftError) -> None:
        """One of several things failed; the others go on."""
        self.exit_code = max(self.exit_code, exit_code_of(error))
        self._failed.append({**value, "error": line_of(error), "outcome": error.applied})
        print(f"error: {what}: {line_of(error)}", file=sys.stderr, flush=True)

    def end(self) -> int:
        """Print what is printed at the end, and return the exit code."""
        if self._as_json:
            print_json({"done": self._done, "failed": self._failed})
        return self.exit_code


def operate(target: Target, body: Callable[[Router], Awaitable[int]]) -> int:
    """Run ``body`` with a router to ``target`` and return its exit code; Ctrl-C says that the cluster goes on."""
    try:
        return with_router(target, body)
    except KeyboardInterrupt:
        return _interrupted()
    except BaseExceptionGroup as errors:
        if isinstance(leaf_of(errors), KeyboardInterrupt):
            return _interrupted()
        raise


def _interrupted() -> int:
    print("error: interrupted; what was begun goes on (see shardraft status)", file=sys.stderr)
    return EXIT_INTERRUPTED


async def for_each(items: Sequence[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Do ``work`` for every item, at most ``AT_ONCE_MAX`` of them at the same time."""
    import trio

    room = trio.CapacityLimiter(AT_ONCE_MAX)

    async def one(item: Item) -> None:
        async with room:
            await work(item)

    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(one, item)


async def view(router: Router) -> ClusterView:
    """The cluster as its reachable processes see it at this moment."""
    answers = await router.status()
    return view_of([answer for answer in answers if isinstance(answer, StatusReply)])
