"""Reads the log at start: every block of every segment is verified, and what a crash left over is told apart.

What may be found after a crash, and nothing else:

- Last blocks of the newest segment that were not written whole, or whose predecessor was not. Several may have been
  under way, and each says how many were before it, so a block of which a later one says that it was durable was never
  torn (decision 0029). Nobody was told of the others. A segment is zeros before it is written and disks write sectors
  whole, so a torn block misses a sector, which is zeros, or its end. A block that misses nothing and does not match
  its checksum was written and then damaged; it may have been acknowledged (as etcd tells them apart,
  ``wal/decoder.go``).
- A newest segment without its first block: it was made and nothing was written to it.
- A segment before the newest without a seal, or with a torn one: it is sealed once the newest is durable.
- Segments that a block calls gone.

Everything else is damage, and a host does not start from it.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Final

import attrs

from shardraft.errors import StorageError
from shardraft.raft.entry import FORMAT_VERSION, EntryError, decode_entry
from shardraft.raft.entry import HEADER as ENTRY_HEADER
from shardraft.storage.blocks import (
    BLOCK_EXTRA_BYTES,
    BLOCK_HEADER_BYTES,
    SEAL_BYTES,
    BlockHeader,
    ItemKind,
    items,
    read_body,
    read_header,
    shows_durable,
)
from shardraft.storage.inspection import REPLACE_HOST
from shardraft.storage.segment import segment_numbers, segment_path
from shardraft.storage.shard_logs import ShardLogs
from shardraft.types import Index, ShardId

SECTOR_BYTES: Final = 512
"""What a disk writes whole, at least; those that write more at a time lose more at a time."""
_NUMBER: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<16sIII")
_ZEROS: Final = bytes(SECTOR_BYTES)


@attrs.frozen(slots=True)
class SegmentHead:
    """What the first block of a segment says of the segments."""

    cluster_id: bytes
    host: int
    segment_bytes: int
    blocks_before: int
    """How many blocks the segment before this one had when this one was made."""
    present: tuple[int, ...]


def encode_head(head: SegmentHead) -> bytes:
    fixed = _HEAD.pack(head.cluster_id, head.host, head.segment_bytes, head.blocks_before)
    return fixed + struct.pack(f"<{len(head.present)}I", *head.present)


def _decode_head(content: bytes) -> SegmentHead:
    present = struct.unpack_from(f"<{(len(content) - _HEAD.size) // 4}I", content, _HEAD.size)
    cluster_id, host, segment_bytes, blocks_before = _HEAD.unpack_from(content)
    return SegmentHead(cluster_id, host, segment_bytes, blocks_before, present)


@attrs.frozen(slots=True)
class FoundSegment:
    """A segment whose blocks were all verified: they end at ``end``.

    Those from ``last_begin`` on are not known to have been durable, the last one among them. ``torn_end`` is where the
    remains of torn blocks end, or ``end``.
    """

    number: int
    path: Path
    end: int
    last_begin: int
    blocks: int
    torn_end: int
    is_sealed: bool


@attrs.frozen(slots=True)
class FoundLog:
    """The segments that are there, ascending, and the logs in them; ``leftovers`` are files that may be deleted."""

    segments: tuple[FoundSegment, ...]
    logs: ShardLogs
    leftovers: tuple[Path, ...]


def read_log(directory: Path, cluster_id: bytes, host: int) -> FoundLog:
    """Read all of a log. Writes nothing. Raises ``StorageError``, and ``OSError`` when the disk does not answer."""
    numbers = segment_numbers(directory)
    leftovers: list[Path] = []
    if len(numbers) > 1 and not _has_head(segment_path(directory, numbers[-1])):
        leftovers.append(segment_path(directory, numbers.pop()))
    if not numbers:
        raise StorageError(f"{directory} holds no segment of a log, its contents were lost: {REPLACE_HOST}")
    # The newest says which others belong to the log, so it is read twice: what is left of the others need not be whole.
    newest = _SegmentReader(directory, numbers[-1], ShardLogs(), newest=numbers[-1])
    newest.read()
    present = _check_present(directory, newest, numbers)
    _check_owner(directory, newest.head, cluster_id, host)
    logs = ShardLogs()
    readers = [_SegmentReader(directory, number, logs, newest=newest.number) for number in present]
    for reader in readers:
        reader.read()
    _check_blocks(readers)
    _check_whole(directory, logs)
    logs.hold_what_is_there()
    leftovers += [segment_path(directory, number) for number in numbers if number not in present]
    return FoundLog(tuple(reader.found() for reader in readers), logs, tuple(leftovers))


def _has_head(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(BLOCK_HEADER_BYTES)
        header = _header_at(path, start, 0, 0)
        rest = header.body_bytes + BLOCK_EXTRA_BYTES - BLOCK_HEADER_BYTES if header is not None else 0
        return header is not None and read_body(start + file.read(rest), 0, header) is not None


def _header_at(path: Path, content: bytes, at: int, number: int) -> BlockHeader | None:
    try:
        return read_header(content, at)
    except StorageError as error:
        raise StorageError(f"{path}, block {number}: {error}") from None


def _check_present(directory: Path, newest: _SegmentReader, numbers: list[int]) -> list[int]:
    """The segments that belong to the log, ascending, by what its newest one says."""
    present = {*newest.head.present, newest.number} - newest.gone
    if newest.following is not None:
        present.add(newest.following)
    for missing in sorted(present - {*numbers}):
        path = segment_path(directory, missing)
        what = "has lost its first block" if path.exists() else "is missing"
        raise StorageError(f"{path} {what}, the log of this host needs it: {REPLACE_HOST}")
    return sorted(present)


def _check_blocks(readers: list[_SegmentReader]) -> None:
    for before, reader in pairwise(readers):
        if before.number == reader.number - 1 and before.blocks - before.is_sealed != reader.head.blocks_before:
            raise StorageError(
                f"{before.path} has {before.blocks} blocks and had {reader.head.blocks_before}: {REPLACE_HOST}"
            )


def _check_owner(directory: Path, head: SegmentHead, cluster_id: bytes, host: int) -> None:
    if (head.cluster_id, head.host) != (cluster_id, host):
        raise StorageError(
            f"{directory} holds segments of host {head.host} of cluster {head.cluster_id.hex()}, but belongs to host "
            f"{host} of cluster {cluster_id.hex()}: put back the directory that belongs here"
        )


def _check_whole(directory: Path, logs: ShardLogs) -> None:
    """Only now: while segments are read, what the blocks of deleted ones said is not known yet."""
    for shard, log in sorted(logs.logs.items()):
        before = log.base_term
        for index, (position, term) in enumerate(zip(log.positions, log.terms, strict=True), log.base + 1):
            where = f"{directory}: the entry of shard {shard} at {index}"
            if not position:
                raise StorageError(f"{where} is missing: {REPLACE_HOST}")
            if term < before:
                raise StorageError(f"{where} has a lower term than the one before: {REPLACE_HOST}")
            before = term


class _SegmentReader:
    """Takes the blocks of one segment in order."""

    def __init__(self, directory: Path, number: int, logs: ShardLogs, *, newest: int) -> None:
        self.path = segment_path(directory, number)
        self.number = number
        self._logs = logs
        self._newest = newest
        self._content = b""
        self._end = 0
        self._begins: list[int] = []
        self._last_under_way = 0
        self._torn_end = 0
        self.blocks = 0
        self.gone: set[int] = set()
        self.following: int | None = None
        self.head = SegmentHead(b"", 0, 0, 0, ())

    @property
    def is_sealed(self) -> bool:
        return self.following is not None

    def found(self) -> FoundSegment:
        return FoundSegment(
            self.number, self.path, self._end, self._last_begin, self.blocks, self._torn_end, self.is_sealed
        )

    @property
    def _last_begin(self) -> int:
        return self._begins[max(0, self.blocks - 1 - self._last_under_way)] if self._begins else 0

    def read(self) -> None:
        self._content = self.path.read_bytes()
        if not self._content:
            raise StorageError(f"{self.path} is empty (0 bytes), its contents were lost: {REPLACE_HOST}")
        while not self.is_sealed and (block := self._next_block()) is not None:
            self._take(*block)
        self._torn_end = self._end
        if not self.blocks:
            raise self._damaged("its first block is damaged or missing")
        if len(self._content) != self.head.segment_bytes:
            raise StorageError(
                f"{self.path} was truncated to {len(self._content)} bytes of {self.head.segment_bytes}: {REPLACE_HOST}"
            )
        rest = self._content[self._end :].rstrip(b"\0")
        if rest:
            self._torn_end = self._end + len(rest)
            self._check_torn(rest)
        self._content = b""

    def _next_block(self) -> tuple[BlockHeader, bytes] | None:
        header = _header_at(self.path, self._content, self._end, self.blocks)
        if header is None or (header.segment, header.number) != (self.number, self.blocks):
            return None
        body = read_body(self._content, self._end, header)
        return None if body is None else (header, body)

    def _take(self, header: BlockHeader, body: bytes) -> None:
        standing: set[ShardId] = set()
        for kind, start, end in items(body):
            if kind in (ItemKind.ENTRY, ItemKind.MOVED_ENTRY):
                self._verify_entry(body[start:end])
            elif kind == ItemKind.HEAD:
                self.head = _decode_head(body[start:end])
            elif kind == ItemKind.STANDING:
                standing.add(_NUMBER.unpack_from(body, start)[0])
            elif kind == ItemKind.GONE:
                self.gone.add(_NUMBER.unpack_from(body, start)[0])
            elif kind == ItemKind.SEAL:
                self.following = _NUMBER.unpack_from(body, start)[0]
        if self.blocks == 0:
            self._logs.forget_absent(standing)
        try:
            self._logs.take(self.number, self._end + BLOCK_HEADER_BYTES, body)
        except StorageError as error:
            raise StorageError(f"{self.path}, block {self.blocks}: {error}") from error
        self._begins.append(self._end)
        self._last_under_way = header.under_way
        self._end += len(body) + BLOCK_EXTRA_BYTES
        self.blocks += 1

    def _verify_entry(self, encoded: bytes) -> None:
        shard, _, index = ENTRY_HEADER.unpack_from(encoded)[4:7]
        verify_entry(self.path, shard, index, encoded)

    def _check_torn(self, rest: bytes) -> None:
        """Raises ``StorageError`` unless ``rest``, which follows the last whole block, is one that a crash tore."""
        if self.is_sealed or self.number < self._newest - 1:
            raise self._damaged("and it was whole when the next segment was begun")
        if self.number < self._newest and len(rest) > SEAL_BYTES:
            raise self._damaged("where nothing but a seal may be missing")
        header = read_header(self._content, self._end)
        if header is None:
            misses = len(rest) < BLOCK_HEADER_BYTES or self._misses_a_sector(self._end + BLOCK_HEADER_BYTES)
        else:
            block_end = self._end + BLOCK_EXTRA_BYTES + header.body_bytes
            misses_its_end = not self._content[block_end - 1 : block_end].strip(b"\0")  # No block ends with a zero.
            misses = misses_its_end or self._misses_a_sector(block_end)
        if not misses or shows_durable(self._content, self._end, self.number, self.blocks):
            raise self._damaged("and no crash leaves it so")

    def _misses_a_sector(self, end: int) -> bool:
        """Whether some sector of what lies between the last block and ``end`` was never written."""
        at = self._end
        while at < end:
            sector_end = (at // SECTOR_BYTES + 1) * SECTOR_BYTES
            if self._content[at : min(sector_end, end)] == _ZEROS[: min(sector_end, end) - at]:
                return True
            at = sector_end
        return False

    def _damaged(self, why: str) -> StorageError:
        return StorageError(f"{self.path} is damaged at {self._end} (block {self.blocks}), {why}: {REPLACE_HOST}")


def verify_entry(path: Path, shard: ShardId, index: Index, encoded: bytes) -> None:
    """Raises ``StorageError`` unless these are the bytes of that entry."""
    where = f"{path}: the entry of shard {shard} at {index}"
    try:
        entry = decode_entry(encoded, shard)
    except EntryError as error:
        is_newer = encoded[4:5] > bytes([FORMAT_VERSION]) and "newer" in str(error)
        advice = "start the newer program that wrote it" if is_newer else REPLACE_HOST
        raise StorageError(f"{where}: {error}; {advice}") from error
    if entry.index != index:
        raise StorageError(f"{where} says that its index is {entry.index}: {REPLACE_HOST}")
