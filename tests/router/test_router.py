"""The operations of a router, under trio and asyncio, against a cluster on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from shardraft.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    PartialWrite,
    TooLarge,
    Unavailable,
)
from shardraft.kv.requests import ClientRequest, ErrorReply, ReadRequest, StatusReply, WriteRequest
from shardraft_router import (
    AtLeast,
    Bounded,
    Delete,
    HostUnreachable,
    Linearizable,
    Put,
    Reading,
    Router,
    Stale,
    open_router,
)
from tests.router.server import FakeServer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with serving(learners={11: 1, 21: 2}) as server:
        yield server


@pytest.fixture
async def router(server: FakeServer) -> AsyncIterator[Router]:
    async with open_router(server.endpoints, timeout_seconds=5) as router:
        yield router


# --- single keys


async def test_what_was_put_is_what_one_gets(router: Router) -> None:
    assert await router.put(b"key", b"value") == 1
    assert await router.get(b"key") == b"value"
    assert await router.get(b"absent") is None


async def test_values_may_be_empty_and_large(router: Router) -> None:
    await router.put(b"empty", b"")
    await router.put(b"large", b"x" * (1 << 20))
    assert await router.get(b"empty") == b""
    assert await router.get(b"large") == b"x" * (1 << 20)


async def test_a_put_may_depend_on_a_revision_or_on_absence(router: Router) -> None:
    first = await router.put(b"key", b"1", if_absent=True)
    with pytest.raises(Conflict) as conflict:
        await router.put(b"key", b"2", if_absent=True)
    assert conflict.value.found_revision == first
    second = await router.put(b"key", b"2", if_revision=first)
    with pytest.raises(Conflict):
        await router.put(b"key", b"3", if_revision=first)
    with pytest.raises(Conflict):
        await router.put(b"key", b"3", if_revision=0)
    assert await router.get(b"key") == b"2"
    assert second > first


async def test_a_delete_tells_its_revision_or_that_there_was_nothing(router: Router) -> None:
    revision = await router.put(b"key", b"value")
    with pytest.raises(Conflict):
        await router.delete(b"key", if_revision=revision + 1)
    removed = await router.delete(b"key", if_revision=revision)
    assert removed is not None
    assert removed > revision
    assert await router.delete(b"key") is None
    assert await router.get(b"key") is None


async def test_a_reading_says_where_it_came_from(router: Router, server: FakeServer) -> None:
    revision = await router.put(b"key", b"value")
    strong = await router.read(b"key")
    assert strong == Reading(b"value", revision, 1, None, strong.served_by, 0)
    assert strong.served_by in server.endpoints
    stale = await router.read(b"key", Stale())
    assert (stale.value, stale.tier, stale.age_seconds) == (b"value", 2, None)
    assert stale.served_by == server.cluster.learners[1].endpoint
    absent = await router.read(b"absent", Linearizable())
    assert (absent.value, absent.revision) == (None, None)


async def test_policies_that_no_host_offers_are_refused(router: Router) -> None:
    for policy in (Bounded(0.2), AtLeast(b"token")):
        with pytest.raises(InvalidArgument, match="not offered yet"):
            await router.read(b"key", policy)
    with pytest.raises(TypeError, match="read policy"):
        await router.read(b"key", "stale")  # type: ignore[arg-type]


# --- many keys


async def test_many_keys_at_once(router: Router) -> None:
    items = {b"key %d" % number: b"value %d" % number for number in range(500)}
    revisions = await router.put_many(items)
    assert list(revisions) == list(items)
    keys = [*reversed(items), b"absent"]
    found = await router.get_many(keys)
    assert list(found.items()) == list(reversed(items.items()))
    assert await router.get_many(keys, Stale()) == found
    assert await router.put_many({}) == {}
    assert await router.get_many([]) == {}


async def test_a_partial_write_says_which_keys_were_written(router: Router, server: FakeServer) -> None:
    items = {b"key %d" % number: b"value" for number in range(40)}
    cluster = server.cluster
    of_shard = {key: cluster.shard_map.locate(key)[0].shard for key in items}
    cluster.leaders[1] = 0
    # For longer than the call takes, so that no attempt is under way when its deadline comes.
    server.refuse_writes(1, Overloaded("later", retry_after_ms=60_000))
    server.silent = lambda endpoint, request: isinstance(request, WriteRequest) and request.shard == 2
    with pytest.raises(PartialWrite) as partial:
        await router.put_many(items, timeout_seconds=0.8)
    error = partial.value
    assert {of_shard[key] for key in error.not_applied} == {1}
    assert {of_shard[key] for key in error.unknown} == {2}
    assert {of_shard[key] for key in error.applied_revisions} == {3, 4}
    assert error.applied == "unknown"
    assert len(error.applied_revisions) + len(error.not_applied) + len(error.unknown) == len(items)
    assert isinstance(error.__cause__, DeadlineExceeded)


async def test_a_batch_is_all_or_nothing(router: Router) -> None:
    revisions = await router.batch([Put(b"{t}a", b"1"), Put(b"{t}b", b"2", if_absent=True), Delete(b"{t}c")])
    assert len(set(revisions)) == 3
    with pytest.raises(Conflict):
        await router.batch([Put(b"{t}a", b"changed"), Delete(b"{t}b", if_revision=99)])
    assert await router.get(b"{t}a") == b"1"
    with pytest.raises(InvalidArgument, match="one shard") as refused:
        await router.batch([Put(b"%d" % number, b"v") for number in range(20)])
    assert refused.value.applied == "no"
    with pytest.raises(TypeError, match="Put and Delete"):
        await router.batch([(b"key", b"value")])  # type: ignore[list-item]


# --- what is refused before anything is sent


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("key", b"v", TypeError),
        (b"key", "v", TypeError),
        (None, b"v", TypeError),
        (b"", b"v", InvalidArgument),
        (b"k" * 481, b"v", InvalidArgument),
        (b"k", b"v" * ((1 << 20) + 1), TooLarge),
    ],
)
async def test_bad_keys_and_values_never_leave(
    router: Router, server: FakeServer, key: bytes, value: bytes, error: type[Exception]
) -> None:
    await router.get(b"connected")
    server.requests.clear()
    with pytest.raises(error):
        await router.put(key, value)
    with pytest.raises(error):
        await router.put_many({b"good": b"v", key: value})
    with pytest.raises(error):
        await router.batch([Put(key, value)])
    if value == b"v":
        for bad in (router.get(key), router.read(key), router.delete(key), router.get_many([key])):
            with pytest.raises(error):
                await bad
    assert server.requests == []


async def test_text_where_keys_are_expected_is_a_type_error(router: Router) -> None:
    with pytest.raises(TypeError, match="collection of bytes"):
        await router.get_many("abc")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="collection of bytes"):
        await router.get_many(b"abc")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mapping"):
        await router.put_many([(b"a", b"b")])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="prefix must be bytes, not str"):
        router.scan(prefix="a")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="below 0"):
        router.scan(limit=-1)


@pytest.mark.parametrize("timeout_seconds", [0, -1, 61, float("nan")])
async def test_a_timeout_that_makes_no_sense_is_refused(router: Router, timeout_seconds: float) -> None:
    with pytest.raises(InvalidArgument, match="timeout_seconds"):
        await router.get(b"key", timeout_seconds=timeout_seconds)


@pytest.mark.parametrize(
    ("if_revision", "if_absent", "error"),
    [(-1, False, InvalidArgument), (3, True, InvalidArgument), ("1", False, TypeError)],
)
async def test_a_condition_that_makes_no_sense_is_refused(
    router: Router, if_revision: int, if_absent: bool, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await router.put(b"key", b"v", if_revision=if_revision, if_absent=if_absent)


# --- coalescing


async def test_operations_of_all_tasks_share_batches(router: Router, server: FakeServer) -> None:
    await router.get(b"connected")
    server.requests.clear()
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(router.put, b"key %d" % number, b"value")
    assert len(server.requests) == 4
    server.requests.clear()
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(router.get, b"key %d" % number)
    assert len(server.requests) == 4


async def test_what_many_replies_bring_leaves_together(router: Router, server: FakeServer) -> None:
    """Tasks that put one thing after the other keep sharing batches, though replies come shard by shard."""

    async def put_ten(task: int) -> None:
        for number in range(10):
            await router.put(b"task %d key %d" % (task, number), b"value")

    await router.get(b"connected")
    server.requests.clear()
    async with anyio.create_task_group() as tasks:
        for task in range(64):
            tasks.start_soon(put_ten, task)
    assert len(server.requests) <= 4 * 10 * 2


async def test_reads_that_were_answered_at_once_go_on_in_halves() -> None:
    """While a learner answers one half of the tasks, the other half asks; neither waits for all of the other."""
    async with serving(shards=1, learners={11: 1}) as server:
        async with open_router(server.endpoints, timeout_seconds=5) as router:
            await router.put(b"key", b"value")
            await router.read(b"key", Stale())
            server.requests.clear()

            async def read_ten() -> None:
                for _ in range(10):
                    reading = await router.read(b"key", Stale())
                    assert (reading.value, reading.tier) == (b"value", 1)

            async with anyio.create_task_group() as tasks:
                for _ in range(64):
                    tasks.start_soon(read_ten)
        first, *others = [len(request.keys) for _, request in server.requests if isinstance(request, ReadRequest)]
        assert first == 64
        assert sum(others) == 64 * 9
        assert max(others) <= 32


# --- failures


async def test_lost_replies_and_moving_leaders_are_survived_and_every_write_applies_once(
    router: Router, server: FakeServer
) -> None:
    count = 0

    def lose(endpoint: str, request: ClientRequest) -> bool:
        nonlocal count
        if not isinstance(request, WriteRequest):
            return False
        count += 1
        if count % 5 == 0:
            server.cluster.lead(count % 3 + 1)
        return count % 4 == 0

    server.lose_reply = lose

    async def work(worker: int) -> None:
        for number in range(20):
            await router.put(b"%d/%d" % (worker, number), b"%d.%d" % (worker, number))

    async with anyio.create_task_group() as tasks:
        for worker in range(8):
            tasks.start_soon(work, worker)
    applied = server.cluster.applied
    assert len(applied) == 160
    assert set(applied.values()) == {1}


async def test_a_host_that_closes_every_connection_is_passed_over(server: FakeServer) -> None:
    server.closed.add(server.endpoints[0])
    server.cluster.lead(2)
    async with open_router(server.endpoints, timeout_seconds=5) as router:
        await router.put(b"key", b"value")
        statuses = await router.status()
    assert [type(status) for status in statuses] == [HostUnreachable, *[StatusReply] * 4]


async def test_a_silent_host_is_left_within_the_deadline(router: Router, server: FakeServer) -> None:
    await router.put(b"key", b"before")
    first = server.endpoints[0]
    server.silent = lambda endpoint, request: endpoint == first
    server.cluster.lead(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(router.put, b"key", b"after")
        await server.seen(WriteRequest, 2)
        server.cluster.lead(2)
    assert await router.get(b"key") == b"after"


async def test_without_any_host_calls_end_at_their_deadline_and_say_why() -> None:
    async with open_router("127.0.0.1:1", timeout_seconds=0.2) as router:
        with pytest.raises(DeadlineExceeded) as late:
            await router.put(b"key", b"value")
        assert late.value.applied == "no"
        assert isinstance(late.value, TimeoutError)
        assert isinstance(late.value.__cause__, Unavailable)
        assert "127.0.0.1:1: Connection refused" in str(late.value)
        with pytest.raises(DeadlineExceeded):
            await router.get_many([b"a", b"b"], timeout_seconds=0.1)
        with pytest.raises(PartialWrite) as partial:
            await router.put_many({b"a": b"1"}, timeout_seconds=0.1)
        assert list(partial.value.not_applied) == [b"a"]
        (status,) = await router.status()
        assert isinstance(status, HostUnreachable)
        assert await router.learners() == ()


async def test_a_sent_write_that_is_never_answered_has_an_unknown_outcome(router: Router, server: FakeServer) -> None:
    server.silent = lambda endpoint, request: isinstance(request, WriteRequest)
    with pytest.raises(DeadlineExceeded) as late:
        await router.put(b"key", b"value", timeout_seconds=0.2)
    assert late.value.applied == "unknown"


async def test_garbage_instead_of_a_reply_costs_only_that_connection(router: Router, server: FakeServer) -> None:
    await router.put(b"key", b"value")
    garbage = iter([True])

    def answer_badly(endpoint: str, request: ClientRequest) -> bytes | None:
        return b"\0\0\0\0\xff\xff\xff\xff" if next(garbage, False) else None

    server.instead = answer_badly
    assert await router.get(b"key") == b"value"


async def test_a_host_of_another_cluster_is_not_used(server: FakeServer) -> None:
    async with serving(hosts=1) as other:
        other.cluster.lead(1)
        async with open_router([server.endpoints[0]], timeout_seconds=5) as router:
            await router.put(b"key", b"ours")
            cluster_id = router._driver.cluster_id
            assert cluster_id == server.cluster_id
    assert other.requests == []


async def test_overloaded_hosts_are_given_time(router: Router, server: FakeServer) -> None:
    refusals = iter([Overloaded(retry_after_ms=30)] * 2)
    answer = server.cluster.answer

    def refuse(endpoint: str, request: ClientRequest) -> object:
        error = next(refusals, None) if isinstance(request, ReadRequest) else None
        return ErrorReply(request.request_id, error) if error is not None else answer(endpoint, request)

    server.cluster.answer = refuse  # type: ignore[method-assign,assignment]
    assert await router.get(b"key") is None
    assert next(refusals, None) is None


# --- the cluster


async def test_status_asks_every_host_and_learner(router: Router, server: FakeServer) -> None:
    statuses = await router.status()
    assert all(isinstance(status, StatusReply) for status in statuses)
    hosts = [(status.host, status.tier) for status in statuses if isinstance(status, StatusReply)]
    assert hosts == [(1, 0), (2, 0), (3, 0), (11, 1), (21, 2)]


async def test_learners_are_those_that_any_voter_knows(router: Router, server: FakeServer) -> None:
    places = server.cluster.learners
    server.cluster.reporters = dict(zip(server.endpoints, [places[:1], places[1:], ()], strict=True))
    assert await router.learners() == places
