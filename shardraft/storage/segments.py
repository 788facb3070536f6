"""The segments of a log: which there are, where the next block goes, and which are needed no more."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from shardraft.storage.blocks import SEAL_BYTES, Block, ItemKind
from shardraft.storage.log_start import FoundLog, SegmentHead, encode_head
from shardraft.storage.segment import Segment
from shardraft.storage.shard_logs import ShardLogs, shard_item
from shardraft.types import Identity

SEGMENT_BYTES_MIN: Final = 1 << 20
SEGMENT_BYTES_MAX: Final = 64 << 20
"""A block that is larger gets a segment of its own size."""
SEGMENT_SHARE_OF_LOG: Final = 8
"""A segment has so much of the bytes of all entries, within its bounds: a small log stays small on the disk."""
HELD_BYTES_OF_LIVE: Final = 2
"""Segments may hold so many times the bytes of all entries, and ``HELD_BYTES_SPARE``, before entries are moved."""
HELD_BYTES_SPARE: Final = 8 << 20


class Segments:
    """The open segments, ascending; blocks go to the last. Belongs to the log's thread, but for ``read``.

    Every method that writes raises ``OSError``, after which nothing more may be written.
    """

    def __init__(self, directory: Path, identity: Identity, found: FoundLog) -> None:
        """Open what a start found, and clear away what a crash left."""
        self._directory = directory
        self._identity = identity
        self._segments = {
            one.number: Segment(one.path, one.number, one.end, one.blocks) for one in found.segments
        }
        self._newest = self._segments[found.segments[-1].number]
        self._unneeded: list[int] = []
        self._gone: list[int] = []
        self.moving_from: int | None = None
        """The oldest segment, while what is left in it is moved (``moving``)."""
        if found.segments[-1].torn_end > self._newest.end:
            self._newest.clear(found.segments[-1].torn_end)
        for leftover in found.leftovers:
            leftover.unlink()
        for before in found.segments[:-1]:
            if not before.is_sealed and before.number + 1 == self._newest.number:
                self._segments[before.number].seal(self._newest.number)
        self._want_moving(found.logs.live_bytes())
        self._find_unneeded(found.logs)

    @staticmethod
    def create(directory: Path, identity: Identity) -> None:
        """Make the first segment of a log that has nothing in it."""
        first = Segment.create(directory, 1, SEGMENT_BYTES_MIN)
        first.append(_head_block(identity, first.segment_bytes, 0, (), ShardLogs()))
        first.close()

    def append(self, block: Block, logs: ShardLogs) -> tuple[int, int, bytes]:
        """Write a block; it is durable on return. The segment, where in it the body begins, and the body.

        ``logs`` are as they are without the block: a new segment begins with them.
        """
        for number in self._unneeded:
            block.add(ItemKind.GONE, shard_item(number))
        before = self._newest
        if block.block_bytes > before.room:
            self._newest = self._begin(block.block_bytes, logs)
        begin, body = self._newest.append(block)
        if before is not self._newest:
            before.seal(self._newest.number)
        self._gone, self._unneeded = self._unneeded, []
        return self._newest.number, begin, body

    def _begin(self, block_bytes: int, logs: ShardLogs) -> Segment:
        live_bytes = logs.live_bytes()
        head = _head_block(self._identity, 0, self._newest.blocks, tuple(self._segments), logs)
        segment_bytes = min(max(live_bytes // SEGMENT_SHARE_OF_LOG, SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX)
        segment_bytes = max(segment_bytes, head.block_bytes + block_bytes + SEAL_BYTES)
        head = _head_block(self._identity, segment_bytes, self._newest.blocks, tuple(self._segments), logs)
        segment = Segment.create(self._directory, self._newest.number + 1, segment_bytes)
        segment.append(head)
        self._segments[segment.number] = segment
        self._want_moving(live_bytes)
        return segment

    def _want_moving(self, live_bytes: int) -> None:
        held_bytes = sum(one.segment_bytes for one in self._segments.values())
        if held_bytes > HELD_BYTES_OF_LIVE * live_bytes + HELD_BYTES_SPARE and len(self._segments) > 1:
            self.moving_from = min(self._segments)

    def look_after(self, logs: ShardLogs) -> list[Segment]:
        """Take the segments out that the last block called gone, and see which the next one may call so."""
        gone = [self._segments.pop(number) for number in self._gone]
        for number in self._gone:
            logs.highest.pop(number, None)
        self._gone = []
        if self.moving_from not in self._segments:
            self.moving_from = None
        self._find_unneeded(logs)
        return gone

    def _find_unneeded(self, logs: ShardLogs) -> None:
        self._unneeded = [
            number for number in self._segments if number != self._newest.number and not logs.is_needed(number)
        ]

    def read(self, number: int, offset: int, size: int) -> bytes:
        """What lies there. Raises ``OSError``."""
        return self._segments[number].read(offset, size)

    def path(self, number: int) -> Path:
        return self._segments[number].path

    def close(self) -> None:
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()


def _head_block(
    identity: Identity, segment_bytes: int, blocks_before: int, present: tuple[int, ...], logs: ShardLogs
) -> Block:
    block = Block()
    head = SegmentHead(identity.cluster_id, identity.host, segment_bytes, blocks_before, present)
    block.add(ItemKind.HEAD, encode_head(head))
    logs.add_standing(block)
    return block
