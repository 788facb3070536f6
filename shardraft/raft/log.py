"""One replica's log: terms and sizes of every kept entry, and the recent entries themselves.

The log is the in-memory face of what lies in the store. It knows three boundaries::

    first_index ........ persisted_index ........ last_index
       | on disk, readable    | in memory, perhaps being written

Unpersisted entries are always in memory; persisted ones are there as long as the cache has room
and are read from the store otherwise. The log stands alone: a learner keeps one of committed
entries only.

*Generations.* Several writes may be under way at once, and a truncation may overwrite entries
whose write is not finished. Truncation and reset therefore raise ``generation``, every write
carries the generation it was taken in, and the completion of an older one raises
``persisted_index`` at most to just below the lowest index overwritten since (PROTOCOL, "Terms,
votes, turns in flight"; the append ABA race of etcd-io/raft).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Final

from shardraft.errors import Compacted, StorageError
from shardraft.raft.entry import Entry, decode_entry
from shardraft.raft.ready import HardState, LogReader, LogSummary, LogWrite
from shardraft.types import Index, ShardId, Term

_CUT_BLOCK: Final = 4_096
"""A log's sizes are added up in blocks of so many entries: a held log may have millions."""


class RaftLog:
    """Entries ``first_index`` to ``last_index`` of one shard; empty when ``last_index`` is one less.

    The attributes are for reading; only the methods change them. ``log_bytes`` counts the encoded
    bytes of all kept entries and ``last_term`` is the term at ``last_index`` (of the entry before
    ``first_index`` when the log is empty, 0 at the very start).
    """

    __slots__ = (
        "_cache",
        "_cache_bytes",
        "_cache_bytes_max",
        "_cache_first",
        "_overwritten",
        "_previous_term",
        "_reader",
        "_sizes",
        "_taken_index",
        "_terms",
        "_truncated_from",
        "first_index",
        "generation",
        "last_index",
        "last_term",
        "log_bytes",
        "persisted_index",
        "shard",
    )

    def __init__(
        self,
        shard: ShardId,
        reader: LogReader,
        summary: LogSummary,
        *,
        persisted_index: Index | None = None,
        cache_bytes_max: int,
    ) -> None:
        """``persisted_index`` defaults to all that ``summary`` names; those entries are read through ``reader``."""
        self.shard = shard
        self._reader = reader
        self._terms = array("Q", summary.terms)
        self._sizes = array("Q", summary.sizes)
        assert len(self._terms) == len(self._sizes), "a log summary names one size for each term"
        self._previous_term = summary.previous_term
        self.first_index = summary.first_index
        self.last_index = summary.first_index + len(self._terms) - 1
        self.last_term: Term = self._terms[-1] if self._terms else summary.previous_term
        self.persisted_index = self.last_index if persisted_index is None else persisted_index
        assert self.first_index - 1 <= self.persisted_index <= self.last_index
        self.log_bytes = sum(self._sizes)
        self.generation = 0
        self._overwritten: list[tuple[int, Index]] = []
        self._taken_index = self.last_index
        self._truncated_from: Index | None = None
        self._cache: list[Entry] = []
        self._cache_first = self.last_index + 1
        self._cache_bytes = 0
        self._cache_bytes_max = cache_bytes_max

    # Looking things up

    def term_at(self, index: Index) -> Term | None:
        """The term of the entry at ``index``; None when it was compacted away or is beyond the log.

        The entry just before ``first_index`` is known by its term (0 for index 0).
        """
        if index == self.last_index:
            return self.last_term
        offset = index - self.first_index
        if offset >= 0:
            return self._terms[offset] if index < self.last_index else None
        return self._previous_term if offset == -1 else None

    def last_index_of_term_at_most(self, term: Term, limit: Index) -> Index:
        """The largest index up to ``limit`` whose term is at most ``term``; at least ``first_index - 1``.

        Terms never fall along a log, so this is a binary search (the back-off of section 5.3).
        """
        kept = max(0, min(limit, self.last_index) - self.first_index + 1)
        return self.first_index - 1 + bisect_right(self._terms, term, 0, kept)

    def bytes_between(self, low: Index, high_exclusive: Index) -> int:
        """The encoded bytes of the entries from ``low`` up to and without ``high_exclusive``."""
        if high_exclusive - low == 1:
            return self._sizes[low - self.first_index]
        return sum(self._sizes[low - self.first_index : high_exclusive - self.first_index])

    def cut_for_bytes(self, bytes_max: int) -> Index:
        """The index to compact to so that as much as possible, but at most ``bytes_max`` bytes, remains.

        ``first_index - 1`` when nothing has to go.
        """
        excess = self.log_bytes - bytes_max
        if excess <= 0:
            return self.first_index - 1
        begin = dropped = 0
        while begin < len(self._sizes):
            block = self._sizes[begin : begin + _CUT_BLOCK]
            block_bytes = sum(block)
            if dropped + block_bytes >= excess:
                return self.first_index + begin + bisect_left(list(accumulate(block)), excess - dropped)
            dropped += block_bytes
            begin += _CUT_BLOCK
        return self.last_index

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Entries from ``low`` on, without ``high_exclusive``: at most ``bytes_max`` encoded bytes, but at least one.

        Raises ``Compacted`` when ``low`` is gone and ``StorageError`` when the store returns anything
        but the entries that this log holds.
        """
        if low >= high_exclusive:
            return ()
        assert high_exclusive <= self.last_index + 1, "entries beyond the end of the log"
        if low < self.first_index:
            raise Compacted(first_index=self.first_index, shard=self.shard)
        high = self._high_for_bytes(low, high_exclusive, bytes_max)
        if low >= self._cache_first:
            return tuple(self._cache[low - self._cache_first : high - self._cache_first])
        stored = self._read(low, min(high, self._cache_first), bytes_max)
        if high <= self._cache_first or stored[-1].index + 1 < self._cache_first:
            return stored
        return stored + tuple(self._cache[: high - self._cache_first])

    def _high_for_bytes(self, low: Index, high: Index, bytes_max: int) -> Index:
        if high - low == 1:
            return high
        sizes = self._sizes[low - self.first_index : high - self.first_index]
        if sum(sizes) <= bytes_max:
            return high
        return low + max(1, bisect_right(list(accumulate(sizes)), bytes_max))

    def _read(self, low: Index, high: Index, bytes_max: int) -> tuple[Entry, ...]:
        encoded = self._reader.read_entries(self.shard, low, high, bytes_max)
        entries = tuple([decode_entry(item, self.shard) for item in encoded])
        if not entries or len(entries) > high - low:
            raise StorageError(f"shard {self.shard}: the store returned {len(entries)} entries from {low} to {high}")
        for index, entry in enumerate(entries, low):
            if entry.index != index or entry.term != self.term_at(index):
                raise StorageError(f"shard {self.shard}: the store returned {entry!r} as the entry at {index}")
        return entries

    # Changing the log

    def append(self, entries: tuple[Entry, ...] | list[Entry]) -> None:
        """Add entries that follow ``last_index`` without a gap; they are in memory until persisted."""
        for entry in entries:
            assert entry.index == self.last_index + 1, "an entry that does not follow the log"
            assert entry.term >= self.last_term, "terms never fall along a log"
            size = len(entry.encoded)
            self._terms.append(entry.term)
            self._sizes.append(size)
            self._cache.append(entry)
            self._cache_bytes += size
            self.log_bytes += size
            self.last_index = entry.index
            self.last_term = entry.term
        if self._cache_bytes > self._cache_bytes_max:
            self._trim_cache()

    def truncate_from(self, index: Index) -> None:
        """Drop the entries from ``index`` up and raise the generation (section 5.3, conflicting entries)."""
        assert self.first_index <= index <= self.last_index, "a truncation outside the log"
        offset = index - self.first_index
        self.log_bytes -= sum(self._sizes[offset:])
        del self._terms[offset:], self._sizes[offset:]
        self.last_index = index - 1
        self.last_term = self._terms[-1] if self._terms else self._previous_term
        if index <= self._taken_index:
            self._taken_index = index - 1
            self._truncated_from = index if self._truncated_from is None else min(index, self._truncated_from)
        if index < self._cache_first:
            self._clear_cache()
        else:
            dropped = self._cache[index - self._cache_first :]
            self._cache_bytes -= sum([len(entry.encoded) for entry in dropped])
            del self._cache[index - self._cache_first :]
        self._overwrite_from(index)

    def compact_to(self, index: Index) -> None:
        """Drop the entries up to and with ``index``, which must be persisted; nothing happens when they are gone."""
        if index < self.first_index:
            return
        assert index <= self.persisted_index, "unpersisted entries are never compacted"
        offset = index - self.first_index + 1
        self._previous_term = self._terms[offset - 1]
        self.log_bytes -= sum(self._sizes[:offset])
        del self._terms[:offset], self._sizes[:offset]
        self.first_index = index + 1
        if index >= self._cache_first:
            self._drop_from_cache(index - self._cache_first + 1)

    def reset(self, index: Index, term: Term) -> None:
        """Start anew after a snapshot of (``index``, ``term``): an empty log whose next index is ``index + 1``."""
        del self._terms[:], self._sizes[:]
        self._previous_term = self.last_term = term
        self.first_index = index + 1
        self.last_index = self.persisted_index = self._taken_index = index
        self._truncated_from = None
        self.log_bytes = 0
        self._clear_cache()
        self._overwrite_from(index + 1)

    # Writing to the store

    @property
    def has_unwritten(self) -> bool:
        """Whether ``take_write`` has a truncation or entries to hand out."""
        return self._taken_index < self.last_index or self._truncated_from is not None

    def take_write(self, hard_state: HardState | None = None) -> LogWrite | None:
        """Everything not yet handed out, once, with ``hard_state`` beside it; None when there is nothing at all.

        The caller writes it (truncate, append, hard state, in one commit) and says ``persisted``.
        """
        entries: tuple[Entry, ...] = ()
        if self._taken_index < self.last_index:
            entries = tuple(self._cache[self._taken_index + 1 - self._cache_first :])
        elif hard_state is None and self._truncated_from is None:
            return None
        write = LogWrite(self.shard, self.generation, self._truncated_from, entries, hard_state)
        self._taken_index = self.last_index
        self._truncated_from = None
        return write

    def persisted(self, write: LogWrite) -> None:
        """``write`` is durable. Writes finish in the order in which they were taken."""
        if self._overwritten:
            self._overwritten = [item for item in self._overwritten if item[0] > write.generation]
        if not write.entries:
            return
        index = write.entries[-1].index
        if self._overwritten:
            # The stack's lowest index is first: truncations since at higher ones were removed.
            index = min(index, self._overwritten[0][1] - 1)
        if index > self.persisted_index:
            self.persisted_index = index
            if self._cache_bytes > self._cache_bytes_max:
                self._trim_cache()

    def _overwrite_from(self, index: Index) -> None:
        self.generation += 1
        self.persisted_index = min(self.persisted_index, index - 1)
        while self._overwritten and self._overwritten[-1][1] >= index:
            self._overwritten.pop()
        self._overwritten.append((self.generation, index))

    # The tail in memory

    def _trim_cache(self) -> None:
        """Drop persisted entries down to three quarters of the limit, so that this is rare."""
        keep_bytes = self._cache_bytes_max * 3 // 4
        dropped, remaining = 0, self._cache_bytes
        for entry in self._cache:
            if remaining <= keep_bytes or entry.index > self.persisted_index:
                break
            remaining -= len(entry.encoded)
            dropped += 1
        if dropped:
            self._drop_from_cache(dropped)

    def _drop_from_cache(self, count: int) -> None:
        self._cache_bytes -= sum([len(entry.encoded) for entry in self._cache[:count]])
        del self._cache[:count]
        self._cache_first += count

    def _clear_cache(self) -> None:
        self._cache.clear()
        self._cache_first = self.last_index + 1
        self._cache_bytes = 0
