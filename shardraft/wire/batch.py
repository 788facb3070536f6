"""A client's batch as Cap'n Proto: the bytes that travel and that lie in every log (DESIGN idea 3)."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, Final

from shardraft.errors import InvalidArgument
from shardraft.kv.commands import DELETE, PUT, Batch
from shardraft.wire.schema import (
    MALFORMED,
    load,
    open_message,
    pack_numbers,
    pack_positions,
    unpack_numbers,
    unpack_positions,
)
from shardraft.wire.words import Layout, LibraryReader, OtherLayout, QuickReader, QuickWriter, layout_of

_KNOWN_KINDS: Final = bytes((PUT, DELETE))
SESSION_BYTES: Final = 16
_HEAD: Final = struct.Struct("<16sQQQB")
_OPENS_SESSION: Final = 1
_ATOMIC: Final = 2
_CONDITIONS: Final = 4
_POSITIONS: Final = 8
_FLAGS: Final = _OPENS_SESSION | _ATOMIC | _CONDITIONS | _POSITIONS


class CapnpBatchCodec:
    """Encodes and decodes batches (``kv.commands.BatchCodec``); it has no state."""

    def encode_batch(self, batch: Batch) -> bytes:
        """One framed message of a single segment; equal batches give equal bytes."""
        assert len(batch.session) == SESSION_BYTES, f"a session has {SESSION_BYTES} bytes, not {len(batch.session)}"
        message = QuickWriter(_layout())
        flags = (_OPENS_SESSION if batch.opens_session else 0) | (_ATOMIC if batch.atomic else 0)
        if batch.conditions:
            flags |= _CONDITIONS
            message.put_data("conditions", pack_numbers(batch.conditions))
        if batch.positions:
            flags |= _POSITIONS
            message.put_data("positions", pack_positions(batch.positions))
        head = _HEAD.pack(batch.session, batch.sequence, batch.answered_below, batch.epoch, flags)
        message.put_data("head", head + batch.kinds)
        message.put_items("keys", batch.keys)
        message.put_items("values", batch.values)
        return message.framed()

    def decode_batch(self, payload: bytes) -> Batch:
        """The batch in ``payload``; every column has as many items as there are operations, at least one.

        Raises ``InvalidArgument`` when it is malformed. Lengths of keys and values are not looked at.
        """
        try:
            batch = _read_quickly(payload)
            if batch is None:
                batch = _read(LibraryReader(open_message(load("client").Batch, payload)))
        except InvalidArgument:
            raise
        except MALFORMED:
            raise InvalidArgument("the batch is no message of this protocol") from None
        fault = _fault(batch)
        if fault:
            raise InvalidArgument(fault)
        return batch


@cache
def _layout() -> Layout:
    return layout_of(load("client").Batch)


def _read_quickly(payload: bytes) -> Batch | None:
    try:
        return _read(QuickReader(_layout(), payload))
    except OtherLayout:
        return None


def _read(message: QuickReader | LibraryReader) -> Batch:
    head = message.data("head")
    session, sequence, answered_below, epoch, flags = _HEAD.unpack_from(head)
    if flags > _FLAGS:
        raise InvalidArgument("the batch has a flag that this program does not know")
    return Batch(
        session,
        sequence,
        answered_below,
        flags & _OPENS_SESSION != 0,
        flags & _ATOMIC != 0,
        epoch,
        head[_HEAD.size :],
        message.items("keys"),
        message.items("values"),
        unpack_numbers(message.data("conditions")) if flags & _CONDITIONS else (),
        unpack_positions(message.data("positions")) if flags & _POSITIONS else (),
    )


def _fault(batch: Batch) -> str | None:
    operations = len(batch.kinds)
    if not operations:
        return "the batch holds no operation"
    if len(batch.keys) != operations or len(batch.values) != operations:
        return "the columns of the batch are not of one length"
    if batch.conditions and len(batch.conditions) != operations:
        return "the conditions of the batch are not one per operation"
    if batch.kinds.translate(None, _KNOWN_KINDS):
        return "the batch holds an operation of a kind that this program does not know"
    if DELETE in batch.kinds and _deletes_carry_values(batch):
        return "a delete carries a value"
    if batch.positions and not _ascends(batch.positions, operations):
        return "the positions of the batch are not one per operation, ascending"
    return None


def _deletes_carry_values(batch: Batch) -> bool:
    return any(value and kind == DELETE for kind, value in zip(batch.kinds, batch.values, strict=True))


def _ascends(positions: Any, operations: int) -> bool:
    return len(positions) == operations and all(map(int.__lt__, positions, positions[1:]))
