"""Scans: every key exactly once, in order where asked for, whatever the pages and the map."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardraft.errors import DeadlineExceeded
from shardraft.kv.requests import Consistency, ScanRequest
from shardraft.shards.keyspace import Partitioning
from shardraft_router.core import RouterLimits
from tests.router.cluster import FakeCluster, World, learner_at


def fill(seen: World, keys: list[bytes]) -> None:
    for key in keys:
        seen.put(key, b"=" + key)
    seen.settle()
    seen.sent.clear()


def scan(
    seen: World,
    *,
    prefix: bytes = b"",
    start: bytes | None = None,
    end: bytes | None = None,
    limit: int | None = None,
    ordered: bool = True,
    consistency: Consistency = Consistency.LINEARIZABLE,
    between: Callable[[], object] = lambda: None,
) -> list[tuple[bytes, bytes]]:
    """All of a scan, as its consumer sees it; ``between`` happens before each wait."""
    cursor = seen.core.scan(prefix=prefix, start=start, end=end, limit=limit, ordered=ordered, consistency=consistency)
    entries: list[tuple[bytes, bytes]] = []
    while True:
        while (call := cursor.step(seen.deadline())) is not None:
            between()
            seen.settle()
            if not call.done:
                seen.pass_time(1)
            assert call.done
        page = cursor.take()
        if not page:
            assert cursor.finished
            return entries
        entries += page


def expected(
    keys: list[bytes], prefix: bytes = b"", start: bytes | None = None, end: bytes | None = None
) -> list[tuple[bytes, bytes]]:
    held = [key for key in keys if key.startswith(prefix) and key >= (start or b"") and (not end or key < end)]
    return [(key, b"=" + key) for key in sorted(held)]


KEYS = [b"%s/%03d" % (folder, number) for folder in (b"a", b"b", b"{tag}") for number in range(40)]


@pytest.fixture(params=[Partitioning.HASH, Partitioning.RANGE])
def seen(request: pytest.FixtureRequest) -> World:
    cluster = FakeCluster(shards=4, partitioning=request.param, learners={21: 2})
    cluster.page_entries_max = 7
    world = World(cluster, limits=RouterLimits(page_entries_max=5, page_keys_max=4, pages_in_flight_max=6)).ready()
    fill(world, KEYS)
    return world


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    ("prefix", "start", "end"),
    [
        (b"", None, None),
        (b"a/", None, None),
        (b"a/01", None, None),
        (b"{tag}", None, None),
        (b"{ta", None, None),
        (b"nothing", None, None),
        (b"", b"a/035", b"b/003"),
        (b"b/", b"b/010", b"b/020"),
        (b"b/", b"x", None),
        (b"", b"b", b"a"),
        (b"\xff", None, None),
        (b"", None, b""),
    ],
)
def test_a_scan_finds_exactly_the_keys_it_asks_for(
    seen: World, prefix: bytes, start: bytes | None, end: bytes | None, ordered: bool
) -> None:
    found = scan(seen, prefix=prefix, start=start, end=end, ordered=ordered)
    wanted = expected(KEYS, prefix, start, end)
    assert (found if ordered else sorted(found)) == wanted


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("limit", [0, 1, 7, 50, 1000])
def test_a_scan_stops_at_its_limit(seen: World, limit: int, ordered: bool) -> None:
    found = scan(seen, limit=limit, ordered=ordered)
    assert len(found) == min(limit, len(KEYS))
    assert set(found) <= set(expected(KEYS))
    if ordered:
        assert found == expected(KEYS)[:limit]


@settings(max_examples=60, deadline=None)
@given(
    keys=st.lists(st.binary(min_size=1, max_size=4), max_size=60, unique=True),
    prefix=st.binary(max_size=1),
    start=st.none() | st.binary(max_size=2),
    end=st.none() | st.binary(max_size=2),
    limit=st.none() | st.integers(0, 40),
    page=st.integers(1, 6),
    slots=st.sampled_from([4, 16]),
)
def test_an_ordered_scan_is_the_sorted_keys(
    keys: list[bytes], prefix: bytes, start: bytes | None, end: bytes | None, limit: int | None, page: int, slots: int
) -> None:
    world = World(
        FakeCluster(shards=3, slots=slots), limits=RouterLimits(page_keys_max=page, pages_in_flight_max=3)
    ).ready()
    fill(world, keys)
    wanted = expected(keys, prefix, start, end)
    assert scan(world, prefix=prefix, start=start, end=end, limit=limit) == (
        wanted if limit is None else wanted[:limit]
    )


def test_an_ordered_scan_with_a_limit_makes_up_for_keys_that_vanish_on_the_way() -> None:
    world = World(FakeCluster(shards=2), limits=RouterLimits(page_keys_max=8)).ready()
    fill(world, KEYS)
    vanished = expected(KEYS)[:3]

    def delete_before_values_are_read() -> None:
        if not any(isinstance(request, ScanRequest) for _, request in world.outbox):
            for key, _ in vanished:
                world.delete(key)
            world.settle()

    found = scan(world, limit=10, between=delete_before_values_are_read)
    assert len(found) == 10
    assert set(found) <= set(expected(KEYS))


@pytest.mark.parametrize("ordered", [True, False])
def test_a_key_present_throughout_appears_exactly_once_though_shards_split_meanwhile(ordered: bool) -> None:
    cluster = FakeCluster(shards=2)
    world = World(cluster, limits=RouterLimits(page_entries_max=3, page_keys_max=2, pages_in_flight_max=2)).ready()
    fill(world, KEYS)
    splits = iter([(1, 3, 4), (2, 4, 12), (3, 5, 6)])

    def split() -> None:
        for shard, child, slot in splits:
            cluster.split(shard, child, slot.to_bytes(2, "big"))
            return

    found = scan(world, ordered=ordered, between=split)
    assert (found if ordered else sorted(found)) == expected(KEYS)
    assert len(cluster.shard_map.shards) == 5


def test_pages_are_asked_for_ahead_and_a_bounded_number_of_them() -> None:
    world = World(FakeCluster(shards=2), limits=RouterLimits(pages_in_flight_max=5)).ready()
    fill(world, KEYS)
    cursor = world.core.scan(
        prefix=b"a/", start=None, end=None, limit=None, ordered=False, consistency=Consistency.LINEARIZABLE
    )
    world.holding = True
    assert cursor.step(world.deadline()) is not None
    world.settle()
    assert len(world.outbox) == 5
    cursor.close()
    world.completed.clear()
    world.holding = False
    world.settle()
    assert world.completed == []
    assert cursor.step(world.deadline()) is None
    assert cursor.take() == []


def test_a_prefix_with_a_whole_tag_is_one_request() -> None:
    world = World(FakeCluster(shards=2)).ready()
    fill(world, KEYS)
    assert scan(world, prefix=b"{tag}/00") == expected(KEYS, b"{tag}/00")
    assert len(world.sent) == 1


def test_a_whole_unordered_scan_reads_whole_shards() -> None:
    world = World(FakeCluster(shards=2)).ready()
    fill(world, KEYS)
    scan(world, ordered=False)
    assert len(world.sent) == 2


def test_stale_scans_are_answered_by_learners() -> None:
    world = World(FakeCluster(shards=2, learners={21: 2})).ready()
    fill(world, KEYS)
    assert scan(world, consistency=Consistency.STALE) == expected(KEYS)
    assert {endpoint for endpoint, _ in world.sent} == {learner_at(21)}


@pytest.mark.parametrize("ordered", [True, False])
def test_a_page_that_fails_ends_the_scan_with_its_error(ordered: bool) -> None:
    world = World(FakeCluster(shards=2)).ready()
    fill(world, KEYS)
    world.cluster.lead(0)
    cursor = world.core.scan(
        prefix=b"", start=None, end=None, limit=None, ordered=ordered, consistency=Consistency.LINEARIZABLE
    )
    call = cursor.step(world.deadline(0.5))
    assert call is not None
    world.pass_time(1)
    with pytest.raises(DeadlineExceeded):
        cursor.step(world.deadline())
    assert cursor.finished
    assert cursor.step(world.deadline()) is None
