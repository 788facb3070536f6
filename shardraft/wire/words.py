"""Structs whose fields are all byte strings, word by word: without the Cap'n Proto library, but as it writes them.

Frames between hosts and batches are such structs: a pointer per column, to bytes (``Data``) or to a list of byte
strings (``List(Data)``). The library looks each field up by its name and makes three objects per message, which was a
quarter of a host's main thread (decision 0027). ``QuickWriter`` writes what the library would write (tests compare the
bytes). ``QuickReader`` understands a message of one segment, with its fields in any order and whatever a later schema
added behind them; for all else it raises ``OtherLayout``, and ``LibraryReader`` decides what that is.

Sizes are in words of 8 bytes, as Cap'n Proto counts. A pointer is two 32-bit halves: how many words lie between it and
its target, and its kind; then what the target is (https://capnproto.org/encoding.html).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import attrs

from shardraft.wire.schema import ITEMS_MAX, data_list

IN_BYTES: Final = 2
OF_POINTERS: Final = 6
"""What the items of a list are."""
PADDING: Final = tuple(bytes(count) for count in range(8))
"""Zeros that fill up a word, by their number."""
_TABLE: Final = struct.Struct("<2I 2I")
"""Segment table; root pointer."""
_POINTER: Final = struct.Struct("<iI")
_LIST: Final = 1
_BYTES_POINTER: Final = IN_BYTES << 32 | _LIST
_SIZE_BITS: Final = 35
"""A pointer to bytes as one number: their size lies above the kind of the list, which lies above the offset."""
_BELOW_SIZE: Final = (1 << _SIZE_BITS) - 1


class OtherLayout(Exception):
    """The message is not one that is understood without the library; it may be a good one all the same."""


@attrs.frozen(slots=True)
class Layout:
    """How many pointers a struct has, and which of them belongs to each field."""

    pointers: int
    places: dict[str, int]


def layout_of(schema: Any) -> Layout:
    """The layout of a struct without numbers in it."""
    fields = schema.schema.fields
    node = schema.schema.node.struct
    assert node.dataWordCount == 0, "a struct with numbers in it is not written word by word"
    return Layout(node.pointerCount, {name: fields[name].proto.slot.offset for name in sorted(fields)})


class QuickWriter:
    """Makes one framed message of one segment; columns lie in it in the order in which they were put."""

    def __init__(self, layout: Layout) -> None:
        self._places = layout.places
        self._pointers = bytearray(8 * layout.pointers)
        self._words = layout.pointers
        self._parts: list[Any] = [b"", self._pointers]

    def put_data(self, name: str, column: bytes) -> None:
        """Set a ``Data``; each field at most once."""
        size = len(column)
        self._point(name, size << 3 | IN_BYTES, (size + 7) >> 3)
        self._parts.append(column)
        if size & 7:
            self._parts.append(PADDING[8 - (size & 7)])

    def put_items(self, name: str, column: Sequence[Any]) -> None:
        """Set a ``List(Data)``; each field at most once."""
        items, words = pack_items(column)
        self._point(name, len(column) << 3 | OF_POINTERS, words)
        self._parts.append(items)

    def framed(self) -> bytes:
        """The message, segment table included."""
        root = len(self._pointers) << 13
        self._parts[0] = _TABLE.pack(0, self._words + 1, 0, root)
        return b"".join(self._parts)

    def _point(self, name: str, target: int, words: int) -> None:
        place = self._places[name]
        _POINTER.pack_into(self._pointers, 8 * place, (self._words - place - 1) << 2 | _LIST, target)
        self._words += words


class LibraryWriter:
    """The same through the library, for frames that hold structs besides."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def put_data(self, name: str, column: bytes) -> None:
        setattr(self._builder, name, column)

    def put_items(self, name: str, column: Sequence[Any]) -> None:
        setattr(self._builder, name, column)

    def structs(self, name: str, count: int) -> Any:
        """The builders of a list of structs."""
        return self._builder.init(name, count)

    def framed(self) -> bytes:
        framed: bytes = self._builder.to_bytes()
        return framed


class QuickReader:
    """The fields of one framed message. Raises ``OtherLayout`` for whatever only the library understands.

    All fields together may take as many bytes as the message has, so that pointers to one place cannot make a small
    message large; and the items of a list must follow each other without gaps.
    """

    def __init__(self, layout: Layout, message: bytes) -> None:
        if len(message) < 16:
            raise OtherLayout
        more_segments, words, offset, counts = _TABLE.unpack_from(message)
        data_words = counts & 0xFFFF
        if more_segments or offset or len(message) != 8 + 8 * words:
            raise OtherLayout
        self._places = layout.places
        self._message = message
        self._begin = 16 + 8 * data_words
        self._end = self._begin + 8 * (counts >> 16)
        self._left = len(message)
        if self._end > len(message):
            raise OtherLayout

    def data(self, name: str) -> bytes:
        """A ``Data``; empty when it is not set."""
        begin, count = self._follow(name, IN_BYTES)
        end = begin + count
        self._take(count, end)
        return self._message[begin:end]

    def items(self, name: str, items_max: int = ITEMS_MAX) -> list[bytes]:
        """The items of a ``List(Data)``, none when it is not set."""
        begin, count = self._follow(name, OF_POINTERS)
        if count == 0:
            return []
        if count > items_max:
            raise OtherLayout
        items: list[bytes] = []
        end = 8 + 8 * unpack_items(self._message, (begin >> 3) - 1, count, items)
        self._take(end - begin, end)
        return items

    def structs(self, name: str) -> Any:
        """A list of structs, which the library reads."""
        raise OtherLayout

    def _follow(self, name: str, kind: int) -> tuple[int, int]:
        """Where the target of a field begins, and how many items it has."""
        at = self._begin + 8 * self._places[name]
        if at >= self._end:
            return 0, 0
        offset, target = _POINTER.unpack_from(self._message, at)
        if offset == 0 and target == 0:
            return 0, 0
        if offset & 3 != _LIST or target & 7 != kind:
            raise OtherLayout
        begin = at + 8 + 8 * (offset >> 2)
        if begin < 16:
            raise OtherLayout
        return begin, target >> 3

    def _take(self, count: int, end: int) -> None:
        self._left -= count
        if self._left < 0 or end > len(self._message):
            raise OtherLayout


class LibraryReader:
    """The same through the library. Raises one of ``schema.MALFORMED``."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def data(self, name: str) -> bytes:
        column: bytes = getattr(self._reader, name)
        return column

    def items(self, name: str, items_max: int = ITEMS_MAX) -> list[bytes]:
        return data_list(getattr(self._reader, name), items_max)

    def structs(self, name: str) -> Any:
        """The readers of a list of structs."""
        return getattr(self._reader, name)


def pack_items(items: Sequence[Any]) -> tuple[bytes, int]:
    """The target of a pointer to a ``List(Data)``, the items' pointers and then their bytes, and its words."""
    between = len(items) - 1
    pointers: list[int] = []
    parts: list[Any] = [b""]
    for item in items:
        size = len(item)
        pointers.append(size << _SIZE_BITS | _BYTES_POINTER | between << 2)
        between += ((size + 7) >> 3) - 1
        parts.append(item)
        if size & 7:
            parts.append(PADDING[8 - (size & 7)])
    parts[0] = struct.pack(f"<{len(pointers)}Q", *pointers)
    return b"".join(parts), len(items) + between + 1


def unpack_items(message: bytes, start: int, count: int, items: list[Any]) -> int:
    """Append the items of the ``List(Data)`` that begins at a word of the segment; the word after it.

    Each item must begin where the one before ended, so that what is read is no more than what was sent; raises
    ``OtherLayout`` when one does not.
    """
    begin = 8 + 8 * (start + count)
    if count > ITEMS_MAX or begin > len(message):
        raise OtherLayout
    pointers: tuple[int, ...] = struct.unpack_from(f"<{count}Q", message, 8 + 8 * start)
    expected = _BYTES_POINTER | (count - 1) << 2
    for pointer in pointers:
        # What the pointer says beyond where its target must begin is the size, in its upper bits.
        rest = pointer - expected
        size = rest >> _SIZE_BITS
        end = begin + size
        if rest & _BELOW_SIZE or size < 0 or end > len(message):
            raise OtherLayout
        items.append(message[begin:end])
        words = (size + 7) >> 3
        begin += words << 3
        expected += (words - 1) << 2
    return (begin >> 3) - 1
