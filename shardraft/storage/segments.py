"""The segments of a log: which there are, where the next block goes, and which are needed no more."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from shardraft.storage.blocks import ITEM_HEADER_BYTES, SEAL_BYTES, Block, ItemKind
from shardraft.storage.directory import sync_directory
from shardraft.storage.log_start import FoundLog, SegmentHead, encode_head
from shardraft.storage.segment import PlacedBlock, Segment
from shardraft.storage.shard_logs import ShardLogs, shard_item
from shardraft.storage.spare import Spare
from shardraft.types import Identity

SEGMENT_BYTES_MIN: Final = 1 << 20
SEGMENT_BYTES_MAX: Final = 64 << 20
"""A block that is larger gets a segment of its own size."""
SEGMENT_SHARE_OF_LOG: Final = 8
"""A segment has so much of the bytes of all entries, within its bounds: a small log stays small on the disk."""
HELD_BYTES_OF_LIVE: Final = 2
"""Segments may hold so many times the bytes of all entries, and ``HELD_BYTES_SPARE``, before entries are moved."""
HELD_BYTES_SPARE: Final = 8 << 20
_GONE_BYTES: Final = ITEM_HEADER_BYTES + 4
_BLOCKS_OF_A_BEGINNING: Final = 2
"""A segment's head and the block for which it was begun are written one after the other."""


class Segments:
    """The open segments, ascending; blocks go to the last.

    All of it but ``read`` belongs to one thread at a time. Every method that writes raises ``OSError``, after which
    nothing more may be written.
    """

    def __init__(self, directory: Path, identity: Identity, found: FoundLog) -> None:
        """Open what a start found, and clear away what a crash left."""
        self._directory = directory
        self._identity = identity
        self._segments: dict[int, Segment] = {}
        self._held_bytes = 0
        self.spare = Spare(directory)
        self._unneeded: list[int] = []
        """What the next block may call gone."""
        self._called_gone: set[int] = set()
        """What blocks that are under way call gone."""
        self._unsealed: Segment | None = None
        """The one before the newest, until the newest holds the block for which it was made."""
        try:
            for one in found.segments:
                self._add(Segment(one.path, one.number, one.end, one.blocks))
            self._newest = self._segments[found.segments[-1].number]
            self._newest.prepare()
            self._clear_away(found)
        except BaseException:
            self.close()
            raise
        self._find_unneeded(found.logs)

    def _add(self, segment: Segment) -> None:
        self._segments[segment.number] = segment
        self._held_bytes += segment.segment_bytes

    def _clear_away(self, found: FoundLog) -> None:
        """Make sure that what was read is on the disk, and nothing else.

        After a sync that failed the kernel shows what it could not write, and calls it clean: a start that only read it
        would build on what a later crash takes away. So what was written last is written again.
        """
        newest = found.segments[-1]
        if newest.torn_end > newest.end:
            self._newest.clear(newest.torn_end)
        self._newest.write_again(0 if newest.blocks <= _BLOCKS_OF_A_BEGINNING else newest.last_begin)
        sync_directory(self._directory)
        before = found.segments[-2] if len(found.segments) > 1 else newest
        if before.number == newest.number - 1:
            segment = self._segments[before.number]
            if before.is_sealed:
                segment.write_again(before.last_begin)
            else:
                segment.seal(newest.number)
        for leftover in found.leftovers:
            leftover.unlink()

    @staticmethod
    def create(directory: Path, identity: Identity) -> None:
        """Make the first segment of a log that has nothing in it."""
        first = Segment.create(directory, 1, SEGMENT_BYTES_MIN)
        head = SegmentHead(identity.cluster_id, identity.host, first.segment_bytes, 0, ())
        first.append(_head_block(head, ShardLogs()))
        first.close()

    def has_room(self, block: Block) -> bool:
        """Whether the newest segment has room for a block, so that ``place`` makes none."""
        return block.block_bytes + _GONE_BYTES * len(self._unneeded) <= self._newest.room

    def place(self, block: Block, logs: ShardLogs) -> PlacedBlock:
        """Give a block the next place, in a new segment when the newest has no room; ``landed`` when it is durable.

        ``logs`` are as they are without the block: a new segment begins with them. A new one is made only
        while no block is under way.
        """
        has_room = self.has_room(block)
        for number in self._unneeded:
            block.add(ItemKind.GONE, shard_item(number))
        if not has_room:
            assert not self._newest.under_way, "what a new segment begins with is durable"
            self._unsealed, self._newest = self._newest, self._begin(block.block_bytes, logs)
        placed = self._newest.place(block, tuple(self._unneeded))
        self._called_gone.update(self._unneeded)
        self._unneeded = []
        return placed

    def write(self, placed: PlacedBlock, logs: ShardLogs) -> None:
        """Write a block that was placed and that has no other under way before it; it is durable on return."""
        placed.segment.write(placed)
        if self._unsealed is not None:
            self._unsealed.seal(placed.segment.number)
            self._unsealed = None
            logs.has_freed = True  # Nothing but the newest segment may be kept although nothing needs it.

    def _begin(self, block_bytes: int, logs: ShardLogs) -> Segment:
        head = SegmentHead(
            self._identity.cluster_id, self._identity.host, 0, self._newest.blocks, tuple(self._segments)
        )
        head_bytes = _head_block(head, logs).block_bytes
        wanted_bytes = max(logs.live_bytes // SEGMENT_SHARE_OF_LOG, SEGMENT_BYTES_MIN)
        bytes_min = head_bytes + block_bytes + SEAL_BYTES
        segment_bytes = max(min(wanted_bytes, SEGMENT_BYTES_MAX), bytes_min)
        segment = Segment.following(self._directory, self._newest.number + 1, segment_bytes, bytes_min, self.spare)
        self._add(segment)
        segment.prepare()
        self.spare.begin(segment_bytes)
        segment.append(_head_block(attrs.evolve(head, segment_bytes=segment.segment_bytes), logs))
        return segment

    def landed(self, placed: PlacedBlock, logs: ShardLogs) -> list[Segment]:
        """A block is durable, and so are those that were placed before it. The segments that may be removed.

        They are what it called gone; and this sees which ones the next may call so.
        """
        placed.segment.landed()
        gone = [self._segments.pop(number) for number in placed.gone]
        self._called_gone.difference_update(placed.gone)
        for segment in gone:
            self._held_bytes -= segment.segment_bytes
            logs.forget_segment(segment.number)
        if logs.has_freed:
            self._find_unneeded(logs)
        return gone

    def _find_unneeded(self, logs: ShardLogs) -> None:
        logs.has_freed = False
        passing = {*self._called_gone, self._newest.number}
        self._unneeded = [
            number for number in self._segments if number not in passing and not logs.is_needed(number)
        ]

    def to_be_emptied(self, live_bytes: int, emptied: list[int]) -> int | None:
        """The oldest segment whose entries are to be moved, when segments hold too much; not one of ``emptied``."""
        bound_bytes = HELD_BYTES_OF_LIVE * live_bytes + HELD_BYTES_SPARE
        if self._held_bytes <= bound_bytes:
            return None
        passing = {*self._unneeded, *self._called_gone, *emptied}
        held_bytes = self._held_bytes - sum(self._segments[number].segment_bytes for number in passing)
        candidates = self._segments.keys() - passing - {self._newest.number}
        return min(candidates) if candidates and held_bytes > bound_bytes else None

    def may_be_emptied(self, number: int) -> bool:
        """Whether a segment is there and still needed."""
        return number in self._segments and number not in self._unneeded and number not in self._called_gone

    def read(self, number: int, offset: int, size: int) -> bytes:
        """What lies there. Raises ``OSError``."""
        return self._segments[number].read(offset, size)

    def path(self, number: int) -> Path:
        return self._segments[number].path

    def close(self) -> None:
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()


def _head_block(head: SegmentHead, logs: ShardLogs) -> Block:
    block = Block()
    block.add(ItemKind.HEAD, encode_head(head))
    logs.add_standing(block)
    return block
