"""Copies of a shard's state (snapshots) as files: spooled chunk by chunk, staged chunk by chunk.

A chunk is what travels and what lies in a file, little-endian::

    checksum u32 | format u8 | kind u8 | reserved u16 | number u32 | payload

    kind 32, the manifest, always number 0:
        shard u32 | chunks u32 | keys u64 | digest u32 | state_bytes u32 | machine state (``wire.stored``)
    kind 33, records, numbers 1 to ``chunks`` - 1:
        (key_bytes u16 | record_bytes u32 | routing key | record) ... , ascending by routing key

The checksum is CRC-32 over everything after it; ``digest`` is CRC-32 over the checksums of all record chunks in
order, so that chunks of two copies are never mixed. A record is whole in one chunk and is exactly what
lies in the state environment (``kv.records``), with its own checksum.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

from shardraft.errors import CopyRefused, StorageError
from shardraft.kv.machine import MachineState
from shardraft.kv.records import HEADER_BYTES as RECORD_HEADER_BYTES
from shardraft.octets.functions import crc32
from shardraft.storage.layout import ROUTING_KEY_BYTES_MAX
from shardraft.wire.stored import decode_machine_state, encode_machine_state

FORMAT_VERSION: Final = 1
_MANIFEST_KIND: Final = 32
_RECORDS_KIND: Final = 33

_CHECKSUM: Final = struct.Struct("<I")
_CHECKED: Final = struct.Struct("<BBHI")
_HEADER: Final = struct.Struct("<IBBHI")
_MANIFEST: Final = struct.Struct("<IIQII")
_RECORD: Final = struct.Struct("<HI")

Record = tuple[bytes, bytes]


@attrs.frozen(slots=True)
class Manifest:
    """What chunk 0 says of a copy. ``chunks`` counts chunk 0 as well."""

    state: MachineState
    chunks: int
    keys: int
    digest: int


def encode_manifest(manifest: Manifest) -> bytes:
    state = encode_machine_state(manifest.state)
    fields = _MANIFEST.pack(manifest.state.shard, manifest.chunks, manifest.keys, manifest.digest, len(state))
    return _enclose(_MANIFEST_KIND, 0, fields + state)


def decode_manifest(chunk: bytes) -> Manifest:
    """Chunk 0 of a copy. Raises ``CopyRefused``."""
    payload = _open(chunk, _MANIFEST_KIND, 0)
    if len(payload) < _MANIFEST.size:
        raise CopyRefused("the manifest of a copy is too short")
    shard, chunks, keys, digest, state_bytes = _MANIFEST.unpack_from(payload)
    stored = payload[_MANIFEST.size :]
    if len(stored) != state_bytes or chunks < 1:
        raise CopyRefused("the manifest of a copy has another length than it says")
    try:
        state = decode_machine_state(stored)
    except StorageError as error:
        raise CopyRefused(f"the manifest of a copy cannot be read: {error}") from error
    if state.shard != shard:
        raise CopyRefused("the manifest of a copy names two shards")
    return Manifest(state, chunks, keys, digest)


def encode_records(records: Iterable[Record], chunk_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Chunks 1 and up of a copy, each with the number of its records; a chunk ends once it has ``chunk_bytes``."""
    parts: list[bytes] = []
    size = count = 0
    number = 1
    for key, record in records:
        parts += (_RECORD.pack(len(key), len(record)), key, record)
        size += _RECORD.size + len(key) + len(record)
        count += 1
        if size >= chunk_bytes:
            yield _enclose(_RECORDS_KIND, number, b"".join(parts)), count
            number += 1
            size = count = 0
            parts = []
    if parts:
        yield _enclose(_RECORDS_KIND, number, b"".join(parts)), count


def decode_records(chunk: bytes, number: int) -> list[Record]:
    """The routing keys and records of chunk ``number``. Raises ``CopyRefused``."""
    payload = _open(chunk, _RECORDS_KIND, number)
    records = []
    at, end = 0, len(payload)
    while at < end:
        if end - at < _RECORD.size:
            raise CopyRefused(f"chunk {number} of a copy ends within a record")
        key_bytes, record_bytes = _RECORD.unpack_from(payload, at)
        middle = at + _RECORD.size + key_bytes
        at = middle + record_bytes
        if at > end or not 0 < key_bytes <= ROUTING_KEY_BYTES_MAX or record_bytes < RECORD_HEADER_BYTES:
            raise CopyRefused(f"chunk {number} of a copy holds a record of impossible length")
        records.append((payload[middle - key_bytes : middle], payload[middle:at]))
    return records


def chunk_checksum(chunk: bytes) -> int:
    checksum: int = _CHECKSUM.unpack_from(chunk)[0]
    return checksum


def add_to_digest(digest: int, chunk: bytes) -> int:
    """The digest of a copy whose record chunks so far have ``digest``, with one more."""
    return crc32(chunk[: _CHECKSUM.size], digest)


def check_chunk(chunk: bytes, number: int) -> None:
    """Raises ``CopyRefused`` unless this is, undamaged, a chunk of that number."""
    _open(chunk, _RECORDS_KIND if number else _MANIFEST_KIND, number)


def _enclose(kind: int, number: int, payload: bytes) -> bytes:
    checked = _CHECKED.pack(FORMAT_VERSION, kind, 0, number)
    return _CHECKSUM.pack(crc32(payload, crc32(checked))) + checked + payload


def _open(chunk: bytes, kind: int, number: int) -> bytes:
    if len(chunk) < _HEADER.size or crc32(chunk, 0, _CHECKSUM.size) != chunk_checksum(chunk):
        raise CopyRefused(f"chunk {number} of a copy is damaged: its checksum does not match")
    _, version, its_kind, _, its_number = _HEADER.unpack_from(chunk)
    if version != FORMAT_VERSION:
        raise CopyRefused(
            f"a copy has format {version}, this program understands {FORMAT_VERSION}: "
            "update this host, or have a host of this version send the copy"
        )
    if its_kind != kind or its_number != number:
        raise CopyRefused(f"chunk {its_number} of a copy came where chunk {number} belongs")
    return chunk[_HEADER.size :]


class ChunkFile:
    """Chunks of one copy in a file, each written once, readable by number. Not synced: it does not outlive the process.

    Reading (``pread``) may happen on another thread than writing.
    """

    def __init__(self, path: Path) -> None:
        """Make the file, empty. Raises ``StorageError``."""
        self.path = path
        self._places: dict[int, tuple[int, int]] = {}
        self._size = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be made ({error.strerror}): check the disk and its free space"
            ) from error

    def __len__(self) -> int:
        return len(self._places)

    def write(self, number: int, chunk: bytes) -> None:
        try:
            view = memoryview(chunk)
            at = self._size
            while view:
                written = os.pwrite(self._file, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written ({error.strerror}): make room and start the host again"
            ) from error
        self._places[number] = (self._size, len(chunk))
        self._size += len(chunk)

    def read(self, number: int) -> bytes:
        """The chunk as it was written. Raises ``StorageError`` when there is none of that number."""
        if number not in self._places:
            raise StorageError(f"{self.path} has no chunk {number}")
        offset, size = self._places[number]
        try:
            return os.pread(self._file, size, offset)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be read ({error.strerror}): check the disk") from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._file)
