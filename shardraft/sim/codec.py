"""The plain codec: batches as fixed-width columns, so that the simulated world needs no Cap'n Proto.

Equal batches have equal bytes. The layout, little-endian: session, sequence, answered_below,
epoch, flags, then the number of operations, conditions and positions, then the columns: kinds,
key lengths, value lengths, conditions, positions, keys, values.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from shardraft.errors import InvalidArgument
from shardraft.kv.commands import Batch

_HEADER: Final = struct.Struct("<16sQQQBIII")
_OPENS_SESSION: Final = 1
_ATOMIC: Final = 2


class PlainCodec:
    """The ``Codec`` port without a schema."""

    def encode_batch(self, batch: Batch) -> bytes:
        """The bytes of ``batch``; deterministic."""
        count = len(batch.kinds)
        flags = _OPENS_SESSION * batch.opens_session + _ATOMIC * batch.atomic
        header = _HEADER.pack(
            batch.session,
            batch.sequence,
            batch.answered_below,
            batch.epoch,
            flags,
            count,
            len(batch.conditions),
            len(batch.positions),
        )
        columns = struct.pack(
            f"<{count}I{count}I{len(batch.conditions)}Q{len(batch.positions)}I",
            *[len(key) for key in batch.keys],
            *[len(value) for value in batch.values],
            *batch.conditions,
            *batch.positions,
        )
        return b"".join((header, batch.kinds, columns, *batch.keys, *batch.values))

    def decode_batch(self, payload: bytes) -> Batch:
        """The batch in ``payload``. Raises ``InvalidArgument`` when it is malformed (shape only, not limits)."""
        try:
            return _decode(payload)
        except (struct.error, ValueError) as error:
            raise InvalidArgument("the batch is malformed") from error


@lru_cache(maxsize=512)
def _decode(payload: bytes) -> Batch:
    """Every host decodes every batch; equal bytes are an equal value, and nobody can change it."""
    fields = _HEADER.unpack_from(payload)
    session, sequence, answered_below, epoch, flags, count, conditions_count, positions_count = fields
    if conditions_count not in (0, count) or positions_count not in (0, count) or flags & ~3:
        raise ValueError("columns of different lengths")
    at = _HEADER.size
    kinds = payload[at : at + count]
    at += count
    if len(payload) - at < 8 * count:
        raise ValueError("a column ends early")
    numbers = _columns(count, conditions_count, positions_count)
    columns = numbers.unpack_from(payload, at)
    at += numbers.size
    values_at = at + sum(columns[:count])
    keys = _cut(payload, at, columns[:count])
    values = _cut(payload, values_at, columns[count : 2 * count])
    if values_at + sum(columns[count : 2 * count]) != len(payload):
        raise ValueError("the batch is longer or shorter than it says")
    conditions = columns[2 * count : 2 * count + conditions_count]
    positions = columns[2 * count + conditions_count :]
    opens, atomic = bool(flags & _OPENS_SESSION), bool(flags & _ATOMIC)
    return Batch(session, sequence, answered_below, opens, atomic, epoch, kinds, keys, values, conditions, positions)


@lru_cache(maxsize=256)
def _columns(count: int, conditions: int, positions: int) -> struct.Struct:
    return struct.Struct(f"<{2 * count}I{conditions}Q{positions}I")


def _cut(payload: bytes, at: int, lengths: tuple[int, ...]) -> tuple[bytes, ...]:
    pieces = []
    for length in lengths:
        pieces.append(payload[at : at + length])
        at += length
    return tuple(pieces)
