"""One log entry and its encoded form: the bytes that lie in every log and cross every wire.

An entry is encoded once, by the leader that appends it. Followers, learners and watches carry
those very bytes. The layout is fixed, little-endian, 40 bytes and then the payload::

    checksum u32 | format u8 | kind u8 | reserved u16 | shard u32 | payload_bytes u32
    | index u64 | term u64 | time_us u64 | payload

The checksum is CRC-32 over everything after it. ``time_us`` is the leader's time: it never goes
back along one log, whoever leads, and only session expiry uses it.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

import attrs

from shardraft.octets.functions import crc32
from shardraft.types import TERM_MAX, Index, ShardId, Term

FORMAT_VERSION: Final = 1
HEADER: Final = struct.Struct("<IBBHIIQQQ")
HEADER_BYTES: Final = HEADER.size
_CHECKSUMMED: Final = struct.Struct("<BBHIIQQQ")
_CHECKSUM: Final = struct.Struct("<I")


class EntryKind(IntEnum):
    """What an entry carries. Numbers are never reused; an unknown kind stops the replica, it never skips."""

    NOOP = 1
    """The empty entry with which a leader opens its term (section 8)."""
    BATCH = 2
    """A client's batch, exactly the bytes that the client sent."""
    MEMBERSHIP = 3
    """A new configuration of the group; takes effect on append (section 6)."""
    EXPIRY = 4
    """Sessions last used before the time in the payload (u64, microseconds of leader time) end here."""


class EntryError(ValueError):
    """The bytes are no entry of this format: wrong checksum, length, format version or impossible numbers."""


@attrs.frozen(slots=True, eq=False)
class Entry:
    """One log entry. ``encoded`` is the whole of it, header included; the other fields are read from there.

    ``kind`` is a plain integer: an entry of a newer kind is replicated as it is and refused at apply.
    """

    index: Index
    term: Term
    kind: int
    time_us: int
    encoded: bytes

    @property
    def payload(self) -> bytes:
        return self.encoded[HEADER_BYTES:]

    @property
    def checksum(self) -> int:
        checksum: int = _CHECKSUM.unpack_from(self.encoded)[0]
        return checksum

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return f"Entry({self.index}/{self.term} kind={self.kind} {len(self.encoded)}B)"


def encode_entry(
    shard: ShardId, index: Index, term: Term, kind: EntryKind, time_us: int, payload: bytes = b""
) -> Entry:
    """Make an entry; the only place where entries are encoded."""
    checked = _CHECKSUMMED.pack(FORMAT_VERSION, kind, 0, shard, len(payload), index, term, time_us)
    checksum = crc32(payload, crc32(checked))
    return Entry(index, term, int(kind), time_us, _CHECKSUM.pack(checksum) + checked + payload)


def decode_entry(encoded: bytes, shard: ShardId) -> Entry:
    """Read the header of an entry of ``shard`` and verify its checksum; the payload is not looked at."""
    if len(encoded) < HEADER_BYTES:
        raise EntryError(f"an entry of {len(encoded)} bytes is shorter than its header")
    checksum, version, kind, _, its_shard, payload_bytes, index, term, time_us = HEADER.unpack_from(encoded)
    if crc32(encoded, 0, _CHECKSUM.size) != checksum:
        raise EntryError("the checksum of an entry does not match")
    if version != FORMAT_VERSION:
        raise EntryError(f"entry format {version} is newer than this program understands ({FORMAT_VERSION})")
    if its_shard != shard or payload_bytes != len(encoded) - HEADER_BYTES:
        raise EntryError("an entry is of another shard or length than it says")
    if not 0 < index <= TERM_MAX or not 0 < term <= TERM_MAX:
        raise EntryError("an entry has an impossible index or term")
    return Entry(index, term, kind, time_us, encoded)
