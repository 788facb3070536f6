"""Records: what stands in one is what was put in, and any change of a byte is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardraft.errors import StorageError
from shardraft.kv.commands import Stored
from shardraft.kv.records import check_record, decode_record, encode_record, revision_in, stored_in
from shardraft.octets.functions import put_records


@given(key=st.binary(min_size=1, max_size=482), value=st.binary(max_size=300), revision=st.integers(0, 2**64 - 1))
def test_a_record_is_read_as_it_was_written(key: bytes, value: bytes, revision: int) -> None:
    record = encode_record(key, Stored(revision, value))
    check_record(key, record)
    assert decode_record(key, record) == stored_in(record) == Stored(revision, value)
    assert revision_in(record) == revision


@given(value=st.binary(max_size=40), data=st.data())
def test_any_flipped_bit_of_a_record_or_its_key_is_noticed(value: bytes, data: st.DataObject) -> None:
    key = b"some key"
    record = encode_record(key, Stored(7, value))
    bit = data.draw(st.integers(0, 8 * (len(key) + len(record)) - 1))
    both = bytearray(key + record)
    both[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StorageError, match="is damaged"):
        decode_record(bytes(both[: len(key)]), bytes(both[len(key) :]))
    with pytest.raises(StorageError, match="is damaged"):
        check_record(bytes(both[: len(key)]), bytes(both[len(key) :]))


@given(st.binary(max_size=30))
def test_garbage_is_no_record(garbage: bytes) -> None:
    with pytest.raises(StorageError, match="is damaged"):
        decode_record(b"key", garbage)


@given(rows=st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=30)), max_size=10))
def test_a_column_of_puts_has_the_records_that_each_would_have_alone(rows: list[tuple[bytes, bytes]]) -> None:
    alone = {key: encode_record(key, Stored(2**40 + place, value)) for place, (key, value) in enumerate(rows)}
    together: dict[bytes, bytes | None] = {}
    put_records(together, [key for key, _ in rows], [value for _, value in rows], 2**40)
    assert together == alone
