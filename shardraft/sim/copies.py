"""A snapshot of one shard as self-checking chunks, and back."""

from __future__ import annotations

import marshal
import struct
import zlib
from typing import Any, Final

from shardraft.errors import CopyRefused
from shardraft.kv.commands import BatchResult, Stored
from shardraft.kv.machine import MachineState, SessionRecord
from shardraft.shards.keyspace import KeyRange
from shardraft.types import Index, ShardId, Term

_HEADER: Final = struct.Struct("<IIII")
"""CRC-32 of the rest, the chunk's number, how many there are, CRC-32 of the whole."""

_MARSHAL_VERSION: Final = 2
"""Later versions share equal objects by identity, and the bytes would depend on how values came to be."""


def encode_copy(state: MachineState, items: dict[bytes, Stored], chunk_bytes: int) -> list[bytes]:
    """The chunks of a snapshot, keys in ascending order; equal snapshots have equal chunks."""
    sessions = tuple(
        (record.session, record.last_used_us, record.answered_below, _results_to_tuples(record))
        for record in state.sessions
    )
    fields = (
        state.shard,
        state.key_range.start,
        state.key_range.end,
        state.epoch,
        state.last_applied,
        state.last_applied_term,
        state.applied_hash,
        state.revision,
        state.time_us,
        state.membership,
        state.last_replica,
    )
    ordered = tuple((key, items[key].revision, items[key].value) for key in sorted(items))
    whole = marshal.dumps((fields, sessions, ordered), _MARSHAL_VERSION)
    pieces = [whole[at : at + chunk_bytes] for at in range(0, len(whole), chunk_bytes)]
    whole_checksum = zlib.crc32(whole)
    return [_chunk(number, len(pieces), whole_checksum, piece) for number, piece in enumerate(pieces)]


def _results_to_tuples(record: SessionRecord) -> tuple[Any, ...]:
    return tuple(
        (
            sequence,
            tuple(positions),
            result.first_revision,
            result.outcomes,
            tuple(result.found_revisions),
            tuple(result.revisions),
        )
        for sequence, positions, result in record.results
    )


def _chunk(number: int, count: int, whole_checksum: int, piece: bytes) -> bytes:
    rest = _HEADER.pack(0, number, count, whole_checksum)[4:] + piece
    return zlib.crc32(rest).to_bytes(4, "little") + rest


class StagedCopy:
    """The chunks of one snapshot received so far, in order."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._count = 0
        self._whole_checksum = 0

    def add(self, number: int, data: bytes) -> None:
        """Take the next chunk; raises ``CopyRefused`` when it is damaged or not the next of the same snapshot."""
        if len(data) < _HEADER.size or zlib.crc32(memoryview(data)[4:]) != int.from_bytes(data[:4], "little"):
            raise CopyRefused(f"chunk {number} of a copy is damaged")
        _, its_number, count, whole_checksum = _HEADER.unpack_from(data)
        if not self._pieces:
            self._count, self._whole_checksum = count, whole_checksum
        if its_number != number or number != len(self._pieces):
            raise CopyRefused(f"chunk {its_number} of a copy came where chunk {len(self._pieces)} was due")
        if (count, whole_checksum) != (self._count, self._whole_checksum):
            raise CopyRefused(f"chunk {number} belongs to another copy than those before it")
        self._pieces.append(data[_HEADER.size :])

    def complete_at(self, shard: ShardId, index: Index, term: Term) -> tuple[MachineState, dict[bytes, Stored]]:
        """The snapshot; raises ``CopyRefused`` unless all chunks are there and are that shard's state at that entry."""
        whole = b"".join(self._pieces)
        if not self._pieces or len(self._pieces) != self._count or zlib.crc32(whole) != self._whole_checksum:
            raise CopyRefused(f"{len(self._pieces)} chunks of {self._count} are no whole copy")
        fields, sessions, items = marshal.loads(whole)
        state = _state(fields, sessions)
        if (state.shard, state.last_applied, state.last_applied_term) != (shard, index, term):
            raise CopyRefused(f"a copy is of shard {state.shard} at {state.last_applied}, not what was announced")
        return state, {key: Stored(revision, value) for key, revision, value in items}


def _state(fields: tuple[Any, ...], sessions: tuple[Any, ...]) -> MachineState:
    shard, start, end, epoch, last_applied, last_applied_term, applied_hash, revision, time_us, *members = fields
    membership, last_replica = members
    return MachineState(
        shard=shard,
        key_range=KeyRange(start, end),
        epoch=epoch,
        last_applied=last_applied,
        last_applied_term=last_applied_term,
        applied_hash=applied_hash,
        revision=revision,
        time_us=time_us,
        sessions=tuple(
            SessionRecord(session, used_us, below, tuple((seq, at, BatchResult(*result)) for seq, at, *result in kept))
            for session, used_us, below, kept in sessions
        ),
        membership=membership,
        last_replica=last_replica,
    )
