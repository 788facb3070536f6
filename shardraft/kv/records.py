"""A key's record: its value as it lies in the write buffer, in the store and in copies.

A record is made once, where its operation is applied, and nobody makes it again: a flush gives these
very bytes to the disk, and a copy passes them on. Little-endian::

    checksum u32 | revision u64 | value

The checksum is CRC-32 over routing key, revision and value, so that a flipped byte is noticed, and a
value found under another key as well. Those of a whole batch are made by ``octets.put_records``.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from shardraft.errors import StorageError
from shardraft.kv.commands import Stored
from shardraft.octets.functions import crc32, open_record
from shardraft.octets.layouts import RECORD_HEADER_BYTES
from shardraft.types import Revision

Record: TypeAlias = bytes

_HEADER: Final = struct.Struct("<IQ")
_CHECKSUM: Final = struct.Struct("<I")
_REVISION: Final = struct.Struct("<Q")
HEADER_BYTES: Final = RECORD_HEADER_BYTES
assert _HEADER.size == HEADER_BYTES


def encode_record(key: bytes, stored: Stored) -> Record:
    """The record of one routing key."""
    checksum = crc32(stored.value, crc32(_REVISION.pack(stored.revision), crc32(key)))
    return _HEADER.pack(checksum, stored.revision) + stored.value


def revision_in(record: Record) -> Revision:
    """The revision in a record that this process made or checked."""
    revision: Revision = _HEADER.unpack_from(record)[1]
    return revision


def stored_in(record: Record) -> Stored:
    """What a record says that this process made or checked: memory is trusted, disks are not."""
    return Stored(_HEADER.unpack_from(record)[1], record[HEADER_BYTES:])


def decode_record(key: bytes, record: bytes) -> Stored:
    """The value of a routing key. Raises ``StorageError`` when a byte of it, or of its key, was changed."""
    opened = open_record(key, record)
    if opened is None:
        raise _damaged(key)
    revision, value = opened
    return Stored(revision, value)


def check_record(key: bytes, record: bytes) -> None:
    """Raises ``StorageError`` when ``decode_record`` would; for who passes the record on as it is."""
    if len(record) < HEADER_BYTES or crc32(record, crc32(key), _CHECKSUM.size) != _CHECKSUM.unpack_from(record)[0]:
        raise _damaged(key)


def _damaged(key: bytes) -> StorageError:
    return StorageError(
        f"the stored value of key {key[:64]!r} is damaged (its checksum does not match): the disk changed it; "
        "replace this host under a new id and check the disk"
    )
