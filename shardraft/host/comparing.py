"""Replicas compare what they have applied (PROTOCOL, "Log, state, snapshots").

Each replica notes its rolling hash at every so many entries (``hash_check_entries``). The leader tells
its own to the others, and each compares it with its own at the same index, at once or when it gets there.
A difference means that a log holds something that was never agreed on: that replica stops, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from shardraft.kv.machine import HASH_CHECKS_MAX
from shardraft.types import HostId, Index


class Comparing:
    """What one replica was told by leaders and has not applied yet (``expected``), and what it has compared."""

    __slots__ = ("_seen_index", "expected")

    def __init__(self) -> None:
        self._seen_index: Index = 0
        self.expected: dict[Index, tuple[int, HostId]] = {}

    def reached(self, hashes: Mapping[Index, int]) -> tuple[Index, int] | None:
        """The newest of this replica's ``hashes`` if it is a new one, else None."""
        newest = next(reversed(hashes), 0)
        if newest <= self._seen_index:
            return None
        self._seen_index = newest
        return newest, hashes[newest]

    def expect(self, index: Index, applied_hash: int, host: HostId) -> None:
        """``host`` has ``applied_hash`` at ``index``. Of more than ``HASH_CHECKS_MAX`` the lowest is forgotten."""
        self.expected[index] = applied_hash, host
        if len(self.expected) > HASH_CHECKS_MAX:
            del self.expected[min(self.expected)]

    def difference(self, hashes: Mapping[Index, int], last_applied: Index) -> tuple[Index, HostId] | None:
        """Where this replica differs and from whom, as far as it has applied; what is compared is forgotten."""
        if not self.expected:
            return None  # The case of nearly every turn.
        due = sorted(index for index in self.expected if index <= last_applied)
        told = [(index, *self.expected.pop(index)) for index in due]
        for index, applied_hash, host in told:
            if hashes.get(index, applied_hash) != applied_hash:
                return index, host
        return None
