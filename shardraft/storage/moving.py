"""Moves what is left in old segments to the newest, a part with each commit, so that they can be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shardraft.storage.blocks import Block, ItemKind
from shardraft.storage.log_start import verify_entry
from shardraft.storage.segments import Segments
from shardraft.storage.shard_logs import OFFSET_MASK, ShardLogs
from shardraft.types import Index, ShardId

MOVED_BYTES_MAX: Final = 256 << 10
"""Entries that one commit moves, bytes, and one entry more, or a quarter of the commit if that is more."""
MOVED_ENTRIES_MAX: Final = 256
"""Entries that one commit moves: about half a millisecond of work."""
SHARE_OF_A_COMMIT: Final = 4
SEGMENTS_EMPTIED_MAX: Final = 8
"""Segments that one commit may finish, where little is left in each."""

Left = tuple[ShardId, Index]


class Mover:
    """Where moving stands. ``add_moves`` before anything else is in a block, ``moved`` when the block is durable."""

    def __init__(self, logs: ShardLogs, segments: Segments) -> None:
        self._logs = logs
        self._segments = segments
        self._number = 0
        """The segment that is being emptied; 0 for none."""
        self._left: Iterator[Left] = iter(())
        self._has_added = False
        self._emptied: list[int] = []

    @property
    def is_due(self) -> bool:
        """Whether the next commit has something to move."""
        if self._number or self._emptied:
            return True
        return self._segments.to_be_emptied(self._logs.live_bytes, []) is not None

    def add_moves(self, block: Block, commit_bytes: int) -> None:
        """Add the next entries of the segments that are to be emptied, if any are, for a commit of that size.

        They come first, since what the block says besides may truncate them. Raises ``StorageError`` for a damaged
        one, and ``OSError``.
        """
        bytes_left = max(MOVED_BYTES_MAX, commit_bytes // SHARE_OF_A_COMMIT)
        entries_left = MOVED_ENTRIES_MAX
        if self._has_added or self._emptied:
            # The block before was never written: begin this segment again.
            self._has_added = False
            self._emptied.clear()
            self._number = 0
        while bytes_left > 0 and entries_left > 0 and len(self._emptied) < SEGMENTS_EMPTIED_MAX and self._choose():
            found = next(self._left, None)
            if found is None:
                self._emptied.append(self._number)
                self._number = 0
            else:
                bytes_left -= self._add(block, *found)
                entries_left -= 1

    def _choose(self) -> bool:
        """Go on with a segment, or choose the next; False when none is to be emptied."""
        if self._number and self._segments.may_be_emptied(self._number):
            return True
        number = self._segments.to_be_emptied(self._logs.live_bytes, self._emptied)
        if number is None:
            self._number = 0
            return False
        self._number = number
        self._left = self._logs.left_in(number)
        return True

    def _add(self, block: Block, shard: ShardId, index: Index) -> int:
        """Add an entry; its bytes."""
        log = self._logs.logs[shard]
        offset = index - log.base - 1
        encoded = self._segments.read(self._number, log.positions[offset] & OFFSET_MASK, log.sizes[offset])
        verify_entry(self._segments.path(self._number), shard, index, encoded)
        block.add(ItemKind.MOVED_ENTRY, encoded)
        self._has_added = True
        return len(encoded)

    def moved(self) -> None:
        """What was added is durable and took effect."""
        self._has_added = False
        for number in self._emptied:
            self._logs.forget_segment(number)
        self._emptied.clear()
