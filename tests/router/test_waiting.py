"""The contract of waiting, for both of its forms."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio

from shardraft_router.waiting import Signal, Waiting, waiting_here

pytestmark = pytest.mark.anyio


class Awaited:
    waiter: Any = None


class Watched:
    """Counts how often something that is waited for was abandoned."""

    def __init__(self) -> None:
        self.waiting: Waiting = waiting_here()
        self.abandoned: list[Awaited] = []
        self.returned: list[Awaited] = []

    async def wait(self, call: Awaited) -> None:
        await self.waiting.wait(call, self.abandoned.append)
        self.returned.append(call)


async def test_a_task_waits_until_it_is_woken() -> None:
    watched, call = Watched(), Awaited()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.wait, call)
        await anyio.wait_all_tasks_blocked()
        assert call.waiter is not None
        assert watched.returned == []
        watched.waiting.wake(call)
        assert call.waiter is None
    assert watched.returned == [call]
    assert watched.abandoned == []


async def test_each_wake_reaches_its_own_task() -> None:
    watched, calls = Watched(), [Awaited() for _ in range(5)]
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(watched.wait, call)
        await anyio.wait_all_tasks_blocked()
        watched.waiting.wake(calls[3])
        await anyio.wait_all_tasks_blocked()
        assert watched.returned == [calls[3]]
        for call in calls:
            watched.waiting.wake(call)
    assert len(watched.returned) == 5


async def test_waking_what_nobody_waits_for_does_nothing() -> None:
    watched, call = Watched(), Awaited()
    watched.waiting.wake(call)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.wait, call)
        await anyio.wait_all_tasks_blocked()
        assert watched.returned == []
        watched.waiting.wake(call)
        watched.waiting.wake(call)
    assert watched.returned == [call]


async def test_a_cancelled_wait_is_abandoned_once_and_the_cancellation_goes_on() -> None:
    watched, call = Watched(), Awaited()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watched.wait, call)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert watched.abandoned == [call]
    assert watched.returned == []
    assert call.waiter is None
    watched.waiting.wake(call)


async def test_a_wait_that_begins_in_a_cancelled_scope_is_abandoned() -> None:
    watched, call = Watched(), Awaited()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await watched.wait(call)
    assert watched.abandoned == [call]
    assert watched.returned == []


async def test_a_wait_woken_and_cancelled_at_once_either_returns_or_is_abandoned() -> None:
    watched, call = Watched(), Awaited()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watched.wait, call)
            await anyio.wait_all_tasks_blocked()
            watched.waiting.wake(call)
            scope.cancel()
    assert len(watched.abandoned) + len(watched.returned) == 1


async def test_who_waits_where_another_was_woken_is_told_apart_from_that_one() -> None:
    """Under trio a place is free as soon as its task is woken: what is cancelled then must be the right wait."""
    watched, first, second = Watched(), Awaited(), Awaited()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watched.wait, first)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(watched.wait, second)
            watched.waiting.wake(first)
            await anyio.wait_all_tasks_blocked()
            assert watched.returned == [first]
            scope.cancel()
    assert watched.abandoned == [second]
    assert watched.returned == [first]


async def test_waits_that_follow_each_other_keep_apart() -> None:
    watched, calls = Watched(), [Awaited() for _ in range(12)]
    for place, call in enumerate(calls):
        other = Awaited()
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as cancelled:
                    cancelled.start_soon(watched.wait, call)
                    await anyio.wait_all_tasks_blocked()
                    tasks.start_soon(watched.wait, other)
                    await anyio.wait_all_tasks_blocked()
                    if place % 3:
                        watched.waiting.wake(call)
                    else:
                        scope.cancel()
            assert other.waiter is not None
            watched.waiting.wake(other)
        assert watched.returned.pop() is other
    assert watched.abandoned == calls[::3]
    assert watched.returned == [call for place, call in enumerate(calls) if place % 3]
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(watched.wait, call)
        await anyio.wait_all_tasks_blocked()
        assert len({id(call.waiter) for call in calls}) == len(calls)
        for call in calls:
            watched.waiting.wake(call)


async def test_a_timeout_ends_a_wait() -> None:
    watched, call = Watched(), Awaited()
    with anyio.move_on_after(0.01) as scope:
        await watched.wait(call)
    assert scope.cancelled_caught
    assert watched.abandoned == [call]


async def test_a_signal_set_before_anyone_waits_is_not_lost() -> None:
    signal = Signal(waiting_here())
    signal.set()
    signal.set()
    await signal.wait()
    with anyio.move_on_after(0.01) as scope:
        await signal.wait()
    assert scope.cancelled_caught


async def test_a_signal_wakes_its_waiter_each_time() -> None:
    signal, count = Signal(waiting_here()), 0

    async def listen() -> None:
        nonlocal count
        while True:
            await signal.wait()
            count += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            signal.set()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert count == 3


async def test_a_spawned_task_belongs_to_nobody() -> None:
    waiting, done = waiting_here(), anyio.Event()

    async def main() -> None:
        done.set()

    with anyio.CancelScope() as scope:
        waiting.spawn(main)
        scope.cancel()
    await done.wait()


async def test_a_child_of_a_spawned_task_is_guarded_against_ctrl_c(anyio_backend_name: str) -> None:
    waiting, guards = waiting_here(), []

    async def child(name: str) -> None:
        guards.append((name, anyio_backend_name != "trio" or trio.lowlevel.currently_ki_protected()))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting.guarded(child), "guarded")

    waiting.spawn(main)
    await anyio.wait_all_tasks_blocked()
    assert guards == [("guarded", True)]


def test_a_ctrl_c_that_meets_a_spawned_task_is_raised_in_the_main_task() -> None:
    heard = []

    async def main() -> None:
        raise BaseExceptionGroup("what a group of tasks makes of it", [KeyboardInterrupt()])

    async def program() -> None:
        waiting_here().spawn(main)
        try:
            await trio.sleep_forever()
        except KeyboardInterrupt:
            heard.append("the program goes on")
        await trio.lowlevel.checkpoint()

    trio.run(program)
    assert heard == ["the program goes on"]


async def test_another_thread_is_told_so() -> None:
    waiting = waiting_here()
    waiting.check_caller()
    with pytest.raises(RuntimeError, match="another thread"):
        await anyio.to_thread.run_sync(waiting.check_caller)


async def test_another_event_loop_in_another_thread_is_told_so(anyio_backend: str) -> None:
    waiting = waiting_here()

    async def elsewhere() -> None:
        waiting.check_caller()

    with pytest.raises(RuntimeError, match=r"another (thread|event loop)"):
        await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere, backend=anyio_backend))
