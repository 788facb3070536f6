"""Scans as their consumer sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from shardraft.errors import DeadlineExceeded
from shardraft.kv.requests import ClientRequest, ScanRequest
from shardraft_router import Router, Stale, open_router
from tests.router.server import FakeServer, serving

pytestmark = pytest.mark.anyio

ITEMS = {b"key %03d" % number: b"value %d" % number for number in range(300)}


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with serving(learners={21: 2}) as server:
        server.cluster.page_entries_max = 20
        async with open_router(server.endpoints) as router:
            await router.put_many(ITEMS)
        server.requests.clear()
        yield server


@pytest.fixture
async def router(server: FakeServer) -> AsyncIterator[Router]:
    async with open_router(server.endpoints, timeout_seconds=5) as router:
        yield router


async def test_an_ordered_scan_yields_keys_in_order(router: Router) -> None:
    assert [entry async for entry in router.scan()] == list(ITEMS.items())
    part = router.scan(prefix=b"key 1", start=b"key 150", end=b"key 160", limit=5)
    assert [key async for key, _ in part] == [b"key 15%d" % number for number in range(5)]


async def test_an_unordered_scan_yields_each_key_once(router: Router) -> None:
    found = [entry async for entry in router.scan(ordered=False)]
    assert len(found) == len(ITEMS)
    assert dict(found) == ITEMS
    assert sorted([key async for key, _ in router.scan(prefix=b"key 2", ordered=False)]) == list(ITEMS)[200:]


async def test_a_stale_scan_is_answered_by_a_learner(router: Router, server: FakeServer) -> None:
    assert dict([entry async for entry in router.scan(ordered=False, policy=Stale())]) == ITEMS
    scans = {endpoint for endpoint, request in server.requests if isinstance(request, ScanRequest)}
    assert scans == {server.cluster.learners[0].endpoint}


async def test_a_scan_may_be_left_early(router: Router) -> None:
    async for key, _ in router.scan():
        assert key == b"key 000"
        break
    async with router.scan(ordered=False) as entries:
        async for _ in entries:
            break
    with pytest.raises(StopAsyncIteration):
        await anext(entries)
    await entries.aclose()


async def test_a_scan_in_a_closed_router_says_so(server: FakeServer) -> None:
    async with open_router(server.endpoints) as router:
        entries = router.scan()
        await anext(entries)
        unread = router.scan()
    with pytest.raises(RuntimeError, match="closed"):
        await anext(unread)


async def test_the_timeout_of_a_scan_is_that_of_a_page(router: Router, server: FakeServer) -> None:
    entries = router.scan(ordered=False, timeout_seconds=0.2)
    first = await anext(entries)

    def stop(endpoint: str, request: ClientRequest) -> bool:
        return isinstance(request, ScanRequest)

    server.silent = stop
    found = [first]

    async def read_on() -> None:
        async for entry in entries:
            found.append(entry)  # noqa: PERF401  # What was read before the error is what counts.

    with pytest.raises(DeadlineExceeded):
        await read_on()
    assert 20 <= len(found) < len(ITEMS)
    with pytest.raises(StopAsyncIteration):
        await anext(entries)


async def test_a_cancelled_scan_is_over(router: Router, server: FakeServer) -> None:
    await router.get(b"connected")
    server.hold()
    entries = router.scan()
    with anyio.move_on_after(0.05) as scope:
        await anext(entries)
    assert scope.cancelled_caught
    server.release()
    with pytest.raises(StopAsyncIteration):
        await anext(entries)
    assert await router.get(b"key 001") == b"value 1"


async def test_two_tasks_cannot_wait_for_the_same_entry(router: Router, server: FakeServer) -> None:
    await router.get(b"connected")
    server.hold()
    entries = router.scan()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(entries.__anext__)
        await server.seen(ScanRequest)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(entries)
        server.release()
