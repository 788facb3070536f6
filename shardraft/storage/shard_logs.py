"""Where the entries of each shard lie, and what else its log says; in memory only.

``ShardLogs.take`` says what a block means. A commit has it take the block that was just synced, and a start all
blocks there are, so that what is remembered is what would be found.
"""

from __future__ import annotations

import struct
from array import array
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
    met behind those that follow it.
    """

    __slots__ = ("_hard_state", "base", "base_term", "positions", "sizes", "terms")

    def __init__(self) -> None:
        self.base: Index = 0
        self.base_term: Term = 0
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

    @property
    def live_bytes(self) -> int:
        """The encoded bytes of all entries."""
        return sum(self.sizes)

    def append(self, position: int, size: int, term: Term) -> None:
        self.positions.append(position)
        self.sizes.append(size)
        self.terms.append(term)

    def move(self, index: Index, position: int, size: int, term: Term) -> None:
        offset = index - self.base - 1
        if 0 <= offset < len(self.positions):
            self.positions[offset], self.sizes[offset], self.terms[offset] = position, size, term

    def truncate(self, index: Index) -> None:
        kept = max(0, index - self.base - 1)
        del self.positions[kept:], self.sizes[kept:], self.terms[kept:]

    def compact(self, index: Index, term: Term) -> None:
        gone = index - self.base
        if gone <= 0:
            return
        # New arrays, because a shorter array keeps the room of the longer one.
        self.positions, self.sizes, self.terms = self.positions[gone:], self.sizes[gone:], self.terms[gone:]
        self.base, self.base_term = index, term

    def reset(self, index: Index, term: Term) -> None:
        self.truncate(0)
        self.base, self.base_term = index, term

    def stand(self, index: Index, term: Term, last: Index) -> None:
        """What a segment's head says: the log goes from ``index`` to ``last``, wherever its entries lie."""
        if index < self.base:
            self.truncate(0)
            self.base = index
        self.compact(index, term)
        self.base_term = term
        self.truncate(last + 1)
        for column in (self.positions, self.sizes, self.terms):
            column.frombytes(bytes(column.itemsize * (last - index - len(column))))

    def summary(self) -> LogSummary:
        return LogSummary(self.base + 1, self.base_term, tuple(self.terms), tuple(self.sizes))


class ShardLogs:
    """The logs of all shards of a host, by shard, and which segments they need."""

    def __init__(self) -> None:
        self.logs: dict[ShardId, ShardLog] = {}
        self.highest: dict[int, dict[ShardId, Index]] = {}
        """Of each segment the last entry of each shard in it."""

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
        self.highest.setdefault(segment, {})[shard] = index

    def _take_other(self, kind: int, segment: int, begin: int, body: bytes, start: int, end: int) -> None:
        if kind == ItemKind.MOVED_ENTRY:
            self._take_moved(segment, begin + start, body, start, end)
            return
        if kind in (ItemKind.HEAD, ItemKind.GONE, ItemKind.SEAL):
            return  # Said of segments, and heard by those who read them (``log_start``).
        shard = _SHARD.unpack_from(body, start)[0]
        if kind == ItemKind.TRUNCATION:
            self._log(shard).truncate(_TRUNCATION.unpack_from(body, start)[1])
        elif kind == ItemKind.BASE:
            self._log(shard).compact(*decode_base(body[start + _SHARD.size : end]))
        elif kind == ItemKind.RESET:
            self._log(shard).reset(*decode_base(body[start + _SHARD.size : end]))
        elif kind == ItemKind.REMOVAL:
            self.logs.pop(shard, None)
        elif kind == ItemKind.STANDING:
            last = _STANDING.unpack_from(body, start)[1]
            self._log(shard).stand(*decode_base(body[start + _STANDING.size : end]), last)
        else:
            raise StorageError(f"an item has kind {kind}: start the newer program that wrote it")

    def _take_moved(self, segment: int, offset: int, body: bytes, start: int, end: int) -> None:
        _, _, _, _, shard, _, index, term, _ = ENTRY_HEADER.unpack_from(body, start)
        self._log(shard).move(index, segment << SEGMENT_SHIFT | offset, end - start, term)
        found = self.highest.setdefault(segment, {})
        found[shard] = max(found.get(shard, 0), index)

    def _log(self, shard: ShardId) -> ShardLog:
        log = self.logs.get(shard)
        if log is None:
            log = self.logs[shard] = ShardLog()
        return log

    def forget_absent(self, shards: set[ShardId]) -> None:
        """Keep these only: others were removed by blocks that are gone."""
        for shard in self.logs.keys() - shards:
            del self.logs[shard]

    def add_standing(self, block: Block) -> None:
        """Say in the head of a segment how each log stands."""
        for shard, log in sorted(self.logs.items()):
            standing = _STANDING.pack(shard, log.last) + encode_base(log.base, log.base_term)
            block.add(ItemKind.STANDING, standing)
            block.add(ItemKind.HARD_STATE, hard_state_item(shard, log.hard_state))

    def find_highest(self) -> None:
        """Know exactly what each segment is needed for; blocks that were read also spoke of what is gone or moved."""
        self.highest.clear()
        for shard, log in self.logs.items():
            for index, position in enumerate(log.positions, log.base + 1):
                self.highest.setdefault(position >> SEGMENT_SHIFT, {})[shard] = index

    def is_needed(self, segment: int) -> bool:
        """Whether an entry that a log still has may lie in ``segment``."""
        logs = self.logs
        return any(
            shard in logs and index > logs[shard].base for shard, index in self.highest.get(segment, {}).items()
        )

    def live_bytes(self) -> int:
        """The encoded bytes of all entries of all logs."""
        return sum(log.live_bytes for log in self.logs.values())
