"""Moves what is left in the oldest segment to the newest, a part with each commit, so that it can be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shardraft.storage.blocks import Block, ItemKind
from shardraft.storage.log_start import verify_entry
from shardraft.storage.segments import Segments
from shardraft.storage.shard_logs import OFFSET_MASK, SEGMENT_SHIFT, ShardLogs
from shardraft.types import Index, ShardId

MOVED_BYTES_MAX: Final = 256 << 10
"""Entries that one commit moves, bytes, and one entry more."""
MOVED_ENTRIES_MAX: Final = 256
"""Entries that one commit moves: about half a millisecond of work."""


class Mover:
    """Where moving stands. ``add_moves`` before anything else is in a block, ``moved`` when it is durable."""

    def __init__(self, logs: ShardLogs, segments: Segments) -> None:
        self._logs = logs
        self._segments = segments
        self._number: int | None = None
        self._next: dict[ShardId, Index] = {}
        """Of each shard that is left in the segment the entry to look at next."""
        self._added: dict[ShardId, Index] = {}

    def add_moves(self, block: Block) -> None:
        """Add the next entries of the segment that is to be emptied, if one is.

        They come first, since what the block says besides may truncate them. Raises ``StorageError`` for a damaged
        one, and ``OSError``.
        """
        number = self._segments.moving_from
        self._added.clear()
        if number is None:
            return
        if number != self._number:
            self._number = number
            self._next = dict.fromkeys(sorted(self._logs.highest.get(number, ())), 0)
        bytes_left, entries_left = MOVED_BYTES_MAX, MOVED_ENTRIES_MAX
        for shard in self._next:
            for index, offset, size in self._left(shard, number):
                if bytes_left <= 0 or entries_left <= 0:
                    return
                encoded = self._segments.read(number, offset, size)
                verify_entry(self._segments.path(number), shard, index, encoded)
                block.add(ItemKind.MOVED_ENTRY, encoded)
                self._added[shard] = index + 1
                bytes_left -= size
                entries_left -= 1

    def _left(self, shard: ShardId, number: int) -> Iterator[tuple[Index, int, int]]:
        """The entries of a shard in the segment that were not moved yet: index, offset and size."""
        log = self._logs.logs.get(shard)
        if log is None:
            return
        highest = self._logs.highest[number][shard]
        for index in range(max(self._next[shard], log.base + 1), min(highest, log.last) + 1):
            position = log.positions[index - log.base - 1]
            if position >> SEGMENT_SHIFT == number:
                yield index, position & OFFSET_MASK, log.sizes[index - log.base - 1]

    def moved(self) -> None:
        """What was added is durable and took effect; hears of every block."""
        if self._number is None or self._number != self._segments.moving_from:
            return  # The segment was deleted meanwhile, because compaction left nothing in it.
        self._next.update(self._added)
        self._added.clear()
        found = self._logs.highest.get(self._number, {})
        for shard in [shard for shard in self._next if next(self._left(shard, self._number), None) is None]:
            del self._next[shard]
            found.pop(shard, None)
        if not self._next:
            self._number = None
