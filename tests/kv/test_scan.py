"""Scans merge the write buffer over the store: every live key once, in order, page by page."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardraft.kv.buffer import Layer
from shardraft.kv.commands import Stored
from shardraft.kv.records import encode_record
from shardraft.kv.scan import merge_scan
from tests.kv.replica import Replica, delete, put

NO_END, NO_LIMIT = b"", 1 << 40


@pytest.fixture
def replica() -> Replica:
    """Keys k00 to k99: the even ones in the store, every fifth being flushed, every seventh active, k1x deleted."""
    replica = Replica()
    replica.write(*(put(b"k%02d" % number) for number in range(0, 100, 2)))
    replica.flush()
    replica.write(*(put(b"k%02d" % number) for number in range(0, 100, 5)), sequence=1)
    replica.begin_flush()
    replica.write(*(put(b"k%02d" % number) for number in range(0, 100, 7)), sequence=2)
    replica.write(*(delete(b"k1%d" % digit) for digit in range(10)), sequence=3)
    return replica


EXPECTED = [
    b"k%02d" % number
    for number in range(100)
    if (number % 2 == 0 or number % 5 == 0 or number % 7 == 0) and number // 10 != 1
]


def keys_of(rows: list[tuple[bytes, Stored]]) -> list[bytes]:
    return [key for key, _ in rows]


def test_a_scan_gives_every_live_key_once_and_in_order(replica: Replica) -> None:
    rows, more = replica.machine.scan(b"", NO_END, 1_000, NO_LIMIT)
    assert keys_of(rows) == EXPECTED
    assert not more
    assert all(stored == replica.machine.get(key) for key, stored in rows)


def test_it_begins_at_its_start_and_ends_before_its_end(replica: Replica) -> None:
    scan = replica.machine.scan
    assert keys_of(scan(b"k02", b"k07", 100, NO_LIMIT)[0]) == [b"k02", b"k04", b"k05", b"k06"]
    assert keys_of(scan(b"k021", b"k040", 100, NO_LIMIT)[0]) == [b"k04"]
    assert keys_of(scan(b"k97", NO_END, 100, NO_LIMIT)[0]) == [b"k98"]
    assert scan(b"k10", b"k20", 100, NO_LIMIT) == ([], False)
    assert scan(b"k50", b"k50", 100, NO_LIMIT) == ([], False)
    assert scan(b"k50", b"k40", 100, NO_LIMIT) == ([], False)


@pytest.mark.parametrize("entries_max", [1, 2, 3, 16, 17, 59, 1000])
def test_pages_of_any_size_add_up_to_the_whole(replica: Replica, entries_max: int) -> None:
    found: list[bytes] = []
    start, more = b"", True
    while more:
        rows, more = replica.machine.scan(start, NO_END, entries_max, NO_LIMIT)
        assert len(rows) == entries_max or not more
        found += keys_of(rows)
        start = found[-1] + b"\x00"
    assert found == EXPECTED


def test_more_is_said_only_when_there_is_more(replica: Replica) -> None:
    count = len(EXPECTED)
    assert replica.machine.scan(b"", NO_END, count, NO_LIMIT)[1] is False
    assert replica.machine.scan(b"", NO_END, count - 1, NO_LIMIT)[1] is True
    assert replica.machine.scan(b"", b"k20", 10, NO_LIMIT)[1] is False, "what follows is deleted"
    assert replica.machine.scan(b"", NO_END, 0, NO_LIMIT) == ([], True)


def test_a_page_ends_before_it_is_above_its_bytes_but_holds_one_row() -> None:
    replica = Replica()
    replica.write(put(b"a", b"v" * 49), put(b"b", b"v" * 49), put(b"c", b"v" * 500), put(b"d", b""))
    for flushed in (False, True):
        if flushed:
            replica.flush()
        scan = replica.machine.scan
        assert keys_of(scan(b"", NO_END, 100, 100)[0]) == [b"a", b"b"]
        assert keys_of(scan(b"", NO_END, 100, 99)[0]) == [b"a"]
        assert scan(b"c", NO_END, 100, 100) == ([(b"c", Stored(3, b"v" * 500))], True)
        assert keys_of(scan(b"", NO_END, 100, 602)[0]) == [b"a", b"b", b"c", b"d"]


def test_the_store_is_asked_for_little_more_than_fits_the_page() -> None:
    replica = Replica()
    for number in range(100):
        replica.write(put(b"%03d" % number, b"v" * 9_997), sequence=number, answered_below=number)
    replica.flush()
    asked: list[int] = []
    read = replica.store.scan

    def counting(shard: int, start: bytes, end: bytes, entries_max: int) -> list[tuple[bytes, Stored]]:
        rows = read(shard, start, end, entries_max)
        asked.append(len(rows))
        return rows

    replica.store.scan = counting  # type: ignore[method-assign]  # The same store, its pages counted.
    rows, more = replica.machine.scan(b"", NO_END, 4_096, 300_000)
    assert (len(rows), more) == (30, True)
    assert sum(asked) <= 32


keys = st.binary(min_size=1, max_size=2).map(lambda key: key.translate(bytes(65 + byte % 4 for byte in range(256))))
values = st.one_of(st.none(), st.binary(max_size=6).map(lambda value: Stored(1, value)))
layer_changes = st.dictionaries(keys, values, max_size=20)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    stored=st.dictionaries(keys, st.binary(max_size=6).map(lambda value: Stored(2, value)), max_size=30),
    changes=st.lists(layer_changes, max_size=2),
    start=st.one_of(st.just(b""), keys),
    end=st.one_of(st.just(b""), keys),
    entries_max=st.integers(1, 12),
    bytes_max=st.integers(1, 40),
)
def test_a_scan_is_what_merging_everything_first_would_give(
    stored: dict[bytes, Stored],
    changes: list[dict[bytes, Stored | None]],
    start: bytes,
    end: bytes,
    entries_max: int,
    bytes_max: int,
) -> None:
    def read_page(low: bytes, high: bytes, count: int) -> list[tuple[bytes, Stored]]:
        inside = sorted(key for key in stored if low <= key and (not high or key < high))
        return [(key, stored[key]) for key in inside[:count]]

    layers = []
    merged: dict[bytes, Stored | None] = dict(stored)
    for change in changes:
        layers.append(Layer())
        layers[-1].install(
            {key: None if stored is None else encode_record(key, stored) for key, stored in change.items()}
        )
        merged.update(change)
    live = [
        (key, merged_value)
        for key, merged_value in sorted(merged.items(), key=lambda item: item[0])
        if merged_value is not None and start <= key and (not end or key < end)
    ]
    fitting = 0
    room = bytes_max
    for key, value in live[:entries_max]:
        room -= len(key) + len(value.value)
        if room < 0 and fitting:
            break
        fitting += 1
    assert merge_scan(layers, read_page, start, end, entries_max, bytes_max) == (live[:fitting], fitting < len(live))
