"""Keys of 16 bytes, values of 256: which value belongs to which key, and whether what came back may be."""

from __future__ import annotations

from collections import OrderedDict
from itertools import count

import attrs

KEY_BYTES = 16
VALUE_BYTES = 256
_REPEATS = VALUE_BYTES // KEY_BYTES
_SCATTER = 0x9E3779B97F4A7C15
"""Odd, so that multiplying by it modulo 2**64 gives every number its own place, far from its neighbours'."""
_MASK = (1 << 64) - 1


def key_of(number: int) -> bytes:
    """The key with this number. Consecutive numbers lie far apart, so that writes hit pages at random."""
    return b"%016x" % (number * _SCATTER & _MASK)


def value_of(key: bytes) -> bytes:
    """The one value that a key is written with when it is written once."""
    return key * _REPEATS


class Keys:
    """Hands out each number once; every row of a block takes its own from the same source."""

    def __init__(self) -> None:
        self.next_number = 0

    def take(self) -> bytes:
        """A key that was never given before."""
        number = self.next_number
        self.next_number = number + 1
        return key_of(number)


def spread(numbers: range, count_max: int) -> list[int]:
    """At most ``count_max`` of the numbers, evenly over all of them, the first and the last included."""
    if len(numbers) <= count_max:
        return list(numbers)
    return [numbers[index * (len(numbers) - 1) // (count_max - 1)] for index in range(count_max)]


@attrs.frozen(slots=True)
class Write:
    """One write under way: its number, its key, and the number below which every write was acknowledged before it."""

    number: int
    key: bytes
    settled_below: int

    @property
    def value(self) -> bytes:
        """The write's number and, to tell keys apart, the key."""
        return b"%016x" % self.number + self.key * (_REPEATS - 1)


class Ledger:
    """Which values a key that is written again and again may hold.

    A write that was acknowledged before another began must never be seen again once that other one is
    acknowledged. ``floor`` of a key is the number below which its writes are such.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._under_way: OrderedDict[int, None] = OrderedDict()
        self._floors: dict[bytes, int] = {}
        self._highest = 0

    def begin(self, key: bytes) -> Write:
        number = self._highest = next(self._numbers)
        settled_below = next(iter(self._under_way), number)
        self._under_way[number] = None
        return Write(number, key, settled_below)

    def end(self, write: Write) -> None:
        """The write is acknowledged."""
        del self._under_way[write.number]
        floors, key = self._floors, write.key
        # Of writes settled before this one began, none may be seen; this one itself may.
        if write.settled_below > floors.get(key, 0):
            floors[key] = write.settled_below

    def floor(self, key: bytes) -> int:
        """To be asked before a read begins."""
        return self._floors.get(key, 0)

    def keys(self) -> list[bytes]:
        """All keys with an acknowledged write."""
        return list(self._floors)

    def may_hold(self, key: bytes, value: bytes | None, floor: int) -> bool:
        """Whether a read that began when the key's floor was ``floor`` may return ``value``."""
        if value is None or len(value) != VALUE_BYTES or value[KEY_BYTES:] != key * (_REPEATS - 1):
            return False
        try:
            number = int(value[:KEY_BYTES], 16)
        except ValueError:
            return False
        return floor <= number <= self._highest
