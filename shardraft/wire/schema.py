"""Loads the schemas, and the few steps that every encoder and decoder shares.

One process-wide parser, since two parsers would make distinct types of one schema. The schemas lie
in the package when it was installed from a wheel and beside it in a source tree.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import capnp

from shardraft.octets.layouts import ITEMS_MAX

capnp.remove_import_hook()

MALFORMED: Final = (
    capnp.KjException,
    ValueError,
    RuntimeError,
    AttributeError,
    LookupError,
    OverflowError,
    struct.error,
)
"""What decoding a damaged message may raise; UnicodeDecodeError is a ValueError. Their texts hold
memory addresses and never leave this room."""

NESTING_MAX: Final = 12
"""Structs and lists inside each other; ours need 6."""
SEGMENTS_MAX: Final = 64
"""Segments of one message. We send one; growing allocators of other programs need about 12."""

_SINGLE_TABLE: Final = struct.Struct("<II")
_WORDS_SLACK: Final = 128


@cache
def _parser() -> Any:
    return capnp.SchemaParser()


@cache
def load(name: str) -> Any:
    """The module of ``schema/<name>.capnp``."""
    packaged = files("shardraft") / "schema"
    if packaged.is_dir():
        with as_file(packaged) as directory:
            return _parser().load(str(directory / f"{name}.capnp"))
    return _parser().load(str(Path(__file__).resolve().parents[2] / "schema" / f"{name}.capnp"))


def items_bytes(items: Sequence[bytes]) -> int:
    """An upper bound of the bytes that a ``List(Data)`` takes in a message."""
    return sum(map(len, items)) + 16 * len(items) + 8


def open_message(schema: Any, message: bytes) -> Any:
    """The root of one framed message, segment table included. Raises one of ``MALFORMED``.

    Reading may traverse twice as many words as the message has, so that pointers to one place cannot
    make a small message large; and errors surface lazily: read every field inside the same ``try``.
    """
    if len(message) < 16:
        raise ValueError("shorter than any message")
    more_segments, words = _SINGLE_TABLE.unpack_from(message)
    if more_segments:
        segments = _split_segments(message, more_segments + 1)
    elif len(message) == 8 + 8 * words:
        segments = (message[8:],)
    else:
        raise ValueError("not as long as its segment table says")
    return schema.from_segments(segments, (len(message) >> 2) + _WORDS_SLACK, NESTING_MAX)


def _split_segments(message: bytes, count: int) -> tuple[bytes, ...]:
    if count > SEGMENTS_MAX:
        raise ValueError("too many segments")
    words = struct.unpack_from(f"<{count}I", message, 4)
    start = 4 + 4 * count + 4 * ((count + 1) % 2)
    segments = []
    for length in words:
        segments.append(message[start : start + 8 * length])
        start += 8 * length
    if start != len(message):
        raise ValueError("not as long as its segment table says")
    return tuple(segments)


def data_list(reader: Any, items_max: int = ITEMS_MAX) -> list[bytes]:
    """The items of a ``List(Data)``; more than ``items_max`` are refused before the first is read."""
    if len(reader) > items_max:
        raise ValueError("too many items")
    return list(reader)


def pack_numbers(numbers: Sequence[int]) -> bytes:
    """A column of u64."""
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def unpack_numbers(column: bytes) -> tuple[int, ...]:
    """The numbers of a column of u64; raises ``struct.error`` when it is no whole number of them."""
    return struct.unpack(f"<{len(column) >> 3}Q", column)


def pack_positions(positions: Sequence[int]) -> bytes:
    """A column of u16."""
    return struct.pack(f"<{len(positions)}H", *positions)


def unpack_positions(column: bytes) -> tuple[int, ...]:
    """The numbers of a column of u16; raises ``struct.error`` when it is no whole number of them."""
    return struct.unpack(f"<{len(column) >> 1}H", column)
