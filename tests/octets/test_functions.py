"""Both kinds of functions on columns, in Python and, where they were compiled, in C: what each promises."""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardraft.octets import functions, plain
from shardraft.octets.layouts import IN_BYTES, ITEMS_MAX, OF_OTHERS, OF_POINTERS

IN_C = ("shardraft.octets.messages", "shardraft.octets.records")


class InC:
    """The functions in C under one name, as ``plain`` has those in Python."""

    def __init__(self) -> None:
        for name in IN_C:
            module = import_module(name)
            vars(self).update({name: value for name, value in vars(module).items() if name in functions.__all__})


try:
    BOTH: list[Any] = [plain, InC()]
except ModuleNotFoundError:
    BOTH = [plain]
KINDS = bytes((IN_BYTES, OF_POINTERS, OF_OTHERS, OF_POINTERS, IN_BYTES))
NUMBER_MAX = 2**64 - 1
ITEMS = st.lists(st.binary(max_size=40), max_size=8)


@pytest.fixture(params=BOTH, ids=["python", "c"][: len(BOTH)])
def octets(request: pytest.FixtureRequest) -> Any:
    return request.param


def message_of(fields: dict[int, bytes | list[bytes]], pointers: int = len(KINDS), data_words: int = 0) -> bytearray:
    """A framed message of one segment whose fields lie behind each other."""
    table, content = [0] * pointers, b""
    for place, field in fields.items():
        between = pointers - place - 1 + len(content) // 8
        if isinstance(field, list):
            table[place] = len(field) << 35 | OF_POINTERS << 32 | between << 2 | 1
            content += plain.pack_items(field)
        else:
            table[place] = len(field) << 35 | IN_BYTES << 32 | between << 2 | 1
            content += field + bytes(-len(field) % 8)
    body = bytes(8 * data_words) + struct.pack(f"<{pointers}Q", *table) + content
    return bytearray(struct.pack("<2I 2I", 0, 1 + len(body) // 8, 0, pointers << 16 | data_words) + body)


def test_a_compiled_tree_has_them_in_c() -> None:
    for name in functions.__all__:
        assert getattr(functions, name) is getattr(BOTH[-1], name)


def chosen() -> Any:
    """The module that chooses, run anew."""
    spec = find_spec("shardraft.octets.functions")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("damaged", IN_C)
def test_functions_in_c_that_cannot_be_loaded_are_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    for name in IN_C:
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**dict.fromkeys(functions.__all__, "in C")))
    assert chosen().crc32 == "in C"
    monkeypatch.setitem(sys.modules, damaged, SimpleNamespace())
    with pytest.raises(ImportError, match="cannot import name"):
        chosen()
    monkeypatch.setitem(sys.modules, damaged, None)
    assert chosen().crc32 is plain.crc32


@given(st.binary(max_size=400), st.integers(0, 2**32 - 1), st.integers(0, 20))
@example(bytes(range(256)) * 300, 0, 7)
def test_a_checksum_is_that_of_zlib(data: bytes, value: int, start: int) -> None:
    start = min(start, len(data))
    for octets in BOTH:
        assert octets.crc32(data) == zlib.crc32(data)
        assert octets.crc32(data, value) == zlib.crc32(data, value)
        assert octets.crc32(bytearray(data), value, start) == zlib.crc32(data[start:], value)
        assert octets.crc32(memoryview(data)[start:], value) == zlib.crc32(data[start:], value)


@pytest.mark.parametrize("start", [-1, 4])
def test_a_checksum_begins_in_its_bytes(octets: Any, start: int) -> None:
    assert octets.crc32(b"abc", 9, 3) == 9
    with pytest.raises(ValueError, match="3 bytes have none from"):
        octets.crc32(b"abc", 0, start)


@given(ITEMS, st.binary(max_size=3))
def test_items_are_taken_apart_as_they_were_packed(items: list[bytes], before: bytes) -> None:
    for octets in BOTH:
        packed = octets.pack_items(items)
        assert packed == plain.pack_items(tuple(map(bytearray, items)))
        assert packed == octets.pack_items(list(map(memoryview, items)))
        words = len(packed) // 8
        assert 8 * words == len(packed)
        start = len(before)
        found: list[bytes] = [b"one before"]
        message = bytes(8 + 8 * start) + packed
        assert octets.unpack_items(message, start, len(items), found) == start + words
        assert found == [b"one before", *items]
        assert octets.unpack_items(message, start, len(items) + 1, []) == -1


def test_what_no_pointer_can_say_is_not_packed(octets: Any) -> None:
    large = memoryview(bytearray(1 << 29))
    assert len(octets.pack_items([large[1:]])) == 8 + large.nbytes
    with pytest.raises(OverflowError, match="too large for a message"):
        octets.pack_items([large])
    with pytest.raises(OverflowError, match="too large for a message"):
        octets.pack_items([large[1:]] * 9)


def test_more_items_than_may_be_are_not_taken(octets: Any) -> None:
    for count, after in ((ITEMS_MAX, ITEMS_MAX), (ITEMS_MAX + 1, -1)):
        found: list[bytes] = []
        assert octets.unpack_items(bytes(8) + octets.pack_items([b""] * count), 0, count, found) == after
        assert len(found) == max(after, 0)


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (-5, 0), (9, 0), (0, -1), (2**40, 1), (0, 2**40)])
def test_a_list_that_does_not_lie_in_the_message_is_none(octets: Any, start: int, count: int) -> None:
    assert octets.unpack_items(bytes(8) + octets.pack_items([b"some", b"items"]), start, count, []) == -1


@given(st.binary(max_size=30), ITEMS, ITEMS, st.integers(0, 3), st.permutations([0, 1, 3, 4]))
def test_fields_are_taken_in_any_order_they_lie_in(
    data: bytes, items: list[bytes], others: list[bytes], data_words: int, order: list[int]
) -> None:
    fields: dict[int, bytes | list[bytes]] = {0: data, 1: items, 3: others, 4: b"last"}
    message = bytes(message_of({place: fields[place] for place in order}, 7, data_words))
    for octets in BOTH:
        assert octets.take_columns(message, KINDS) == (data, items, None, others, b"last")


def test_what_is_not_set_is_empty_and_what_is_not_there_too(octets: Any) -> None:
    assert octets.take_columns(bytes(message_of({})), KINDS) == (b"", [], None, [], b"")
    assert octets.take_columns(bytes(message_of({0: b"first"}, 1)), KINDS) == (b"first", [], None, [], b"")


def test_fields_that_lie_in_one_place_are_taken_as_often_as_the_message_is_large(octets: Any) -> None:
    message = message_of({0: bytes(1000)})
    assert octets.take_columns(bytes(message), KINDS) is not None
    (pointer,) = struct.unpack_from("<Q", message, 16)
    struct.pack_into("<Q", message, 16 + 8 * 4, pointer - (4 << 2))
    assert octets.take_columns(bytes(message), KINDS) is None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        bytes(15),
        bytes(message_of({}))[:-8],
        bytes(message_of({})) + bytes(8),
        struct.pack("<2I 2I", 1, 1, 0, 0),
        struct.pack("<2I 2I", 0, 1, 4, 0),
        struct.pack("<2I 2I", 0, 1, 0, 1 << 16),
        struct.pack("<2I 2I", 0, 1, 0, 1),
    ],
)
def test_a_message_of_another_layout_is_none(octets: Any, message: bytes) -> None:
    assert octets.take_columns(message, KINDS) is None


@given(
    ITEMS,
    st.binary(max_size=30),
    st.lists(st.tuples(st.integers(8, 200), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_messages_are_taken_alike(items: list[bytes], data: bytes, damage: list[tuple[int, int]]) -> None:
    message = message_of({0: data, 1: items, 3: items[:2]})
    for place, byte in damage:
        message[place % len(message)] = byte
    found = [octets.take_columns(bytes(message), KINDS) for octets in BOTH]
    assert found == found[:1] * len(found)
    if found[0] is not None:
        assert sum(len(field) if isinstance(field, bytes) else sum(map(len, field or ())) for field in found[0]) <= len(
            message
        )


ROWS = st.lists(st.tuples(st.binary(min_size=1, max_size=3), st.binary(max_size=50)), max_size=10)


@given(ROWS, ROWS, st.integers(0, NUMBER_MAX - 20))
def test_records_are_put_as_they_would_be_singly(
    before: list[tuple[bytes, bytes]], rows: list[tuple[bytes, bytes]], first: int
) -> None:
    keys, values = [key for key, _ in rows], tuple(value for _, value in rows)
    expected: dict[bytes, bytes | None] = {key: value or None for key, value in before}
    size = sum(len(key) + len(value or b"") for key, value in expected.items())
    count = len(expected)
    for number, (key, value) in enumerate(rows, first):
        body = struct.pack("<Q", number) + value
        expected[key] = struct.pack("<I", zlib.crc32(key + body)) + body
    for octets in BOTH:
        held: dict[bytes, bytes | None] = {key: value or None for key, value in before}
        more_keys, more_bytes = octets.put_records(held, keys, values, first)
        assert held == expected
        assert list(held) == list(expected)
        assert count + more_keys == len(held)
        assert size + more_bytes == sum(len(key) + len(value or b"") for key, value in held.items())


@given(st.binary(max_size=20), st.binary(max_size=80), st.integers(0, NUMBER_MAX), st.data())
def test_a_record_is_opened_as_it_was_put_and_a_changed_one_is_none(
    key: bytes, value: bytes, number: int, data: st.DataObject
) -> None:
    held: dict[bytes, bytes | None] = {}
    plain.put_records(held, [key], [value], number)
    record = held[key]
    assert record is not None
    place, mask = data.draw(st.integers(0, len(record) - 1)), data.draw(st.integers(1, 255))
    changed = record[:place] + bytes([record[place] ^ mask]) + record[place + 1 :]
    for octets in BOTH:
        assert octets.open_record(key, record) == (number, value)
        assert octets.open_record(key, changed) is None
        assert octets.open_record(key + b"\1", record) is None
        assert all(octets.open_record(key, record[:size]) is None for size in range(len(record)))


def test_a_large_record_is_opened_and_a_changed_one_is_none(octets: Any) -> None:
    """Its checksum is taken while other threads run."""
    value = bytes(range(256)) * 1024
    held: dict[bytes, bytes | None] = {}
    octets.put_records(held, [b"key"], [value], 7)
    record = held[b"key"]
    assert record is not None
    assert octets.open_record(b"key", record) == (7, value)
    assert octets.open_record(b"key", record[:-1] + b"?") is None


def test_columns_of_different_lengths_are_refused(octets: Any) -> None:
    held: dict[bytes, bytes | None] = {}
    with pytest.raises(ValueError, match="2 keys have 1 values"):
        octets.put_records(held, [b"a", b"b"], [b"value"], 1)
    assert held == {}


@given(st.lists(st.binary(max_size=3), min_size=1), st.binary(max_size=3), st.binary(max_size=3))
def test_keys_are_within_a_range_when_each_is(keys: list[bytes], start: bytes, end: bytes) -> None:
    for octets in BOTH:
        assert octets.are_within(keys, start, end) is all(start <= key and (not end or key < end) for key in keys)
        assert octets.are_within(tuple(keys), b"", b"") is True


def test_no_key_is_nowhere(octets: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        octets.are_within([], b"", b"")


@pytest.mark.parametrize(
    "call",
    [
        lambda octets: octets.crc32("text"),
        lambda octets: octets.crc32(),
        lambda octets: octets.crc32(b"", "1"),
        lambda octets: octets.crc32(b"", 0, "1"),
        lambda octets: octets.pack_items([b"a", 1]),
        lambda octets: octets.pack_items(1),
        lambda octets: octets.pack_items([type("Bytes", (bytes,), {})(b"item")]),
        lambda octets: octets.unpack_items(b"", 0, 0),
        lambda octets: octets.unpack_items(bytes(8) + octets.pack_items([b"item"]), 0, 1, ()),
        lambda octets: octets.unpack_items(b"", "0", 0, []),
        lambda octets: octets.take_columns("a message of text", KINDS),
        lambda octets: octets.take_columns(message_of({}), KINDS),
        lambda octets: octets.take_columns(bytes(message_of({})), None),
        lambda octets: octets.put_records({}, ["key"], [b""], 1),
        lambda octets: octets.put_records({}, [b"key"], [None], 1),
        lambda octets: octets.put_records({}, [b"key"], [bytearray(b"value")], 1),
        lambda octets: octets.put_records({}, [type("Bytes", (bytes,), {})(b"key")], [b"value"], 1),
        lambda octets: octets.put_records({}, [b"key"], [b""], "1"),
        lambda octets: octets.put_records((), [b"key"], [b""], 1),
        lambda octets: octets.put_records({b"key": 1}, [b"key"], [b""], 1),
        lambda octets: octets.open_record("key", b""),
        lambda octets: octets.open_record(b"key", None),
        lambda octets: octets.open_record(b"key", bytearray(20)),
        lambda octets: octets.open_record(b"key"),
        lambda octets: octets.are_within([1], b"", b""),
        lambda octets: octets.are_within([b""], None, b""),
        lambda octets: octets.are_within(None, b"", b""),
    ],
)
def test_what_is_no_bytes_is_refused(octets: Any, call: Callable[[Any], object]) -> None:
    with pytest.raises((TypeError, AttributeError)):
        call(octets)


@pytest.mark.parametrize("first", [-1, NUMBER_MAX, NUMBER_MAX + 1])
def test_a_number_that_no_record_can_hold_is_refused(octets: Any, first: int) -> None:
    held: dict[bytes, bytes | None] = {}
    with pytest.raises(OverflowError):
        octets.put_records(held, [b"a", b"b"], [b"value", b"value"], first)
    assert held == {}
    assert octets.put_records(held, [b"a", b"b"], [b"", b""], NUMBER_MAX - 1) == (2, 26)


@pytest.mark.parametrize("column", [[b"a", "b"], [b"a", None]])
def test_columns_that_are_not_all_bytes_change_nothing(octets: Any, column: list[Any]) -> None:
    held: dict[bytes, bytes | None] = {b"a": b"record"}
    for keys, values in ((column, [b"", b""]), ([b"a", b"b"], column)):
        with pytest.raises(TypeError):
            octets.put_records(held, keys, values, 1)
    assert held == {b"a": b"record"}


def test_a_checksum_counts_bytes_whatever_a_view_counts(octets: Any) -> None:
    numbers = memoryview(b"abcdefgh").cast("I")
    assert octets.crc32(numbers, 3, 1) == zlib.crc32(b"bcdefgh", 3)


@pytest.mark.parametrize("size", [(1 << 16) - 1, 1 << 16, 1 << 20])
def test_a_large_checksum_is_that_of_zlib(octets: Any, size: int) -> None:
    data = bytes(range(256)) * (1 + size // 256)
    assert octets.crc32(data[: size + 3], 5, 3) == zlib.crc32(data[3 : size + 3], 5)
