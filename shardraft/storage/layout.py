"""How keys and records look in the state environment, and what the log shares. Bytes only; knows no files.

State environment::

    meta         b"format", b"identity", b"shard_map", b"runs"
                 b"replica" | shard u32 BE    -> this host's replica of the shard, or its tombstone
    machines     shard u32 BE                     -> ``wire.stored`` machine state
    keys         shard u32 BE | routing key       -> the key's record (``kv.records``)
    run0 ..      the same, empty for a deletion: flushes not merged into ``keys`` yet (``runs``)

Numbers in keys are big-endian, so that bytes sort as numbers do; numbers in records are
little-endian. A *base* is the entry just before the first that the log holds. Every record begins
with a CRC-32, because LMDB does not notice a flipped byte.
"""

from __future__ import annotations

import struct
from typing import Final

from shardraft.errors import StorageError
from shardraft.octets.functions import crc32
from shardraft.types import Index, ReplicaId, Term

FORMAT_VERSION: Final = 1

FORMAT_KEY: Final = b"format"
IDENTITY_KEY: Final = b"identity"
SHARD_MAP_KEY: Final = b"shard_map"
RUNS_KEY: Final = b"runs"
REPLICA_PREFIX: Final = b"replica"

SHARD_KEY: Final = struct.Struct(">I")
ROUTING_KEY_BYTES_MAX: Final = 511 - SHARD_KEY.size
"""LMDB keys are 1 to 511 bytes; our longest routing key has 482 by default, so the prefix fits."""

_CHECKSUM: Final = struct.Struct("<I")

# checksum u32 | format u8 | kind u8 | reserved u16 | ..., the envelope of wire.stored with kinds of its own.
_BASE_KIND: Final = 16
_FORMAT_KIND: Final = 17
_RUNS_KIND: Final = 18
_REPLICA_KIND: Final = 19
_BASE_BODY: Final = struct.Struct("<BBHQQ")
_BASE: Final = struct.Struct("<IBBHQQ")
_FORMAT_BODY: Final = struct.Struct("<BBH8s")
_FORMAT: Final = struct.Struct("<IBBH8s")
FORMAT_BYTES: Final = _FORMAT.size
_RUNS_HEAD: Final = struct.Struct("<BBH")
_RUNS_AT: Final = _CHECKSUM.size + _RUNS_HEAD.size
_RUNS_FIELD_BYTES: Final = 8
"""The numbers of up to eight runs are filled up to eight; more follow as they are."""
_MORE_RUNS: Final = 2
"""The format of a list with runs that a program of format 1 knows nothing of, so that it says so."""
_REPLICA_BODY: Final = struct.Struct("<BBHI")
_REPLICA: Final = struct.Struct("<IBBHI")

shard_key = SHARD_KEY.pack


def encode_base(index: Index, term: Term) -> bytes:
    """Where a log was cut: the index just before its first entry, and the term there."""
    body = _BASE_BODY.pack(FORMAT_VERSION, _BASE_KIND, 0, index, term)
    return _CHECKSUM.pack(crc32(body)) + body


def decode_base(record: bytes) -> tuple[Index, Term]:
    """The index and term of ``encode_base``; raises ``StorageError``."""
    _check(record, _BASE.size, _BASE_KIND, "start of a log")
    _, _, _, _, index, term = _BASE.unpack(record)
    return index, term


def encode_format(purpose: bytes) -> bytes:
    """What stands first in an environment; ``purpose`` is b"log" or b"state"."""
    body = _FORMAT_BODY.pack(FORMAT_VERSION, _FORMAT_KIND, 0, purpose)
    return _CHECKSUM.pack(crc32(body)) + body


def check_format(record: bytes, purpose: bytes) -> None:
    """Raises ``StorageError`` unless an environment is of this format and purpose."""
    _check(record, _FORMAT.size, _FORMAT_KIND, "format record")
    found = _FORMAT.unpack(record)[4].rstrip(b"\0")
    if found != purpose:
        raise StorageError(
            f"this is the {found.decode('ascii', 'replace')!r} environment where {purpose.decode()!r} belongs: "
            "put each back in its own place"
        )


def encode_runs(runs: tuple[int, ...]) -> bytes:
    """Which runs hold flushed records, the newest first (``storage.runs``)."""
    version = FORMAT_VERSION if max(runs, default=0) < _RUNS_FIELD_BYTES else _MORE_RUNS
    body = _RUNS_HEAD.pack(version, _RUNS_KIND, len(runs)) + bytes(runs).ljust(_RUNS_FIELD_BYTES, b"\0")
    return _CHECKSUM.pack(crc32(body)) + body


def decode_runs(record: bytes | None) -> tuple[int, ...]:
    """The runs of ``encode_runs``, none before the first flush; raises ``StorageError``."""
    if record is None:
        return ()
    count = int.from_bytes(record[6:_RUNS_AT], "little")
    _check(record, _RUNS_AT + max(count, _RUNS_FIELD_BYTES), _RUNS_KIND, "list of runs", _MORE_RUNS)
    return tuple(record[_RUNS_AT : _RUNS_AT + count])


def encode_replica(replica: ReplicaId, *, is_removed: bool) -> bytes:
    """The number of this host's replica of a shard; ``is_removed`` makes it a tombstone."""
    body = _REPLICA_BODY.pack(FORMAT_VERSION, _REPLICA_KIND, is_removed, replica)
    return _CHECKSUM.pack(crc32(body)) + body


def decode_replica(record: bytes) -> tuple[ReplicaId, bool]:
    """The number of ``encode_replica``, and whether it is removed; raises ``StorageError``."""
    _check(record, _REPLICA.size, _REPLICA_KIND, "number of a replica")
    _, _, _, is_removed, replica = _REPLICA.unpack(record)
    return replica, bool(is_removed)


def _check(record: bytes, size: int, kind: int, name: str, version_max: int = FORMAT_VERSION) -> None:
    if len(record) < 8 or crc32(record[4:]) != _CHECKSUM.unpack_from(record)[0] or record[5] != kind:
        raise StorageError(f"the stored {name} is damaged: do not start this host from it; give it a new id and disk")
    if not FORMAT_VERSION <= record[4] <= version_max:
        raise StorageError(
            f"the stored {name} has format {record[4]}, this program understands {version_max}: "
            "start the newer program that wrote it"
        )
    if len(record) != size:
        raise StorageError(f"the stored {name} is damaged: do not start this host from it; give it a new id and disk")
