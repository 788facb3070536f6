"""How the core coalesces writes into batches."""

from __future__ import annotations

import pytest

from shardraft.errors import Conflict, InvalidArgument, TooLarge
from shardraft.kv.commands import ABSENT, ANY_REVISION, DELETE, PUT
from shardraft_router.core import RouterLimits
from tests.router.cluster import FakeCluster, World


def world(**limits: int) -> World:
    return World(FakeCluster(shards=1), limits=RouterLimits(**limits)).ready()


def test_writes_of_one_pass_share_one_batch_per_shard() -> None:
    cluster = FakeCluster(shards=2)
    seen = World(cluster).ready()
    calls = [seen.put(b"key %d" % number) for number in range(100)]
    seen.settle()
    assert all(call.done and call.error is None for call in calls)
    assert len(cluster.batches) == 2
    assert sum(len(batch.kinds) for batch in cluster.batches) == 100


def test_each_write_of_a_batch_has_its_own_revision() -> None:
    seen = world()
    calls = [seen.put(b"key", b"%d" % number) for number in range(3)]
    seen.settle()
    assert [call.revision for call in calls] == [1, 2, 3]
    stored = seen.cluster.stored(b"key")
    assert stored is not None
    assert (stored.revision, stored.value) == (3, b"2")


def test_a_write_that_finds_nothing_in_flight_goes_at_once() -> None:
    seen = world()
    seen.put(b"key")
    seen.core.flush(seen.now_us)
    assert len(seen.core.take().requests) == 1


def test_at_the_limit_of_batches_in_flight_what_arrives_makes_the_next_batch_larger() -> None:
    seen = world(batches_in_flight_max=2)
    seen.holding = True
    for number in range(10):
        seen.put(b"key %d" % number)
        seen.settle()
    assert len(seen.outbox) == 2
    seen.holding = False
    seen.settle()
    assert [len(batch.kinds) for batch in seen.cluster.batches] == [1, 1, 8]


def test_a_coalesced_batch_is_never_above_the_limits() -> None:
    seen = world(batch_operations_max=10, coalesced_bytes_max=1000)
    for number in range(25):
        seen.put(b"many %2d" % number)
    for number in range(5):
        seen.put(b"large", b"%d" % number * 400)
    seen.put(b"larger", b"x" * 5000)
    seen.settle()
    sizes = [(len(batch.kinds), sum(map(len, batch.values))) for batch in seen.cluster.batches]
    assert [operations for operations, _ in sizes] == [10, 10, 7, 2, 1, 1]
    assert all(size <= 1000 or operations == 1 for operations, size in sizes)


def test_a_delete_says_whether_there_was_anything_to_delete() -> None:
    seen = world()
    seen.put(b"key")
    found, missing = seen.delete(b"key"), seen.delete(b"key")
    seen.settle()
    assert found.revision == 2
    assert missing.revision == 0
    assert missing.error is None


def test_a_condition_that_does_not_hold_is_a_conflict_and_harms_no_neighbour() -> None:
    seen = world()
    first = seen.put(b"key", condition=ABSENT)
    second = seen.put(b"key", condition=ABSENT)
    third = seen.put(b"key", condition=1)
    seen.settle()
    assert (first.error, third.error) == (None, None)
    assert isinstance(second.error, Conflict)
    assert (second.error.found_revision, second.error.applied, second.error.shard) == (1, "no", 1)
    assert len(seen.cluster.batches) == 1


def test_unconditional_batches_carry_no_conditions() -> None:
    seen = world()
    seen.put(b"key")
    seen.settle()
    assert len(seen.cluster.batches[0].conditions) == 0


def test_a_callers_batch_is_all_or_nothing() -> None:
    seen = world()
    writes = [(PUT, b"a", b"1", ANY_REVISION), (PUT, b"b", b"2", ABSENT), (DELETE, b"c", b"", ANY_REVISION)]
    good = seen.core.write_atomic(writes, seen.deadline())
    bad = seen.core.write_atomic(writes, seen.deadline())
    seen.settle()
    assert good.revisions == (1, 2, 3)
    assert isinstance(bad.error, Conflict)
    assert bad.error.found_revision == 2
    assert seen.cluster.stored(b"a") is not None


def test_a_callers_batch_travels_alone_and_in_order() -> None:
    seen = world()
    seen.put(b"before")
    seen.core.write_atomic([(PUT, b"a", b"1", ANY_REVISION), (PUT, b"b", b"1", ANY_REVISION)], seen.deadline())
    seen.put(b"after")
    seen.settle()
    assert [(batch.atomic, len(batch.kinds)) for batch in seen.cluster.batches] == [(False, 1), (True, 2), (False, 1)]


def test_a_batch_over_two_shards_is_refused_unsent() -> None:
    seen = World(FakeCluster(shards=16)).ready()
    writes = [(PUT, b"%d" % number, b"v", ANY_REVISION) for number in range(20)]
    call = seen.core.write_atomic(writes, seen.deadline())
    seen.settle()
    assert isinstance(call.error, InvalidArgument)
    assert call.error.applied == "no"
    assert seen.batches_sent() == []


def test_batches_that_no_host_would_take_are_refused_unsent() -> None:
    seen = world(batch_operations_max=2, batch_bytes_max=100)
    with pytest.raises(InvalidArgument, match="empty"):
        seen.core.write_atomic([], seen.deadline())
    with pytest.raises(TooLarge, match="3 operations"):
        seen.core.write_atomic([(PUT, b"a", b"1", ANY_REVISION)] * 3, seen.deadline())
    with pytest.raises(TooLarge, match="102 bytes"):
        seen.core.write_atomic([(PUT, b"a", b"x" * 50, ANY_REVISION)] * 2, seen.deadline())
    seen.settle()
    assert seen.batches_sent() == []


@pytest.mark.parametrize(
    ("key", "value", "error", "text"),
    [
        ("key", b"v", TypeError, r'b"\.\.\.".*\.encode'),
        (b"key", "v", TypeError, "value must be bytes, not str"),
        (7, b"v", TypeError, "key must be bytes, not int"),
        (b"", b"v", InvalidArgument, "empty"),
        (b"k" * 481, b"v", InvalidArgument, "481 bytes"),
        (b"key", b"v" * ((1 << 20) + 1), TooLarge, "1048577 bytes"),
    ],
)
def test_keys_and_values_are_checked_before_anything_is_sent(
    key: bytes, value: bytes, error: type[Exception], text: str
) -> None:
    seen = world()
    with pytest.raises(error, match=text):
        seen.put(key, value)
    with pytest.raises(error, match=text):
        seen.core.put_many([b"good", key], [b"v", value], seen.deadline())
    with pytest.raises(error, match=text):
        seen.core.write_atomic([(PUT, b"good", b"v", ANY_REVISION), (PUT, key, value, ANY_REVISION)], seen.deadline())
    seen.settle()
    assert seen.batches_sent() == []


def test_the_longest_key_and_the_largest_value_pass() -> None:
    seen = world()
    call = seen.put(b"k" * 480, b"v" * (1 << 20))
    seen.settle()
    assert call.error is None


def test_many_puts_are_done_when_the_last_of_them_is() -> None:
    seen = World(FakeCluster(shards=4)).ready()
    seen.holding = True
    group = seen.core.put_many([b"key %d" % number for number in range(50)], [b"v"] * 50, seen.deadline())
    seen.settle()
    requests, seen.outbox = seen.outbox, []
    assert len(requests) == 4
    for endpoint, request in requests:
        assert not group.done
        seen.deliver(endpoint, request)
    seen.settle()
    assert group.done
    assert seen.completed == [group]
