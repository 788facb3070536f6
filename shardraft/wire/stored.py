"""What a host keeps on its own disk besides log entries and key-value records (``schema/stored.capnp``).

Every value stands in an envelope with a checksum, the version of its format and its kind. All
decoders raise ``StorageError`` with a sentence: damage and a newer format end the process (DESIGN
promise 6; PROTOCOL, "Log, state, snapshots": a newer one is refused in a sentence).
"""

from __future__ import annotations

import struct
from io import BytesIO
from itertools import islice
from typing import Any, Final

import attrs

from shardraft.errors import StorageError
from shardraft.kv.commands import BatchResult
from shardraft.kv.machine import MachineState, SessionRecord
from shardraft.octets.functions import crc32
from shardraft.raft.membership import decode_membership
from shardraft.raft.ready import HardState
from shardraft.shards.keyspace import KeyRange
from shardraft.shards.shard_map import ShardMap
from shardraft.types import Identity
from shardraft.wire.maps import read_shard_map, shard_map_bytes, write_shard_map
from shardraft.wire.schema import (
    MALFORMED,
    load,
    open_message,
    pack_numbers,
    pack_positions,
    unpack_numbers,
    unpack_positions,
)

FORMAT_VERSION: Final = 1

_HARD_STATE: Final = 1
_MACHINE_STATE: Final = 2
_SHARD_MAP: Final = 3
_IDENTITY: Final = 4
_NAMES: Final = {_HARD_STATE: "hard state", _MACHINE_STATE: "machine state", _SHARD_MAP: "map", _IDENTITY: "identity"}

_ENVELOPE: Final = struct.Struct("<IBBH")
_CHECKSUM: Final = struct.Struct("<I")
_UNCHECKED: Final = struct.Struct("<BBH")
_HARD_STATE_BODY: Final = struct.Struct("<BBHQQII")
_HARD_STATE_WHOLE: Final = struct.Struct("<IBBHQQII")
_SESSION: Final = struct.Struct("<16sQQI")
_RESULT: Final = struct.Struct("<QQHHHH")


@attrs.frozen(slots=True)
class _Columns:
    """Sessions as the columns of ``MachineState`` hold them."""

    sessions: bytes
    results: bytes
    outcomes: bytes
    positions: bytes
    found: bytes
    revisions: bytes


def encode_hard_state(hard_state: HardState) -> bytes:
    """A fixed record of 32 bytes, which logs held before they lay in segments (decision 0024)."""
    body = _HARD_STATE_BODY.pack(
        FORMAT_VERSION, _HARD_STATE, 0, hard_state.current_term, hard_state.commit_index, hard_state.voted_for, 0
    )
    return _CHECKSUM.pack(crc32(body)) + body


def decode_hard_state(stored: bytes) -> HardState:
    _check_envelope(stored, _HARD_STATE)
    if len(stored) != _HARD_STATE_WHOLE.size:
        raise _damaged(_HARD_STATE)
    _, _, _, _, current_term, commit_index, voted_for, _ = _HARD_STATE_WHOLE.unpack(stored)
    return HardState(current_term, voted_for, commit_index)


def encode_identity(identity: Identity) -> bytes:
    message = load("stored").Identity.new_message()
    message.clusterId = identity.cluster_id
    message.host = identity.host
    message.incarnation = identity.incarnation
    message.bootNonce = identity.boot_nonce
    return _enclose(_IDENTITY, message.to_bytes())


def decode_identity(stored: bytes) -> Identity:
    body = _open_envelope(stored, _IDENTITY)
    try:
        message = open_message(load("stored").Identity, body)
        return Identity(message.clusterId, message.host, message.incarnation, message.bootNonce)
    except MALFORMED:
        raise _damaged(_IDENTITY) from None


def encode_shard_map(shard_map: ShardMap) -> bytes:
    message = load("common").ShardMap.new_message(shard_map_bytes(shard_map) // 8)
    write_shard_map(message, shard_map)
    return _enclose(_SHARD_MAP, message.to_bytes())


def decode_shard_map(stored: bytes) -> ShardMap:
    body = _open_envelope(stored, _SHARD_MAP)
    try:
        return read_shard_map(open_message(load("common").ShardMap, body))
    except MALFORMED:
        raise _damaged(_SHARD_MAP) from None


def encode_machine_state(state: MachineState) -> bytes:
    """The state with its sessions as columns: 36 bytes a session, 24 and one per operation a remembered result."""
    columns = _session_columns(state.sessions)
    message = load("stored").MachineState.new_message(
        256 + (len(state.membership) + sum(map(len, attrs.astuple(columns)))) // 8
    )
    message.shard = state.shard
    message.start = state.key_range.start
    message.end = state.key_range.end
    message.epoch = state.epoch
    message.lastApplied = state.last_applied
    message.lastAppliedTerm = state.last_applied_term
    message.appliedHash = state.applied_hash
    message.revision = state.revision
    message.timeUs = state.time_us
    message.sessions = columns.sessions
    message.results = columns.results
    message.outcomes = columns.outcomes
    message.positions = columns.positions
    message.foundRevisions = columns.found
    message.revisions = columns.revisions
    message.membership = state.membership
    message.lastReplica = state.last_replica
    return _enclose(_MACHINE_STATE, message.to_bytes())


def decode_machine_state(stored: bytes) -> MachineState:
    body = _open_envelope(stored, _MACHINE_STATE)
    try:
        return _read_machine_state(open_message(load("stored").MachineState, body))
    except MALFORMED:
        raise _damaged(_MACHINE_STATE) from None


def _read_machine_state(message: Any) -> MachineState:
    return MachineState(
        shard=message.shard,
        key_range=KeyRange(message.start, message.end),
        epoch=message.epoch,
        last_applied=message.lastApplied,
        last_applied_term=message.lastAppliedTerm,
        applied_hash=message.appliedHash,
        revision=message.revision,
        time_us=message.timeUs,
        sessions=_read_sessions(message),
        membership=_read_membership(message.membership),
        last_replica=message.lastReplica,
    )


def _read_membership(encoded: bytes) -> bytes:
    """A configuration stays encoded in the state; one that cannot be read is refused here, not when it is needed."""
    if encoded:
        decode_membership(encoded)
    return encoded


def _session_columns(sessions: tuple[SessionRecord, ...]) -> _Columns:
    records: list[bytes] = []
    results: list[bytes] = []
    outcomes: list[bytes] = []
    positions: list[int] = []
    found: list[int] = []
    revisions: list[int] = []
    for record in sessions:
        records.append(_SESSION.pack(record.session, record.last_used_us, record.answered_below, len(record.results)))
        for sequence, its_positions, result in record.results:
            counts = map(len, (result.outcomes, its_positions, result.found_revisions, result.revisions))
            results.append(_RESULT.pack(sequence, result.first_revision, *counts))
            outcomes.append(result.outcomes)
            positions += its_positions
            found += result.found_revisions
            revisions += result.revisions
    return _Columns(
        b"".join(records),
        b"".join(results),
        b"".join(outcomes),
        pack_positions(positions),
        pack_numbers(found),
        pack_numbers(revisions),
    )


def _read_sessions(message: Any) -> tuple[SessionRecord, ...]:
    results = _read_results(message)
    sessions = []
    at = 0
    for session, last_used_us, answered_below, count in _SESSION.iter_unpack(message.sessions):
        sessions.append(SessionRecord(session, last_used_us, answered_below, tuple(results[at : at + count])))
        at += count
    if at != len(results):
        raise ValueError("results without a session")
    return tuple(sessions)


def _read_results(message: Any) -> list[tuple[int, tuple[int, ...], BatchResult]]:
    records = list(_RESULT.iter_unpack(message.results))
    outcomes: bytes = message.outcomes
    positions = unpack_positions(message.positions)
    found = unpack_numbers(message.foundRevisions)
    revisions = unpack_numbers(message.revisions)
    lengths = [len(outcomes), len(positions), len(found), len(revisions)]
    if lengths != [sum(record[column] for record in records) for column in range(2, 6)]:
        raise ValueError("columns of other lengths than the results say")
    each_outcomes = BytesIO(outcomes)
    each_position, each_found, each_revision = iter(positions), iter(found), iter(revisions)
    return [
        (
            sequence,
            tuple(islice(each_position, of_positions)),
            BatchResult(
                first_revision,
                each_outcomes.read(operations),
                tuple(islice(each_found, of_found)),
                tuple(islice(each_revision, of_revisions)),
            ),
        )
        for sequence, first_revision, operations, of_positions, of_found, of_revisions in records
    ]


def _enclose(kind: int, body: bytes) -> bytes:
    checked = _UNCHECKED.pack(FORMAT_VERSION, kind, 0)
    return _CHECKSUM.pack(crc32(body, crc32(checked))) + checked + body


def _open_envelope(stored: bytes, kind: int) -> bytes:
    _check_envelope(stored, kind)
    return stored[_ENVELOPE.size :]


def _check_envelope(stored: bytes, kind: int) -> None:
    if len(stored) < _ENVELOPE.size:
        raise _damaged(kind)
    checksum, version, its_kind, _ = _ENVELOPE.unpack_from(stored)
    if crc32(stored, 0, _CHECKSUM.size) != checksum or its_kind != kind:
        raise _damaged(kind)
    if version != FORMAT_VERSION:
        raise StorageError(
            f"the stored {_NAMES[kind]} has format {version}, this program understands {FORMAT_VERSION}: "
            "start the newer program that wrote it"
        )


def _damaged(kind: int) -> StorageError:
    return StorageError(
        f"the stored {_NAMES[kind]} is damaged (its checksum, kind or contents are wrong): "
        "do not start this host from this directory; give it an empty one and a new host id"
    )
