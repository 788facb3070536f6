"""How a commit lies in the log: one block of items, written and synced at once. Bytes only; knows no files.

Everything is little-endian. A block::

    0xB1 u8 | format u8 | under_way u16 | segment u32 | number u32 | body_bytes u32 | checksum u32
    | body | body_checksum u32 | 0xE1 u8

The first checksum is CRC-32 over the header before it, so that the length of a block can be trusted when its body
cannot. No block begins or ends with a zero, which is what was not written yet. ``number`` counts the blocks of a
segment from 0, and ``under_way`` how many right before this one were not known to be durable when it was made (decision
0029; 0 before there was that). The body is a sequence of items, each::

    kind u8 | 0 u8 | 0 u16 | content_bytes u32 | content

    1 entry        the encoded entry (``raft.entry``), which follows the log of its shard
    2 hard state   shard u32 | voted_for u32 | current_term u64 | commit_index u64
    3 truncation   shard u32 | index u64: the entries from there are gone
    4 base         shard u32 | base record (``layout``): the entries up to there are gone
    5 reset        shard u32 | base record: all entries are gone, the next one follows it
    6 removal      shard u32: nothing is known of the shard any more
    7 moved entry  an entry that the log has, from now on here
    8 gone         segment u32: nothing in it is needed any more
    9 seal         segment u32: the next segment; nothing follows here
    16 head        cluster id 16 bytes | host u32 | segment_bytes u32 | blocks of the segment before u32
                   | segments that are there, u32 each
    17 standing    shard u32 | last u64 | base record: of each shard that has a log when a segment begins

The first block of a segment is its head: one item 16, and for each shard an item 17 and one of kind 2. So no earlier
segment is needed but for the entries in it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import attrs

from shardraft.errors import StorageError
from shardraft.octets.functions import crc32

FORMAT_VERSION: Final = 1
_BEGIN: Final = 0xB1
_END: Final = 0xE1
_CHECKED_HEADER: Final = struct.Struct("<BBHIII")
_CHECKSUM: Final = struct.Struct("<I")
_TRAILER: Final = struct.Struct("<IB")
_ITEM: Final = struct.Struct("<BBHI")
BLOCK_HEADER_BYTES: Final = _CHECKED_HEADER.size + _CHECKSUM.size
BLOCK_EXTRA_BYTES: Final = BLOCK_HEADER_BYTES + _TRAILER.size
"""What a block has besides its body."""
ITEM_HEADER_BYTES: Final = _ITEM.size
BODY_BYTES_MAX: Final = 1 << 30
"""A turn's batch is much smaller: what the shards of a host may have waiting is limited. More is a caller's bug."""


class ItemKind(IntEnum):
    """What an item says. Numbers are never reused; a kind that is not known is a newer program's."""

    ENTRY = 1
    HARD_STATE = 2
    TRUNCATION = 3
    BASE = 4
    RESET = 5
    REMOVAL = 6
    MOVED_ENTRY = 7
    GONE = 8
    SEAL = 9
    HEAD = 16
    STANDING = 17


SEAL_BYTES: Final = BLOCK_EXTRA_BYTES + ITEM_HEADER_BYTES + 4
"""The last block of a segment, for which room is kept."""


class Block:
    """A block that is being made: items in the order in which they take effect."""

    __slots__ = ("_parts", "block_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.block_bytes = BLOCK_EXTRA_BYTES

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, kind: int, content: bytes) -> None:
        self._parts.append(_ITEM.pack(kind, 0, 0, len(content)))
        self._parts.append(content)
        self.block_bytes += ITEM_HEADER_BYTES + len(content)

    def encode(self, segment: int, number: int, under_way: int = 0) -> tuple[bytes, bytes, bytes]:
        """Header, body, and what stands behind it."""
        body = b"".join(self._parts)
        assert len(body) <= BODY_BYTES_MAX, "a commit is no larger than what may wait"
        checked = _CHECKED_HEADER.pack(_BEGIN, FORMAT_VERSION, under_way, segment, number, len(body))
        return checked + _CHECKSUM.pack(crc32(checked)), body, _TRAILER.pack(crc32(body), _END)


@attrs.frozen(slots=True)
class BlockHeader:
    """What stands before a body."""

    segment: int
    number: int
    body_bytes: int
    under_way: int


def read_header(content: bytes, at: int) -> BlockHeader | None:
    """The header at ``at``; None where none is, or a damaged one. Raises ``StorageError`` for a newer format."""
    if at + BLOCK_HEADER_BYTES > len(content):
        return None
    begin, version, under_way, segment, number, body_bytes = _CHECKED_HEADER.unpack_from(content, at)
    checksum_at = at + _CHECKED_HEADER.size
    if begin != _BEGIN or crc32(content[at:checksum_at]) != _CHECKSUM.unpack_from(content, checksum_at)[0]:
        return None
    if version != FORMAT_VERSION:
        raise StorageError(
            f"a block has format {version}, this program understands {FORMAT_VERSION}: "
            "start the newer program that wrote it"
        )
    return BlockHeader(segment, number, body_bytes, under_way)


def read_body(content: bytes, at: int, header: BlockHeader) -> bytes | None:
    """The body behind the header at ``at``; None when it is not whole, or damaged."""
    begin = at + BLOCK_HEADER_BYTES
    end = begin + header.body_bytes
    if end + _TRAILER.size > len(content):
        return None
    body = content[begin:end]
    return body if (crc32(body), _END) == _TRAILER.unpack_from(content, end) else None


def shows_durable(content: bytes, at: int, segment: int, number: int) -> bool:
    """Whether a header behind shows that block ``number`` of ``segment``, which begins at ``at``, was durable then.

    As long as headers are whole each says where the next one is. Behind one that is not it is searched for, and what
    entries hold is taken for one if it looks like it.
    """

    def shows(header: BlockHeader) -> bool:
        return header.segment == segment and header.number - header.under_way > number

    number_max = number + (len(content) - at) // BLOCK_EXTRA_BYTES
    found = read_header(content, at)
    while found is not None and found.segment == segment:
        if shows(found):
            return True
        at += BLOCK_EXTRA_BYTES + found.body_bytes
        found = read_header(content, at)
    begin = bytes((_BEGIN, FORMAT_VERSION))
    while (at := content.find(begin, at)) >= 0:
        found = read_header(content, at)
        if found is not None and found.number <= number_max and shows(found):
            return True
        at += 1
    return False


def items(body: bytes) -> Iterator[tuple[int, int, int]]:
    """The items of a body that was verified: kind, and where in the body its content begins and ends."""
    at = 0
    while at < len(body):
        kind, _, _, content_bytes = _ITEM.unpack_from(body, at)
        begin = at + ITEM_HEADER_BYTES
        at = begin + content_bytes
        yield kind, begin, at
