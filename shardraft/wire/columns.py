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
from shardraft.wire.schema import load
from shardraft.wire.words import LibraryWriter, QuickWriter, layout_of

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

    @property
    def of_bytes(self) -> bool:
        """Whether its columns are byte strings only, so that they can do without the library."""
        ...

    def write(self, frame: Any, messages: Sequence[Any]) -> None:
        """Set the kind's columns of the frame being built, which is a writer of ``wire.words``."""
        ...

    def read(self, frame: Any, count: int) -> Sequence[Any]:
        """The ``count`` messages of this kind in a frame, which is a reader of ``wire.words``.

        Raises ``ProtocolError``, one of ``schema.MALFORMED``, or the reader's ``OtherLayout``.
        """
        ...


class FrameForm:
    """One struct of ``schema/peer.capnp`` whose fields are columns."""

    def __init__(self, name: str) -> None:
        self.schema = getattr(load("peer"), name)
        self.layout = layout_of(self.schema)

    def writer(self, size: int, of_bytes: bool) -> QuickWriter | LibraryWriter:
        """A frame to be filled with about ``size`` bytes."""
        return QuickWriter(self.layout) if of_bytes else LibraryWriter(self.schema.new_message(size // 8))


@attrs.frozen(slots=True)
class Payloads:
    """The list of byte strings that belongs to a column of records.

    ``of`` names those of one message; the frame holds those of all messages, concatenated. ``count`` says of the
    records' rows how many that must be.
    """

    name: str
    of: Callable[[Any], Sequence[bytes]]
    count: Callable[[list[tuple[Any, ...]]], int] = len


@attrs.frozen(slots=True)
class RecordKind:
    """Messages as fixed-width records in a ``Data`` column.

    ``pack`` makes the record of one message; ``unpack`` makes all messages of the records' rows and of their payloads,
    which are as many as ``payloads.count`` says.
    """

    number: int
    column: str
    record: struct.Struct
    pack: Callable[[Any], bytes]
    unpack: Callable[[list[tuple[Any, ...]], list[bytes]], Sequence[Any]]
    payloads: Payloads | None = None

    @property
    def of_bytes(self) -> bool:
        return True

    def bytes_of(self, message: Any) -> int:
        size = self.record.size + 1
        if self.payloads is not None:
            items = self.payloads.of(message)
            size += sum(map(len, items)) + 16 * len(items)
        return size

    def write(self, frame: Any, messages: Sequence[Any]) -> None:
        frame.put_data(self.column, b"".join(map(self.pack, messages)))
        payloads = self.payloads
        if payloads is not None:
            frame.put_items(payloads.name, [item for message in messages for item in payloads.of(message)])

    def read(self, frame: Any, count: int) -> Sequence[Any]:
        rows = list(self.record.iter_unpack(frame.data(self.column)))
        if len(rows) != count:
            raise ValueError("another number of records than the kinds say")
        return self.unpack(rows, [] if self.payloads is None else self._payloads_of(rows, frame, self.payloads))

    def _payloads_of(self, rows: list[tuple[Any, ...]], frame: Any, payloads: Payloads) -> list[bytes]:
        count = payloads.count(rows)
        items: list[bytes] = frame.items(payloads.name, count)
        if len(items) != count:
            raise ValueError("fewer payloads than the records say")
        return items


@attrs.frozen(slots=True)
class StructKind:
    """Messages as Cap'n Proto structs in a list: for what is rare and has text or lists in it."""

    number: int
    column: str
    write_one: Callable[[Any, Any], None]
    read_one: Callable[[Any], Any]
    bytes_of: Callable[[Any], int]

    @property
    def of_bytes(self) -> bool:
        return False

    def write(self, frame: Any, messages: Sequence[Any]) -> None:
        for place, message in zip(frame.structs(self.column, len(messages)), messages, strict=True):
            self.write_one(place, message)

    def read(self, frame: Any, count: int) -> Sequence[Any]:
        readers = frame.structs(self.column)
        if len(readers) != count:
            raise ValueError("another number of structs than the kinds say")
        return [self.read_one(reader) for reader in readers]


def read_entries(encoded: list[bytes], counts: Sequence[tuple[ShardId, int]]) -> list[tuple[Entry, ...]]:
    """The entries of each (shard, count), in order, each with its checksum verified (raises ``ProtocolError``)."""
    each = iter(encoded)
    try:
        return [tuple([decode_entry(next(each), shard) for _ in range(count)]) for shard, count in counts]
    except EntryError as error:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, f"the frame holds a bad entry: {error}") from None


def encode_frames(
    form: FrameForm, kinds: Mapping[type, Kind], messages: Iterable[Any], frame_bytes_max: int
) -> list[bytes]:
    """The messages in order, in as few frames as keep to ``frame_bytes_max``; a larger message goes alone."""
    frames: list[bytes] = []
    pending: list[tuple[Kind, Any]] = []
    size = _FIXED_BYTES
    for message in messages:
        kind = kinds[type(message)]
        its_size = kind.bytes_of(message)
        if pending and (size + its_size > frame_bytes_max or len(pending) == MESSAGES_MAX):
            frames.append(_encode_frame(form, pending, size))
            pending, size = [], _FIXED_BYTES
        pending.append((kind, message))
        size += its_size
    if pending:
        frames.append(_encode_frame(form, pending, size))
    return frames


def _encode_frame(form: FrameForm, pending: list[tuple[Kind, Any]], size: int) -> bytes:
    frame = form.writer(size, all(kind.of_bytes for kind, _ in pending))
    fill_frame(frame, pending)
    return frame.framed()


def fill_frame(frame: QuickWriter | LibraryWriter, pending: list[tuple[Kind, Any]]) -> None:
    """Put the messages into the frame, each column after the columns of the messages that came first."""
    by_number: dict[int, tuple[Kind, list[Any]]] = {}
    for kind, message in pending:
        column = by_number.get(kind.number)
        if column is None:
            by_number[kind.number] = (kind, [message])
        else:
            column[1].append(message)
    frame.put_data("kinds", bytes([kind.number for kind, _ in pending]))
    for kind, its_messages in by_number.values():
        kind.write(frame, its_messages)


def read_frame(frame: Any, kinds: Mapping[int, Kind]) -> tuple[Any, ...]:
    """The messages of a frame, which is a reader of ``wire.words``, in their order; raises as ``Kind.read`` does."""
    numbers: bytes = frame.data("kinds")
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
