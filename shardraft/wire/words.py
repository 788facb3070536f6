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

from shardraft.octets.functions import pack_items, take_columns
from shardraft.octets.layouts import IN_BYTES, ITEMS_MAX, OF_OTHERS, OF_POINTERS
from shardraft.wire.schema import data_list

PADDING: Final = tuple(bytes(count) for count in range(8))
"""Zeros that fill up a word, by their number."""
_TABLE: Final = struct.Struct("<2I 2I")
"""Segment table; root pointer."""
_POINTER: Final = struct.Struct("<iI")
_LIST: Final = 1


class OtherLayout(Exception):
    """The message is not one that is understood without the library; it may be a good one all the same."""


@attrs.frozen(slots=True)
class Layout:
    """What a struct's pointers are (``octets.layouts``), a byte each, and which of them belongs to each field."""

    kinds: bytes
    places: dict[str, int]


def layout_of(schema: Any) -> Layout:
    """The layout of a struct without numbers in it."""
    fields = schema.schema.fields
    node = schema.schema.node.struct
    assert node.dataWordCount == 0, "a struct with numbers in it is not written word by word"
    kinds = bytearray([OF_OTHERS]) * node.pointerCount
    places = {}
    for name in sorted(fields):
        slot = fields[name].proto.slot
        places[name] = slot.offset
        kinds[slot.offset] = _kind_of(slot.type)
    assert len({*places.values()}) == len(places), "fields of a union share a pointer"
    return Layout(bytes(kinds), places)


def _kind_of(declared: Any) -> int:
    if declared.which() == "data":
        return IN_BYTES
    is_of_data = declared.which() == "list" and declared.list.elementType.which() == "data"
    return OF_POINTERS if is_of_data else OF_OTHERS


class QuickWriter:
    """Makes one framed message of one segment; columns lie in it in the order in which they were put."""

    def __init__(self, layout: Layout) -> None:
        self._places = layout.places
        self._pointers = bytearray(8 * len(layout.kinds))
        self._words = len(layout.kinds)
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
        items = pack_items(column)
        self._point(name, len(column) << 3 | OF_POINTERS, len(items) >> 3)
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
        columns = take_columns(message, layout.kinds)
        if columns is None:
            raise OtherLayout
        self._places = layout.places
        self._columns = columns

    def data(self, name: str) -> bytes:
        """A ``Data``; empty when it is not set."""
        column: bytes = self._columns[self._places[name]]
        return column

    def items(self, name: str, items_max: int = ITEMS_MAX) -> list[bytes]:
        """The items of a ``List(Data)``, none when it is not set."""
        items: list[bytes] = self._columns[self._places[name]]
        if len(items) > items_max:
            raise OtherLayout
        return items

    def structs(self, name: str) -> Any:
        """A list of structs, which the library reads."""
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
