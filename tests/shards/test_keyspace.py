"""Slots, tags, routing keys and ranges (DESIGN section 6; PROTOCOL, "Split, merge, move")."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardraft.shards.keyspace import (
    SLOTS_MAX,
    KeyRange,
    Partitioning,
    prefix_range,
    routing_key,
    slot_of,
    slot_range,
    split_evenly,
    user_key,
)

HASH, RANGE = Partitioning.HASH, Partitioning.RANGE


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"123456789", 0x31C3),  # The check value of CRC-16/XMODEM.
        (b"foo", 12182),
        (b"bar", 5061),
        (b"", 0),
        (b"\x00\xff{", 0xCC03),
    ],
)
def test_slots_are_golden(key: bytes, slot: int) -> None:
    """These numbers never change: they decide where keys of existing clusters lie."""
    assert slot_of(key, 16_384) == slot % 16_384
    assert slot_of(key, 1_024) == slot % 1_024
    assert slot_of(key, 1) == 0


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"cart:{user1000}:items", b"user1000"),
        (b"foo{bar}{zap}", b"bar"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"}foo{bar}", b"bar"),
        (b"{a}", b"a"),
    ],
)
def test_only_the_tag_is_hashed(key: bytes, tag: bytes) -> None:
    assert slot_of(key, 16_384) == slot_of(tag, 16_384)


@pytest.mark.parametrize("key", [b"foo{}{bar}", b"{}", b"foo{bar", b"foo}bar{", b"foo}", b"plain", b"{"])
def test_without_a_tag_or_with_an_empty_one_the_whole_key_is_hashed(key: bytes) -> None:
    assert slot_of(key, 16_384) == _crc16(key) % 16_384


def _crc16(data: bytes) -> int:
    """CRC-16/XMODEM as its definition says it: polynomial 0x1021, bit by bit."""
    register = 0
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = ((register << 1) ^ 0x1021 if register & 0x8000 else register << 1) & 0xFFFF
    return register


def test_a_routing_key_is_the_slot_and_then_the_key() -> None:
    assert routing_key(b"foo", HASH, 1_024) == (12182 % 1_024).to_bytes(2, "big") + b"foo"
    assert routing_key(b"foo", RANGE, 1_024) == b"foo"


@settings(deadline=None, derandomize=True)
@given(key=st.binary(max_size=40), slots=st.integers(1, SLOTS_MAX), partitioning=st.sampled_from(Partitioning))
def test_a_routing_key_gives_the_users_key_back(key: bytes, slots: int, partitioning: Partitioning) -> None:
    routing = routing_key(key, partitioning, slots)
    assert user_key(routing, partitioning) == key
    assert len(routing) == len(key) + partitioning.slot_bytes


@settings(deadline=None, derandomize=True)
@given(key=st.binary(max_size=20), first=st.integers(0, 1_023), count=st.integers(1, 1_024))
def test_a_range_of_slots_holds_exactly_the_keys_of_these_slots(key: bytes, first: int, count: int) -> None:
    last = min(first + count, 1_024)
    is_inside = first <= slot_of(key, 1_024) < last
    assert slot_range(first, last).holds(routing_key(key, HASH, 1_024)) == is_inside


def test_the_outermost_slots_have_open_ends() -> None:
    assert slot_range(0, SLOTS_MAX) == KeyRange(b"", b"")
    assert slot_range(1, 2) == KeyRange(b"\x00\x01", b"\x00\x02")
    assert slot_range(0, 1) == KeyRange(b"", b"\x00\x01")
    for first, last in ((3, 3), (4, 3), (-1, 2), (0, SLOTS_MAX + 1)):
        with pytest.raises(AssertionError, match="no slots"):
            slot_range(first, last)


def test_a_range_holds_its_start_and_not_its_end() -> None:
    middle = KeyRange(b"b", b"d")
    assert [middle.holds(key) for key in (b"a", b"b", b"c", b"czz", b"d", b"e")] == [
        False, True, True, True, False, False,
    ]  # fmt: skip
    assert KeyRange(b"b").holds(b"\xff" * 500)
    assert KeyRange().holds(b"")


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (KeyRange(), KeyRange(), KeyRange()),
        (KeyRange(b"b", b"d"), KeyRange(), KeyRange(b"b", b"d")),
        (KeyRange(b"b", b"d"), KeyRange(b"c", b""), KeyRange(b"c", b"d")),
        (KeyRange(b"b", b"f"), KeyRange(b"c", b"d"), KeyRange(b"c", b"d")),
    ],
)
def test_ranges_overlap_in_the_keys_of_both(one: KeyRange, other: KeyRange, both: KeyRange) -> None:
    assert one.overlap(other) == other.overlap(one) == both
    assert not both.is_empty()


def test_ranges_that_only_touch_do_not_overlap() -> None:
    assert KeyRange(b"a", b"c").overlap(KeyRange(b"c", b"e")).is_empty()
    assert KeyRange(b"a", b"b").overlap(KeyRange(b"c", b"")).is_empty()


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"", b""), (b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b""), (b"a\xfe", b"a\xff")]
)
def test_a_prefix_is_a_range(prefix: bytes, end: bytes) -> None:
    assert prefix_range(prefix) == KeyRange(prefix, end)


@settings(deadline=None, derandomize=True)
@given(prefix=st.binary(max_size=3), key=st.binary(max_size=6))
def test_a_prefix_range_holds_exactly_what_begins_with_it(prefix: bytes, key: bytes) -> None:
    assert prefix_range(prefix).holds(key) == key.startswith(prefix)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 8, 1_000, 1_024])
def test_keys_are_split_evenly_and_without_gap(parts: int) -> None:
    ranges = split_evenly(parts, 1_024)
    assert ranges[0].start == b""
    assert ranges[-1].end == b""
    for earlier, later in pairwise(ranges):
        assert earlier.end == later.start != b""
    sizes = [0] * parts
    for slot in range(1_024):
        [owner] = [at for at, part in enumerate(ranges) if part.holds(slot.to_bytes(2, "big"))]
        sizes[owner] += 1
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("parts", "units"), [(0, 8), (9, 8), (1, SLOTS_MAX + 1), (-1, 8)])
def test_keys_are_not_split_into_parts_without_a_slot(parts: int, units: int) -> None:
    with pytest.raises(ValueError, match=f"{parts} parts"):
        split_evenly(parts, units)
