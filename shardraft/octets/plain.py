"""The functions of this room in Python: what each of them means.

Sizes are in words of 8 bytes, as Cap'n Proto counts. A pointer is two 32-bit halves: how many words lie between it and
its target, and its kind; then what the target is.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from operator import add
from typing import Any, Final

from shardraft.octets.layouts import IN_BYTES, ITEMS_MAX, OF_POINTERS, RECORD_HEADER_BYTES

_TABLE: Final = struct.Struct("<2I 2I")
"""Segment table; root pointer."""
_POINTER: Final = struct.Struct("<iI")
_LIST: Final = 1
_BYTES_POINTER: Final = IN_BYTES << 32 | _LIST
_SIZE_BITS: Final = 35
"""A pointer to bytes as one number: their size lies above the kind of the list, which lies above the offset."""
_BELOW_SIZE: Final = (1 << _SIZE_BITS) - 1
_PADDING: Final = tuple(bytes(count) for count in range(8))
_RECORD: Final = struct.Struct("<IQ")
_CHECKSUM_BYTES: Final = 4
_NUMBER: Final = struct.Struct("<Q")
_NUMBER_MAX: Final = (1 << 64) - 1
assert _RECORD.size == RECORD_HEADER_BYTES


def crc32(data: bytes | bytearray | memoryview, value: int = 0, start: int = 0, /) -> int:
    """CRC-32 as in zlib (RFC 1952, section 8) of what ``data`` has from its byte ``start`` on, going on from ``value``.

    Raises ``ValueError`` when it has no such byte and does not end there.
    """
    if start == 0 and type(data) is bytes:
        return zlib.crc32(data, value)
    content = memoryview(data)
    if not 0 <= start <= content.nbytes:
        raise ValueError(f"{content.nbytes} bytes have none from {start} on")
    return zlib.crc32(content.cast("B")[start:], value)


def pack_items(items: Sequence[Any], /) -> bytes:
    """The target of a pointer to a ``List(Data)``: the items' pointers and then their bytes, in whole words.

    Raises ``TypeError`` for an item that is neither ``bytes`` nor ``bytearray`` nor ``memoryview``, and
    ``OverflowError`` for what no pointer can say: an item of half a gibibyte, or a list of two.
    """
    between = len(items) - 1
    pointers: list[int] = []
    parts: list[Any] = [b""]
    for item in items:
        if type(item) not in (bytes, bytearray, memoryview):
            raise TypeError(f"an item is bytes, not {type(item).__name__}")
        size = memoryview(item).nbytes
        if size >= 1 << 29 or between >= 1 << 29:
            raise OverflowError("a list of byte strings that is too large for a message")
        pointers.append(size << _SIZE_BITS | _BYTES_POINTER | between << 2)
        between += ((size + 7) >> 3) - 1
        parts.append(item)
        if size & 7:
            parts.append(_PADDING[8 - (size & 7)])
    parts[0] = struct.pack(f"<{len(pointers)}Q", *pointers)
    return b"".join(parts)


def unpack_items(message: bytes, start: int, count: int, items: list[Any], /) -> int:
    """Append the items of the ``List(Data)`` that begins at a word of a message's segment; the word after it.

    Each item must begin where the one before ended, so that what is read is no more than what was sent; -1 when one
    does not, when they are more than ``ITEMS_MAX``, and when they are not all in the message.
    """
    begin = 8 + 8 * (start + count)
    if start < 0 or not 0 <= count <= ITEMS_MAX or begin > len(message):
        return -1
    pointers: tuple[int, ...] = struct.unpack_from(f"<{count}Q", message, 8 + 8 * start)
    expected = _BYTES_POINTER | (count - 1) << 2
    for pointer in pointers:
        # What the pointer says beyond where its target must begin is the size, in its upper bits.
        rest = pointer - expected
        size = rest >> _SIZE_BITS
        end = begin + size
        if rest & _BELOW_SIZE or size < 0 or end > len(message):
            return -1
        items.append(message[begin:end])
        words = (size + 7) >> 3
        begin += words << 3
        expected += (words - 1) << 2
    return (begin >> 3) - 1


def take_columns(message: bytes, kinds: bytes, /) -> tuple[Any, ...] | None:
    """The fields of one framed message whose root has pointers of these ``kinds``; None for any other layout.

    A field of bytes is ``bytes``, one of pointers a list of them, any other None. What is not set is empty; fields
    behind those that are known are passed over. All fields together may take as many bytes as the message has, so that
    pointers to one place cannot make a small message large.
    """
    if type(message) is not bytes or type(kinds) is not bytes:
        raise TypeError("a message is bytes, and so are the kinds of its fields")
    if len(message) < 16:
        return None
    more_segments, words, offset, counts = _TABLE.unpack_from(message)
    begin = 16 + 8 * (counts & 0xFFFF)
    end = begin + 8 * (counts >> 16)
    if more_segments or offset or len(message) != 8 + 8 * words or end > len(message):
        return None
    columns: list[Any] = []
    left = len(message)
    for place, kind in enumerate(kinds):
        if kind not in (IN_BYTES, OF_POINTERS):
            columns.append(None)
            continue
        taken = _take_column(message, begin + 8 * place, end, kind)
        if taken is None or taken[1] > left:
            return None
        columns.append(taken[0])
        left -= taken[1]
    return tuple(columns)


def _take_column(message: bytes, at: int, pointers_end: int, kind: int) -> tuple[Any, int] | None:
    """The field whose pointer lies at a byte, and of how many bytes it is."""
    offset, target = _POINTER.unpack_from(message, at) if at < pointers_end else (0, 0)
    items: list[bytes] = []
    if offset == 0 and target == 0:
        return (b"" if kind == IN_BYTES else items), 0
    begin = at + 8 + 8 * (offset >> 2)
    count = target >> 3
    if offset & 3 != _LIST or target & 7 != kind or begin < 16:
        return None
    if kind == IN_BYTES:
        return (message[begin : begin + count], count) if begin + count <= len(message) else None
    if count == 0:
        return items, 0
    after = unpack_items(message, (begin >> 3) - 1, count, items)
    return None if after < 0 else (items, 8 + 8 * after - begin)


def put_records(
    held: dict[bytes, bytes | None], keys: Sequence[bytes], values: Sequence[bytes], first_number: int, /
) -> tuple[int, int]:
    """Put a record of each value under its key; how many keys ``held`` has more, and how many bytes of both.

    A record is checksum u32 | number u64 | value, little-endian, where numbers are consecutive from ``first_number``
    up and the checksum is CRC-32 over key, number and value. Raises ``ValueError`` for columns of different lengths,
    ``TypeError`` for what is not ``bytes``, ``OverflowError`` for a number of over 64 bits; then nothing was changed.
    """
    if len(keys) != len(values):
        raise ValueError(f"{len(keys)} keys have {len(values)} values")
    if not {*map(type, keys), *map(type, values)} <= {bytes}:
        raise TypeError("keys and values are bytes")
    if keys and not 0 <= first_number <= _NUMBER_MAX + 1 - len(keys):
        raise OverflowError("a number that no record can hold")
    numbers = range(first_number, first_number + len(keys))
    checksums = map(zlib.crc32, values, map(zlib.crc32, map(_NUMBER.pack, numbers), map(zlib.crc32, keys)))
    records = map(add, map(_RECORD.pack, checksums, numbers), values)
    changes: dict[bytes, bytes | None] = dict(zip(keys, records, strict=True))
    more_bytes = _bytes_of(changes)
    more_keys = len(changes)
    if not held.keys().isdisjoint(changes):
        known = {key: held[key] for key in changes if key in held}
        more_bytes -= _bytes_of(known)
        more_keys -= len(known)
    held.update(changes)
    return more_keys, more_bytes


def _bytes_of(records: dict[bytes, bytes | None]) -> int:
    return sum(map(len, records)) + sum(map(len, filter(None, records.values())))


def open_record(key: bytes, record: bytes, /) -> tuple[int, bytes] | None:
    """The number and the value in a record of ``put_records``; None when it is not one of ``key``, or was changed."""
    if type(key) is not bytes or type(record) is not bytes:
        raise TypeError("key and record are bytes")
    if len(record) < RECORD_HEADER_BYTES:
        return None
    checksum, number = _RECORD.unpack_from(record)
    if crc32(record, zlib.crc32(key), _CHECKSUM_BYTES) != checksum:
        return None
    return number, record[RECORD_HEADER_BYTES:]


def are_within(keys: Sequence[bytes], start: bytes, end: bytes, /) -> bool:
    """Whether all ``keys``, at least one, lie in [``start``, ``end``); an empty ``end`` means no end."""
    return start <= min(keys) and (not end or max(keys) < end)
