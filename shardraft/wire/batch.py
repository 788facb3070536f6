"""A client's batch as Cap'n Proto: the bytes that travel and that lie in every log (DESIGN idea 3)."""

from __future__ import annotations

from typing import Any, Final

from shardraft.errors import InvalidArgument
from shardraft.kv.commands import DELETE, PUT, Batch
from shardraft.wire.schema import (
    MALFORMED,
    data_list,
    items_bytes,
    load,
    open_message,
    pack_numbers,
    pack_positions,
    unpack_numbers,
    unpack_positions,
)

_KNOWN_KINDS: Final = bytes((PUT, DELETE))
_SESSION_BYTES: Final = 16
_FIXED_WORDS: Final = 32


class CapnpBatchCodec:
    """Encodes and decodes batches (``kv.commands.BatchCodec``); it has no state."""

    def encode_batch(self, batch: Batch) -> bytes:
        """One framed message of a single segment; equal batches give equal bytes."""
        operations = len(batch.kinds)
        size = items_bytes(batch.keys) + items_bytes(batch.values) + 11 * operations
        message = load("client").Batch.new_message(_FIXED_WORDS + size // 8)
        message.session = batch.session
        message.sequence = batch.sequence
        message.answeredBelow = batch.answered_below
        message.epoch = batch.epoch
        if batch.opens_session:
            message.opensSession = True
        if batch.atomic:
            message.atomic = True
        message.kinds = batch.kinds
        message.keys = batch.keys
        message.values = batch.values
        if batch.conditions:
            message.conditions = pack_numbers(batch.conditions)
        if batch.positions:
            message.positions = pack_positions(batch.positions)
        encoded: bytes = message.to_bytes()
        return encoded

    def decode_batch(self, payload: bytes) -> Batch:
        """The batch in ``payload``; every column has as many items as there are operations, at least one.

        Raises ``InvalidArgument`` when it is malformed. Lengths of keys and values are not looked at.
        """
        try:
            message = open_message(load("client").Batch, payload)
            batch = Batch(
                message.session,
                message.sequence,
                message.answeredBelow,
                message.opensSession,
                message.atomic,
                message.epoch,
                message.kinds,
                data_list(message.keys),
                data_list(message.values),
                unpack_numbers(message.conditions),
                unpack_positions(message.positions),
            )
        except MALFORMED:
            raise InvalidArgument("the batch is no message of this protocol") from None
        fault = _fault(batch)
        if fault:
            raise InvalidArgument(fault)
        return batch


def _fault(batch: Batch) -> str | None:
    operations = len(batch.kinds)
    if len(batch.session) != _SESSION_BYTES:
        return f"a session has {_SESSION_BYTES} bytes, not {len(batch.session)}"
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
