"""While many operations are under way, further ones wait for their replies and leave together."""

from __future__ import annotations

from shardraft.kv.requests import ReadRequest
from shardraft_router.core import RouterLimits
from tests.router.cluster import FakeCluster, World

PACED = RouterLimits(paced_operations_min=4, paced_ms_max=10)


def world(shards: int = 1) -> World:
    seen = World(FakeCluster(shards=shards), limits=PACED).ready()
    seen.holding = True
    return seen


def put_many(seen: World, count: int, name: str) -> None:
    for number in range(count):
        seen.put(f"{name} {number}".encode())
    seen.settle()


def answer(seen: World, count: int) -> None:
    """Answer the oldest requests that are under way."""
    answered, seen.outbox = seen.outbox[:count], seen.outbox[count:]
    for endpoint, request in answered:
        seen.deliver(endpoint, request)


def sizes(seen: World) -> list[int]:
    return [len(batch.kinds) for _, batch in seen.batches_sent()]


def test_below_the_limit_nothing_waits() -> None:
    seen = world()
    for number in range(4):
        put_many(seen, 1, f"round {number}")
    assert sizes(seen) == [1, 1, 1, 1]


def test_what_arrives_while_many_are_under_way_leaves_in_one_batch_when_they_are_answered() -> None:
    seen = world()
    put_many(seen, 4, "first")
    for number in range(5):
        put_many(seen, 1, f"later {number}")
    assert sizes(seen) == [4]
    answer(seen, 1)
    seen.settle()
    assert sizes(seen) == [4, 5]


def test_writes_wait_for_the_replies_of_all_shards() -> None:
    seen = world(shards=4)
    put_many(seen, 40, "first")
    assert len(sizes(seen)) == 4
    put_many(seen, 40, "second")
    answer(seen, 3)
    seen.settle()
    assert len(sizes(seen)) == 4
    answer(seen, 1)
    seen.settle()
    assert sum(sizes(seen)) == 80


def test_nothing_waits_longer_than_the_limit_for_replies_that_do_not_come() -> None:
    seen = world()
    put_many(seen, 4, "first")
    seen.pass_time(0.004)
    put_many(seen, 2, "second")
    seen.pass_time(0.005)
    assert sizes(seen) == [4]
    seen.pass_time(0.002)
    assert sizes(seen) == [4, 2]


def test_what_was_lost_is_not_waited_for() -> None:
    seen = world()
    put_many(seen, 4, "first")
    put_many(seen, 1, "second")
    endpoint, _ = seen.outbox[0]
    seen.cut(endpoint)
    seen.holding = False
    seen.settle()
    assert seen.core.next_deadline_us > seen.now_us
    seen.pass_time(1.0)
    assert all(call.done and call.error is None for call in seen.completed)
    assert len(seen.completed) == 5


def test_linearizable_reads_leave_when_as_many_wait_as_are_under_way() -> None:
    seen = world()
    for number in range(6):
        seen.read(b"first %d" % number)
    seen.settle()
    for number in range(6):
        assert reads(seen) == [6]
        seen.read(b"second %d" % number)
        seen.settle()
    assert reads(seen) == [6, 6]


def test_stale_reads_never_wait() -> None:
    seen = world()
    for number in range(6):
        seen.read(b"first %d" % number, stale=True)
    seen.settle()
    for number in range(4):
        seen.read(b"second %d" % number, stale=True)
        seen.settle()
    assert reads(seen) == [6, 1, 1, 1, 1]


def reads(seen: World) -> list[int]:
    return [len(request.keys) for _, request in seen.sent if isinstance(request, ReadRequest)]
