"""A frame of many messages as columns: one column per kind of message (``schema/peer.capnp``).

A column costs one field of a Cap'n Proto struct however many messages it holds, so a frame of 64
shards costs little more than one of a single shard.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.raft.entry import Entry, EntryError, decode_entry
from shardraft.types import ShardId
from shardraft.wire.schema import data_list

MESSAGES_MAX: Final = 65_536
"""Messages in one frame; more are sent in several, and refused on receipt."""
_FIXED_BYTES: Final = 512


class Kind(Protocol):
    """How one kind of message stands in a frame; ``number`` is its byte in the frame's ``kinds``."""

    @property
    def number(self) -> int: ...

    def bytes_of(self, message: Any) -> int:
        """An upper bound of what the message adds to a frame."""
        ...

    def write(self, frame: Any, messages: Sequence[Any]) -> None:
        """Set the kind's columns of the frame being built."""
        ...

    def read(self, frame: Any, count: int) -> Sequence[Any]:
        """The ``count`` messages of this kind. Raises ``ProtocolError`` or one of ``schema.MALFORMED``."""
        ...


@attrs.frozen(slots=True)
class Payloads:
    """The list of byte strings that belongs to a column of records.

    ``of`` names those of one message; the frame holds those of all messages, concatenated.
    """

    name: str
    of: Callable[[Any], Sequence[bytes]]


@attrs.frozen(slots=True)
class RecordKind:
    """Messages as fixed-width records in a ``Data`` column.

    ``pack`` makes the record of one message; ``unpack`` makes all messages of the records' rows, and of
    the reader of their payloads (None for a kind that has none).
    """

    number: int
    column: str
    record: struct.Struct
    pack: Callable[[Any], bytes]
    unpack: Callable[[list[tuple[Any, ...]], Any], Sequence[Any]]
    payloads: Payloads | None = None

    def bytes_of(self, message: Any) -> int:
        size = self.record.size + 1
        if self.payloads is not None:
            items = self.payloads.of(message)
            size += sum(map(len, items)) + 16 * len(items)
        return size

    def write(self, frame: Any, messages: Sequence[Any]) -> None:
        setattr(frame, self.column, b"".join(map(self.pack, messages)))
        if self.payloads is not None:
            setattr(frame, self.payloads.name, [item for message in messages for item in self.payloads.of(message)])

    def read(self, frame: Any, count: int) -> Sequence[Any]:
        rows = list(self.record.iter_unpack(getattr(frame, self.column)))
        if len(rows) != count:
            raise ValueError("another number of records than the kinds say")
        return self.unpack(rows, None if self.payloads is None else getattr(frame, self.payloads.name))


@attrs.frozen(slots=True)
class StructKind:
    """Messages as Cap'n Proto structs in a list: for what is rare and has text or lists in it."""

    number: int
    column: str
    write_one: Callable[[Any, Any], None]
    read_one: Callable[[Any], Any]
    bytes_of: Callable[[Any], int]

    def write(self, frame: Any, messages: Sequence[Any]) -> None:
        for place, message in zip(frame.init(self.column, len(messages)), messages, strict=True):
            self.write_one(place, message)

    def read(self, frame: Any, count: int) -> Sequence[Any]:
        readers = getattr(frame, self.column)
        if len(readers) != count:
            raise ValueError("another number of structs than the kinds say")
        return [self.read_one(reader) for reader in readers]


def read_entries(reader: Any, counts: Sequence[tuple[ShardId, int]]) -> list[tuple[Entry, ...]]:
    """The entries of each (shard, count), in order, each with its checksum verified (raises ``ProtocolError``)."""
    total = sum(count for _, count in counts)
    encoded = data_list(reader, total)
    if len(encoded) != total:
        raise ValueError("fewer entries than the records say")
    each = iter(encoded)
    try:
        return [tuple([decode_entry(next(each), shard) for _ in range(count)]) for shard, count in counts]
    except EntryError as error:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, f"the frame holds a bad entry: {error}") from None


def encode_frames(
    schema: Any, kinds: Mapping[type, Kind], messages: Iterable[Any], frame_bytes_max: int
) -> list[bytes]:
    """The messages in order, in as few frames as keep to ``frame_bytes_max``; a larger message goes alone."""
    frames: list[bytes] = []
    pending: list[tuple[Kind, Any]] = []
    size = _FIXED_BYTES
    for message in messages:
        kind = kinds[type(message)]
        its_size = kind.bytes_of(message)
        if pending and (size + its_size > frame_bytes_max or len(pending) == MESSAGES_MAX):
            frames.append(_encode_frame(schema, pending, size))
            pending, size = [], _FIXED_BYTES
        pending.append((kind, message))
        size += its_size
    if pending:
        frames.append(_encode_frame(schema, pending, size))
    return frames


def _encode_frame(schema: Any, pending: list[tuple[Kind, Any]], size: int) -> bytes:
    by_number: dict[int, tuple[Kind, list[Any]]] = {}
    for kind, message in pending:
        column = by_number.get(kind.number)
        if column is None:
            by_number[kind.number] = (kind, [message])
        else:
            column[1].append(message)
    frame = schema.new_message(size // 8)
    frame.kinds = bytes([kind.number for kind, _ in pending])
    for kind, its_messages in by_number.values():
        kind.write(frame, its_messages)
    framed: bytes = frame.to_bytes()
    return framed


def read_frame(frame: Any, kinds: Mapping[int, Kind]) -> tuple[Any, ...]:
    """The messages of a frame in their order. Raises ``ProtocolError`` or one of ``schema.MALFORMED``."""
    numbers: bytes = frame.kinds
    if len(numbers) > MESSAGES_MAX:
        raise ProtocolError(ErrorCode.TOO_LARGE, f"more than {MESSAGES_MAX} messages in one frame")
    columns = {}
    for number in sorted(set(numbers)):
        kind = kinds.get(number)
        if kind is None:
            raise ProtocolError(ErrorCode.UNIMPLEMENTED, f"the frame holds a message of unknown kind {number}")
        columns[number] = iter(kind.read(frame, numbers.count(number)))
    if len(columns) == 1:
        return tuple(columns[numbers[0]])
    return tuple([next(columns[number]) for number in numbers])
