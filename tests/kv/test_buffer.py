"""The write buffer: what a read finds in which layer, how large it is, and what a flush takes."""

from __future__ import annotations

import pytest

from shardraft.kv.buffer import ENTRY_BYTES, MISSING, Layer, WriteBuffer
from shardraft.kv.commands import Stored
from shardraft.kv.records import HEADER_BYTES, encode_record
from tests.kv.replica import Replica, delete, put

ONE, TWO = (encode_record(b"a", Stored(number, b"value")) for number in (1, 2))


def test_a_read_finds_the_active_layer_then_the_one_being_flushed_then_neither() -> None:
    buffer = WriteBuffer()
    buffer.install({b"a": ONE, b"b": ONE, b"c": ONE})
    buffer.begin_flush()
    buffer.install({b"a": TWO, b"b": None})
    assert [buffer.find(key) for key in (b"a", b"b", b"c", b"d")] == [TWO, None, ONE, MISSING]
    buffer.end_flush()
    assert [buffer.find(key) for key in (b"a", b"b", b"c", b"d")] == [TWO, None, MISSING, MISSING]


def test_only_one_flush_is_in_flight() -> None:
    buffer = WriteBuffer()
    with pytest.raises(AssertionError, match="no flush"):
        buffer.end_flush()
    buffer.begin_flush()
    with pytest.raises(AssertionError, match="one flush at a time"):
        buffer.begin_flush()


def test_keys_and_values_are_counted_once_however_often_they_were_written() -> None:
    layer = Layer()
    layer.install({b"key": b"r" * 100})
    assert layer.size_bytes == 103 + ENTRY_BYTES
    layer.install({b"key": b"r" * 20, b"other": None})
    assert layer.size_bytes == 23 + 5 + 2 * ENTRY_BYTES
    layer.install({b"key": None})
    assert layer.size_bytes == 3 + 5 + 2 * ENTRY_BYTES


def test_what_is_being_flushed_counts_until_it_is_durable() -> None:
    replica = Replica()
    assert replica.machine.buffer_bytes == 0
    replica.write(put(b"k", b"0123456789"), put(b"k", b"01234"))
    one = 6 + HEADER_BYTES + ENTRY_BYTES
    assert replica.machine.buffer_bytes == one
    replica.begin_flush()
    assert (replica.machine.buffer_bytes, replica.machine.is_flushing) == (one, True)
    replica.write(put(b"k", b"01234"), sequence=1)
    assert replica.machine.buffer_bytes == 2 * one
    replica.end_flush()
    assert (replica.machine.buffer_bytes, replica.machine.is_flushing) == (one, False)


def test_an_image_is_the_state_of_the_moment_it_was_taken() -> None:
    replica = Replica()
    replica.write(put(b"a"), put(b"b"))
    image = replica.begin_flush()
    replica.time_us = 9
    replica.write(put(b"a", b"later"), delete(b"b"), put(b"c"), sequence=1)
    assert dict(image.changes) == {
        b"a": encode_record(b"a", Stored(1, b"value")),
        b"b": encode_record(b"b", Stored(2, b"value")),
    }
    assert (image.state.last_applied, image.state.revision, image.state.time_us) == (1, 2, 0)
    assert [sequence for sequence, _, _ in image.state.sessions[0].results] == [0]


def test_flushed_index_is_what_the_store_holds() -> None:
    replica = Replica()
    replica.write(put(b"a"))
    replica.begin_flush()
    replica.write(put(b"b"), sequence=1)
    assert replica.machine.flushed_index == 0
    replica.end_flush()
    assert (replica.machine.flushed_index, replica.machine.last_applied) == (1, 2)
    replica.crash()
    assert (replica.machine.flushed_index, replica.machine.last_applied) == (1, 2)


def test_a_deleted_key_stays_deleted_while_its_older_value_is_being_flushed() -> None:
    replica = Replica()
    replica.write(put(b"a"))
    replica.begin_flush()
    replica.write(delete(b"a"), sequence=1)
    assert replica.machine.get(b"a") is None
    replica.end_flush()
    assert replica.machine.get(b"a") is None
    replica.flush()
    assert replica.store.rows == {}


@pytest.mark.parametrize("more", [1, 500])
def test_a_layer_gives_its_keys_in_order_also_those_that_came_since_it_was_last_asked(more: int) -> None:
    layer = Layer()
    layer.install({b"%04d" % (7 * number % 1000): ONE for number in range(100)})
    layer.keys_from(b"", b"", 1)
    layer.install({b"%04d" % (7 * number % 1000): TWO for number in range(90, 100 + more)})
    expected = sorted(layer.changes)
    assert layer.keys_from(b"", b"", 10_000) == (expected, False)
    assert layer.keys_from(expected[3], expected[9], 5) == (expected[3:8], True)
    assert layer.keys_from(expected[3], expected[9], 6) == (expected[3:9], False)
    assert layer.keys_from(b"z", b"", 5) == ([], False)
    assert layer.keys_from(expected[9], expected[3], 5) == ([], False)
