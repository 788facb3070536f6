"""Where the entries of each shard lie, and what else its log says; in memory only.

``ShardLogs.take`` says what a block means. A commit has it take each block, and a start all blocks there are,
so that what is remembered is what would be found.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from typing import Final

from shardraft.errors import StorageError
from shardraft.raft.entry import HEADER as ENTRY_HEADER
from shardraft.raft.ready import HardState, LogSummary
from shardraft.storage.blocks import Block, ItemKind, items
from shardraft.storage.inspection import REPLACE_HOST
from shardraft.storage.layout import decode_base, encode_base
from shardraft.types import Index, ShardId, Term

SEGMENT_SHIFT: Final = 32
"""A position is the number of a segment, shifted by this, and the offset in it where an encoded entry begins."""
OFFSET_MASK: Final = (1 << SEGMENT_SHIFT) - 1

_SHARD: Final = struct.Struct("<I")
_TRUNCATION: Final = struct.Struct("<IQ")
_STANDING: Final = struct.Struct("<IQ")
_HARD_STATE_ITEM: Final = struct.Struct("<IIQQ")

# Compared with plain numbers for each item of each commit, which an enumeration makes dear.
_ENTRY: Final = int(ItemKind.ENTRY)
_HARD_STATE: Final = int(ItemKind.HARD_STATE)
_OF_SEGMENTS: Final = frozenset({ItemKind.HEAD, ItemKind.GONE, ItemKind.SEAL})
_OF_A_LOG: Final = frozenset(
    {ItemKind.TRUNCATION, ItemKind.BASE, ItemKind.RESET, ItemKind.REMOVAL, ItemKind.STANDING}
)

shard_item = _SHARD.pack
truncation_item = _TRUNCATION.pack


def base_item(shard: ShardId, index: Index, term: Term) -> bytes:
    """The content of a base and of a reset."""
    return _SHARD.pack(shard) + encode_base(index, term)


def hard_state_item(shard: ShardId, hard_state: HardState) -> bytes:
    return _HARD_STATE_ITEM.pack(shard, hard_state.voted_for, hard_state.current_term, hard_state.commit_index)


class ShardLog:
    """One shard's log: entries from ``base`` + 1 to ``last``, each with its position, size and term.

    A position of 0 is not known yet, which is so only while a start reads the segments: an entry that was moved is
    met behind those that follow it. ``live_bytes`` are the encoded bytes of all entries.
    """

    __slots__ = ("_hard_state", "base", "base_term", "live_bytes", "positions", "sizes", "terms")

    def __init__(self) -> None:
        self.base: Index = 0
        self.base_term: Term = 0
        self.live_bytes = 0
        self._hard_state = b""
        self.positions = array("Q")
        self.sizes = array("I")
        self.terms = array("Q")

    @property
    def hard_state(self) -> HardState:
        if not self._hard_state:
            return HardState()
        _, voted_for, current_term, commit_index = _HARD_STATE_ITEM.unpack(self._hard_state)
        return HardState(current_term, voted_for, commit_index)

    def keep_hard_state(self, item: bytes) -> None:
        """Each turn brings one and hardly any is looked at, so it is kept as it lies there."""
        self._hard_state = item

    @property
    def last(self) -> Index:
        return self.base + len(self.positions)

    def append(self, position: int, size: int, term: Term) -> None:
        self.positions.append(position)
        self.sizes.append(size)
        self.terms.append(term)
        self.live_bytes += size

    def move(self, index: Index, position: int, size: int, term: Term) -> None:
        offset = index - self.base - 1
        if 0 <= offset < len(self.positions):
            self.live_bytes += size - self.sizes[offset]
            self.positions[offset], self.sizes[offset], self.terms[offset] = position, size, term

    def truncate(self, index: Index) -> None:
        kept = max(0, index - self.base - 1)
        self.live_bytes -= sum(self.sizes[kept:])
        del self.positions[kept:], self.sizes[kept:], self.terms[kept:]

    def compact(self, index: Index, term: Term) -> None:
        gone = index - self.base
        if gone <= 0:
            return
        self.live_bytes -= sum(self.sizes[:gone])
        # New arrays, because a shorter array keeps the room of the longer one.
        self.positions, self.sizes, self.terms = self.positions[gone:], self.sizes[gone:], self.terms[gone:]
        self.base, self.base_term = index, term

    def reset(self, index: Index, term: Term) -> None:
        self.truncate(0)
        self.base, self.base_term = index, term

    def stand(self, index: Index, term: Term, last: Index) -> None:
        """What a segment's head says: the log goes from ``index`` to ``last``, wherever its entries lie."""
        if index < self.base:
            self.reset(index, term)
        self.compact(index, term)
        self.base_term = term
        self.truncate(last + 1)
        for column in (self.positions, self.sizes, self.terms):
            column.frombytes(bytes(column.itemsize * (last - index - len(column))))

    def lies_in(self, index: Index, segment: int) -> bool:
        """Whether the log has an entry at ``index`` and it lies in ``segment``."""
        offset = index - self.base - 1
        return 0 <= offset < len(self.positions) and self.positions[offset] >> SEGMENT_SHIFT == segment

    def summary(self) -> LogSummary:
        return LogSummary(self.base + 1, self.base_term, tuple(self.terms), tuple(self.sizes))


class ShardLogs:
    """The logs of all shards of a host, by shard, and which entries each segment was given.

    ``has_freed`` is set by blocks that may have left a segment without an entry that a log still has.
    """

    def __init__(self) -> None:
        self.logs: dict[ShardId, ShardLog] = {}
        self.live_bytes = 0
        """The encoded bytes of all entries of all logs."""
        self.has_freed = False
        self._runs: dict[int, dict[ShardId, list[list[Index]]]] = {}
        """Of each segment and shard the first and last index of entries that were written one after the other."""
        self._needing: dict[int, ShardId] = {}
        """Of each segment a shard that needed it when that was last looked for."""

    def last(self, shard: ShardId) -> Index:
        log = self.logs.get(shard)
        return 0 if log is None else log.last

    def take(self, segment: int, begin: int, body: bytes) -> None:
        """Let the items of a block take effect, whose body begins at ``begin`` in ``segment``.

        Raises ``StorageError`` for an item that does not fit what was before.
        """
        for kind, start, end in items(body):
            if kind == _ENTRY:
                self._take_entry(segment, begin + start, body, start, end)
            elif kind == _HARD_STATE:
                self._log(_SHARD.unpack_from(body, start)[0]).keep_hard_state(body[start:end])
            else:
                self._take_other(kind, segment, begin, body, start, end)

    def _take_entry(self, segment: int, offset: int, body: bytes, start: int, end: int) -> None:
        _, _, _, _, shard, _, index, term, _ = ENTRY_HEADER.unpack_from(body, start)
        log = self._log(shard)
        if index != log.last + 1:
            raise StorageError(f"the entry of shard {shard} at {index} does not follow {log.last}: {REPLACE_HOST}")
        log.append(segment << SEGMENT_SHIFT | offset, end - start, term)
        self.live_bytes += end - start
        self._hold(segment, shard, index)

    def _take_moved(self, segment: int, offset: int, body: bytes, start: int, end: int) -> None:
        _, _, _, _, shard, _, index, term, _ = ENTRY_HEADER.unpack_from(body, start)
        log = self._log(shard)
        before_bytes = log.live_bytes
        log.move(index, segment << SEGMENT_SHIFT | offset, end - start, term)
        self.live_bytes += log.live_bytes - before_bytes
        self._hold(segment, shard, index)

    def _take_other(self, kind: int, segment: int, begin: int, body: bytes, start: int, end: int) -> None:
        if kind in _OF_SEGMENTS:
            return  # Heard by those who read segments (``log_start``).
        if kind == ItemKind.MOVED_ENTRY:
            self._take_moved(segment, begin + start, body, start, end)
        elif kind in _OF_A_LOG:
            self._take_of_a_log(kind, body, start, end)
        else:
            raise StorageError(f"an item has kind {kind}: start the newer program that wrote it")
        self.has_freed = True

    def _take_of_a_log(self, kind: int, body: bytes, start: int, end: int) -> None:
        shard = _SHARD.unpack_from(body, start)[0]
        log = self._log(shard)
        before_bytes = log.live_bytes
        if kind == ItemKind.TRUNCATION:
            log.truncate(_TRUNCATION.unpack_from(body, start)[1])
        elif kind == ItemKind.BASE:
            log.compact(*decode_base(body[start + _SHARD.size : end]))
        elif kind == ItemKind.RESET:
            log.reset(*decode_base(body[start + _SHARD.size : end]))
        elif kind == ItemKind.REMOVAL:
            log.truncate(0)
            del self.logs[shard]
        else:
            last = _STANDING.unpack_from(body, start)[1]
            log.stand(*decode_base(body[start + _STANDING.size : end]), last)
        self.live_bytes += log.live_bytes - before_bytes

    def _log(self, shard: ShardId) -> ShardLog:
        log = self.logs.get(shard)
        if log is None:
            log = self.logs[shard] = ShardLog()
        return log

    def forget_absent(self, shards: set[ShardId]) -> None:
        """Keep these only: others were removed by blocks that are gone."""
        for shard in self.logs.keys() - shards:
            self.live_bytes -= self.logs.pop(shard).live_bytes

    def add_standing(self, block: Block) -> None:
        """Say in the head of a segment how each log stands."""
        for shard, log in sorted(self.logs.items()):
            standing = _STANDING.pack(shard, log.last) + encode_base(log.base, log.base_term)
            block.add(ItemKind.STANDING, standing)
            block.add(ItemKind.HARD_STATE, hard_state_item(shard, log.hard_state))

    # Which segments are needed

    def _hold(self, segment: int, shard: ShardId, index: Index) -> None:
        shards = self._runs.get(segment)
        if shards is None:
            shards = self._runs[segment] = {}
        runs = shards.get(shard)
        if runs is None:
            shards[shard] = [[index, index]]
        elif runs[-1][1] + 1 == index:
            runs[-1][1] = index
        else:
            runs.append([index, index])

    def hold_what_is_there(self) -> None:
        """Know exactly what each segment is needed for; blocks that were read also spoke of what is gone or moved."""
        self._runs.clear()
        self._needing.clear()
        for shard, log in sorted(self.logs.items()):
            for index, position in enumerate(log.positions, log.base + 1):
                self._hold(position >> SEGMENT_SHIFT, shard, index)

    def is_needed(self, segment: int) -> bool:
        """Whether an entry that a log still has may lie in ``segment``."""
        shards = self._runs.get(segment, {})
        needing = self._needing.get(segment)
        if needing is not None and needing in shards and self._needs(needing, shards[needing]):
            return True
        for shard, runs in shards.items():
            if self._needs(shard, runs):
                self._needing[segment] = shard
                return True
        return False

    def _needs(self, shard: ShardId, runs: list[list[Index]]) -> bool:
        log = self.logs.get(shard)
        return log is not None and any(last > log.base for _, last in runs)

    def left_in(self, segment: int) -> Iterator[tuple[ShardId, Index]]:
        """The entries in ``segment`` that logs still have. Blocks may be taken while it is gone through."""
        for shard, runs in list(self._runs.get(segment, {}).items()):
            for first, last in runs:
                for index in range(first, last + 1):
                    log = self.logs.get(shard)
                    if log is None:
                        break
                    if log.lies_in(index, segment):
                        yield shard, index

    def forget_segment(self, segment: int) -> None:
        """Nothing in it is needed any more."""
        self._runs.pop(segment, None)
        self._needing.pop(segment, None)
        self.has_freed = True
