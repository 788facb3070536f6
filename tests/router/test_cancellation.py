"""Cancelled calls, deadlines, and calls that wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest

from shardraft.errors import DeadlineExceeded, InvalidArgument
from shardraft.kv.requests import ClientRequest, ReadRequest, WriteRequest
from shardraft_router import Router, Stale, open_router
from tests.router.server import FakeServer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with serving(shards=1) as server:
        yield server


@pytest.fixture
async def router(server: FakeServer) -> AsyncIterator[Router]:
    async with open_router(server.endpoints, timeout_seconds=5) as router:
        await router.get(b"connected")
        yield router


async def test_a_call_cancelled_before_it_was_sent_never_happens(server: FakeServer) -> None:
    server.closed = set(server.endpoints)
    async with open_router(server.endpoints, timeout_seconds=5) as router:
        with anyio.move_on_after(0.05) as scope:
            await router.put(b"key", b"dropped")
        assert scope.cancelled_caught
        server.closed.clear()
        await router.put(b"key", b"kept")
    assert server.cluster.applied == {b"kept": 1}


async def test_a_call_cancelled_after_it_was_sent_is_abandoned_and_its_neighbours_are_untouched(
    router: Router, server: FakeServer
) -> None:
    revisions: list[int] = []
    server.hold()

    async def put(value: bytes) -> None:
        revisions.append(await router.put(b"key", value))

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as cancelled:
                tasks.start_soon(put, b"before")
                cancelled.start_soon(put, b"abandoned")
                tasks.start_soon(put, b"after")
                await server.seen(WriteRequest)
                scope.cancel()
        server.release()
    assert len(set(revisions)) == 2
    assert server.cluster.applied == {b"before": 1, b"abandoned": 1, b"after": 1}


async def test_a_call_that_is_cancelled_right_after_its_answer_makes_room_for_others(server: FakeServer) -> None:
    """Half of the tasks whose reads were answered at once are woken a moment later, and may be cancelled until then."""
    async with open_router(server.endpoints, timeout_seconds=5, in_flight_max=64) as router:
        await router.get(b"connected")
        finished = 0

        async def get(cancelled: anyio.CancelScope | None = None) -> None:
            nonlocal finished
            await router.read(b"key", Stale())
            finished += 1
            if cancelled is not None:
                cancelled.cancel()

        async with anyio.create_task_group() as tasks:
            for _ in range(64):
                tasks.start_soon(get, tasks.cancel_scope)
        assert 0 < finished <= 32
        finished = 0
        async with anyio.create_task_group() as tasks:
            for _ in range(64):
                tasks.start_soon(get)
        assert finished == 64
        assert len([request for _, request in server.requests if isinstance(request, ReadRequest)]) == 3


async def test_abandoned_calls_survive_a_lost_connection_for_their_neighbours_sake(
    router: Router, server: FakeServer
) -> None:
    losses = iter([True])
    server.lose_reply = lambda endpoint, request: isinstance(request, WriteRequest) and next(losses, False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(router.put, b"a", b"neighbour")
        with anyio.move_on_after(0):
            await router.put(b"b", b"cancelled")
    assert server.cluster.applied[b"neighbour"] == 1
    assert server.cluster.applied[b"cancelled"] <= 1


async def test_the_callers_scope_ends_a_call_before_its_timeout(router: Router, server: FakeServer) -> None:
    server.silent = lambda endpoint, request: isinstance(request, WriteRequest)
    with anyio.move_on_after(0.05) as scope:
        await router.put(b"key", b"value", timeout_seconds=5)
    assert scope.cancelled_caught


async def test_the_timeout_ends_a_call_before_the_callers_scope(router: Router, server: FakeServer) -> None:
    server.silent = lambda endpoint, request: isinstance(request, WriteRequest)
    with anyio.fail_after(5):
        with pytest.raises(DeadlineExceeded) as late:
            await router.put(b"key", b"value", timeout_seconds=0.05)
    assert late.value.applied == "unknown"


async def test_short_and_long_timeouts_are_each_kept(router: Router, server: FakeServer) -> None:
    server.silent = lambda endpoint, request: isinstance(request, WriteRequest)
    ended: list[float] = []

    async def put(timeout_seconds: float) -> None:
        with pytest.raises(DeadlineExceeded):
            await router.put(b"key", b"value", timeout_seconds=timeout_seconds)
        ended.append(timeout_seconds)

    async with anyio.create_task_group() as tasks:
        for timeout_seconds in (0.3, 0.1, 0.2):
            tasks.start_soon(put, timeout_seconds)
    assert ended == [0.1, 0.2, 0.3]


async def test_cancelling_many_puts_and_reads_leaves_the_router_whole(router: Router, server: FakeServer) -> None:
    items = {b"key %d" % number: b"value" for number in range(100)}
    server.hold()
    with anyio.move_on_after(0.05):
        await router.put_many(items)
    with anyio.move_on_after(0.05):
        await router.get_many(items)
    server.release()
    assert await router.get_many(items) == items


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_call_may_be_cancelled_by_asyncios_own_means(router: Router, server: FakeServer) -> None:
    server.silent = lambda endpoint, request: isinstance(request, WriteRequest | ReadRequest)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(router.put(b"key", b"abandoned"), 0.05)
    task = asyncio.ensure_future(router.get(b"key"))
    await server.seen(ReadRequest, 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.silent = lambda endpoint, request: False
    assert await router.get(b"key") == b"abandoned"


# --- turns


async def test_calls_above_the_limit_wait_for_their_turn(server: FakeServer) -> None:
    done: list[int] = []
    async with open_router(server.endpoints, timeout_seconds=5, in_flight_max=2) as router:
        await router.get(b"connected")
        server.hold()

        async def put(number: int) -> None:
            await router.put(b"key", b"%d" % number)
            done.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(7):
                tasks.start_soon(put, number)
            await server.seen(WriteRequest)
            await anyio.wait_all_tasks_blocked()
            assert operations_sent(server) == 2
            server.release()
    assert sorted(done) == list(range(7))


def operations_sent(server: FakeServer) -> int:
    requests = [request for _, request in server.requests if isinstance(request, WriteRequest)]
    return sum(len(server.cluster.codec.decode_batch(request.payload).kinds) for request in requests)


async def test_a_call_whose_turn_never_comes_was_not_applied(server: FakeServer) -> None:
    async with open_router(server.endpoints, timeout_seconds=5, in_flight_max=1) as router:
        await router.get(b"connected")
        server.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(router.put, b"key", b"first")
            await server.seen(WriteRequest)
            with pytest.raises(DeadlineExceeded) as late:
                await router.put(b"key", b"never", timeout_seconds=0.05)
            assert late.value.applied == "no"
            with anyio.move_on_after(0.05) as scope:
                await router.put(b"key", b"never")
            assert scope.cancelled_caught
            server.release()
        await router.put(b"key", b"last")
    assert server.cluster.applied == {b"first": 1, b"last": 1}


async def test_a_turn_that_is_not_taken_goes_to_the_next_in_line(server: FakeServer) -> None:
    async with open_router(server.endpoints, timeout_seconds=5, in_flight_max=1) as router:
        await router.get(b"connected")
        server.hold()
        refused: list[bytes] = []

        async def put(key: bytes) -> None:
            try:
                await router.put(key, b"value")
            except InvalidArgument:
                refused.append(key)

        async with anyio.create_task_group() as tasks:
            for key in (b"first", b"", b"", b"last"):
                tasks.start_soon(put, key)
                await anyio.wait_all_tasks_blocked()
            server.release()
    assert refused == [b"", b""]
    assert server.cluster.stored(b"last") is not None


async def test_a_silent_cluster_does_not_leak_calls(server: FakeServer) -> None:
    def only_maps(endpoint: str, request: ClientRequest) -> bool:
        return isinstance(request, WriteRequest | ReadRequest)

    async with open_router(server.endpoints, timeout_seconds=0.05, in_flight_max=10) as router:
        await router.get(b"connected", timeout_seconds=5)
        server.silent = only_maps
        for _ in range(4):
            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(late_put, router, b"key %d" % number)
        server.silent = lambda endpoint, request: False
        assert await router.get(b"key 0", timeout_seconds=5) is not None


async def late_put(router: Router, key: bytes) -> None:
    with pytest.raises(DeadlineExceeded):
        await router.put(key, b"value")
