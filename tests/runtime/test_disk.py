"""The disk threads: jobs in order, results on the loop, no second chance after a failure, no endless wait."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest
import trio

from shardraft.runtime import disk
from shardraft.runtime.disk import CallSoon, DiskThread

pytestmark = pytest.mark.trio


def unreached(_: BaseException) -> None:
    raise AssertionError("no job failed")


def soon() -> CallSoon:
    return trio.lowlevel.current_trio_token().run_sync_soon


async def test_jobs_run_in_order_and_their_results_reach_the_loop_in_order() -> None:
    done: list[int] = []
    loop = threading.get_ident()
    thread = DiskThread("disk", unreached, soon())

    def job(number: int) -> Callable[[], None]:
        assert threading.get_ident() != loop
        return lambda: done.append(number) if threading.get_ident() == loop else None

    for number in range(100):
        thread.submit(lambda number=number: job(number))
    assert await thread.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert done == list(range(100))


async def test_after_a_failure_nothing_runs_any_more() -> None:
    failures: list[BaseException] = []
    ran: list[int] = []
    failed = trio.Event()

    def on_failure(error: BaseException) -> None:
        failures.append(error)
        failed.set()

    thread = DiskThread("disk", on_failure, soon())

    def fail() -> Callable[[], None]:
        raise OSError("no more")

    thread.submit(fail)
    thread.submit(lambda: lambda: ran.append(1))
    await failed.wait()
    assert await thread.stop()
    assert [str(error) for error in failures] == ["no more"]
    assert ran == []


async def test_a_disk_that_hangs_does_not_keep_the_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "STOP_SECONDS_MAX", 0.01)
    answers = threading.Event()
    thread = DiskThread("disk", unreached, soon())
    thread.submit(lambda: answers.wait() and (lambda: None))
    assert not await thread.stop()
    answers.set()


async def test_at_rest_a_thread_does_what_can_wait_until_none_is_left_or_a_job_comes() -> None:
    steps: list[str] = []
    rested, went_on = trio.Event(), threading.Event()
    call_soon = soon()

    def at_rest() -> bool:
        steps.append("rest")
        if steps.count("rest") == 2:
            call_soon(rested.set)
            went_on.wait()
        return len(steps) < 5

    thread = DiskThread("disk", unreached, call_soon, at_rest=at_rest, rest_seconds=0.001)
    await rested.wait()
    done = trio.Event()
    thread.submit(lambda: steps.append("job") or done.set)  # type: ignore[func-returns-value]
    went_on.set()
    await done.wait()
    assert steps[:3] == ["rest", "rest", "job"], "a job waits for no more than one piece"
    assert await thread.stop()


async def test_a_piece_of_work_at_rest_is_followed_by_a_pause_many_times_as_long_that_a_job_ends() -> None:
    """Other threads, and other processes, may have much to do."""
    times = itertools.count(step=1000)
    pieces: list[str] = []
    rested = trio.Event()
    call_soon = soon()

    def at_rest() -> bool:
        pieces.append("rest")
        call_soon(rested.set)
        return True

    def clock() -> float:
        return next(times)  # So a piece takes 1,000 s, and the pause after it hours.

    thread = DiskThread("disk", unreached, call_soon, at_rest=at_rest, rest_seconds=0.001, clock=clock)
    await rested.wait()
    done = trio.Event()
    thread.submit(lambda: done.set)
    await done.wait()
    assert await thread.stop()
    assert pieces == ["rest"]


async def test_a_failure_at_rest_is_a_failure_of_the_disk() -> None:
    failures: list[BaseException] = []
    failed = trio.Event()

    def at_rest() -> bool:
        raise OSError("no more")

    def on_failure(error: BaseException) -> None:
        failures.append(error)
        failed.set()

    thread = DiskThread("disk", on_failure, soon(), at_rest=at_rest, rest_seconds=0.001)
    await failed.wait()
    assert await thread.stop()
    assert [str(error) for error in failures] == ["no more"]
