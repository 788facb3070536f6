"""Slots, tags and ranges of routing keys (DESIGN section 6).

A user's key becomes a *routing key* once, in the router; everything below knows routing keys
only. With hash partitioning it is a two-byte slot, most significant byte first, and then the
user's key, so that a range of slots is a range of routing keys; with range partitioning it is
the user's key itself.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from itertools import pairwise
from typing import Final

import attrs

from shardraft.octets.functions import are_within

_CRC: Final = crc_hqx
"""Each key goes through it, and compiled code finds a name of its own faster than one that it imports."""
SLOT_BYTES: Final = 2
SLOTS_MAX: Final = 1 << (8 * SLOT_BYTES)
"""More slots than this do not fit the two bytes of a routing key."""


class Partitioning(IntEnum):
    """How user keys become routing keys; fixed when the cluster is made. Numbers are never reused."""

    HASH = 1
    """A two-byte slot, then the user's key (the default)."""
    RANGE = 2
    """The user's key itself."""

    @property
    def slot_bytes(self) -> int:
        """How many leading bytes of a routing key are not the user's."""
        return SLOT_BYTES if self is Partitioning.HASH else 0


@attrs.frozen(slots=True)
class KeyRange:
    """Routing keys from ``start`` up to and without ``end``; an empty ``end`` means no end."""

    start: bytes = b""
    end: bytes = b""

    def holds(self, key: bytes) -> bool:
        return self.start <= key and (not self.end or key < self.end)

    def holds_all(self, keys: Sequence[bytes]) -> bool:
        """Whether each of ``keys``, at least one, is in it."""
        return are_within(keys, self.start, self.end)

    def is_empty(self) -> bool:
        """Whether no key can be in it."""
        return bool(self.end) and self.end <= self.start

    def overlap(self, other: KeyRange) -> KeyRange:
        """The keys in both; it is empty when there is none."""
        ends = [end for end in (self.end, other.end) if end]
        return KeyRange(max(self.start, other.start), min(ends, default=b""))


def slot_of(key: bytes, slots: int) -> int:
    """The slot of a user's key: CRC-16 (XMODEM, initial value 0) of its tag, modulo ``slots``.

    The tag runs from the first ``{`` to the next ``}``; without one, or with an empty one, it is the
    whole key (PROTOCOL, "Split, merge, move").
    """
    opening = key.find(b"{")
    if opening >= 0:
        closing = key.find(b"}", opening + 1)
        if closing > opening + 1:
            key = key[opening + 1 : closing]
    checksum: int = _CRC(key, 0)
    return checksum % slots


@cache
def slot_heads(slots: int) -> tuple[bytes, ...]:
    """What the routing keys of each slot begin with, where keys are spread over so many slots."""
    return tuple([slot.to_bytes(SLOT_BYTES, "big") for slot in range(slots)])


def routing_key(key: bytes, partitioning: Partitioning, slots: int) -> bytes:
    """The routing key of a user's key; ``slots`` (1 to 65,536) matters with hash partitioning only."""
    if partitioning is Partitioning.RANGE:
        return key
    return slot_of(key, slots).to_bytes(SLOT_BYTES, "big") + key


def user_key(routing: bytes, partitioning: Partitioning) -> bytes:
    """The user's key in a routing key."""
    return routing if partitioning is Partitioning.RANGE else routing[SLOT_BYTES:]


def slot_range(first: int, last_exclusive: int) -> KeyRange:
    """The routing keys of the slots from ``first`` up to and without ``last_exclusive`` (0 to 65,536)."""
    assert 0 <= first < last_exclusive <= SLOTS_MAX, f"no slots from {first} to {last_exclusive}"
    return KeyRange(_boundary(first), _boundary(last_exclusive))


def prefix_range(prefix: bytes) -> KeyRange:
    """The keys that begin with ``prefix``. Its end is the prefix with its last byte that can grow grown by one."""
    head = prefix.rstrip(b"\xff")
    return KeyRange(prefix, head[:-1] + bytes([head[-1] + 1]) if head else b"")


def split_evenly(parts: int, units: int) -> tuple[KeyRange, ...]:
    """``parts`` ranges that cover all keys, their boundaries evenly among the first ``units`` two-byte numbers.

    ``units`` is the number of slots with hash partitioning, 65,536 with range partitioning. Raises
    ``ValueError`` unless each part can have at least one unit.
    """
    if not 1 <= parts <= units <= SLOTS_MAX:
        raise ValueError(f"the keys cannot be split into {parts} parts along {units} boundaries")
    boundaries = [b"", *(_boundary(part * units // parts) for part in range(1, parts)), b""]
    return tuple(KeyRange(start, end) for start, end in pairwise(boundaries))


def _boundary(number: int) -> bytes:
    # No routing key lies below slot 0 or above the last slot, so the outermost boundaries are open ones.
    return b"" if number in (0, SLOTS_MAX) else number.to_bytes(SLOT_BYTES, "big")
