"""The log environment: entries, hard states and compaction bases of all shards of a host.

All batches that wait are written by one transaction with one sync. Compaction moves the *base* at once,
which is what makes entries gone, and deletes them from the file a bounded number per commit:
64 MiB of small entries are a quarter of a million deletes, and no commit of another shard should wait for
them. After a crash the rest is found below the base and deleted the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.raft.entry import FORMAT_VERSION, Entry, EntryError, decode_entry
from shardraft.raft.ready import HardState, LogSummary, LogWrite
from shardraft.storage.environment import PUT_RECORDS_MAX, Cursor, Database, Environment, Transaction
from shardraft.storage.inspection import REPLACE_HOST
from shardraft.storage.layout import ENTRY_KEY, SHARD_KEY, decode_base, encode_base, entry_key, shard_key
from shardraft.types import Index, ShardId, Term
from shardraft.wire.stored import decode_hard_state, encode_hard_state

ENTRIES: Final = b"entries"
HARD_STATES: Final = b"hard_states"
BASES: Final = b"bases"
DATABASES: Final = (ENTRIES, HARD_STATES, BASES)

SWEEP_ENTRIES_MAX: Final = 1024
"""Compacted entries deleted in one commit, some 2 ms; the rest goes with the next commits."""


@attrs.frozen(slots=True)
class StoredLog:
    """One shard's log as it was found."""

    hard_state: HardState
    summary: LogSummary


class _Bounds:
    """Where one shard's log begins and ends. The log is empty when ``last`` equals ``base``.

    ``swept``: entries up to there are gone from the file as well; up to ``base`` they are gone for readers.
    """

    __slots__ = ("base", "base_term", "last", "swept")

    def __init__(self) -> None:
        self.base: Index = 0
        self.base_term: Term = 0
        self.last: Index = 0
        self.swept: Index = 0


class LogEnvironment(Environment):
    """``commit`` and ``reset`` belong to the log's thread; ``read_entries`` may be called on any."""

    def __init__(self, path: Path, map_bytes: int, *, create: bool = False) -> None:
        super().__init__(path, b"log", DATABASES, map_bytes, create=create)
        self._entries: Database = self.database(ENTRIES)
        self._hard_states: Database = self.database(HARD_STATES)
        self._bases: Database = self.database(BASES)
        self._bounds: dict[ShardId, _Bounds] = {}
        self._unswept: dict[ShardId, _Bounds] = {}
        self._is_recovered = False

    # Writing

    def commit(self, batches: Sequence[LogBatch]) -> None:
        """Write the batches in order, in one transaction. Raises ``StorageError``."""
        assert self._is_recovered, "a log is recovered before it is written"
        hard_states: dict[ShardId, HardState] = {}
        waiting: list[tuple[bytes, bytes]] = []
        with self.writing() as transaction:
            cursor = transaction.cursor(self._entries)
            for batch in batches:
                for write in batch.writes:
                    if write.truncate_from is not None:
                        # It may overwrite what an earlier batch of this very commit appended.
                        _put_in_slices(cursor, waiting)
                        waiting.clear()
                        self._truncate(transaction, write.shard, write.truncate_from)
                    if write.entries:
                        waiting += self._follow(write)
                    if write.hard_state is not None:
                        hard_states[write.shard] = write.hard_state
                for shard, index, term in batch.compactions:
                    self._compact(transaction, shard, index, term)
            _put_in_slices(cursor, waiting)
            for shard, hard_state in hard_states.items():
                transaction.put(shard_key(shard), encode_hard_state(hard_state), db=self._hard_states)
            if self._unswept:
                self._sweep(transaction)

    def reset(self, shard: ShardId, index: Index, term: Term) -> HardState:
        """Make the log empty behind (``index``, ``term``), in one transaction; the hard state that stands then.

        That is the one before, but for ``commit_index``, which becomes ``index``.
        """
        bounds = self._bounds_of(shard)
        with self.writing() as transaction:
            for gone in range(bounds.swept + 1, bounds.last + 1):
                transaction.delete(entry_key(shard, gone), db=self._entries)
            self._unswept.pop(shard, None)
            bounds.base = bounds.last = bounds.swept = index
            bounds.base_term = term
            self._put_base(transaction, shard, bounds)
            stored = transaction.get(shard_key(shard), db=self._hard_states)
            kept = decode_hard_state(stored) if stored is not None else HardState()
            hard_state = HardState(kept.current_term, kept.voted_for, index)
            transaction.put(shard_key(shard), encode_hard_state(hard_state), db=self._hard_states)
        return hard_state

    def remove(self, shard: ShardId) -> None:
        """Forget everything of a log whose replica was removed, in one transaction."""
        bounds = self._bounds_of(shard)
        with self.writing() as transaction:
            for gone in range(bounds.swept + 1, bounds.last + 1):
                transaction.delete(entry_key(shard, gone), db=self._entries)
            transaction.delete(shard_key(shard), db=self._bases)
            transaction.delete(shard_key(shard), db=self._hard_states)
        self._unswept.pop(shard, None)
        del self._bounds[shard]

    def _follow(self, write: LogWrite) -> list[tuple[bytes, bytes]]:
        """The records of the entries of one write, which must follow the log without a gap."""
        bounds = self._bounds_of(write.shard)
        shard, index = write.shard, bounds.last
        records = []
        for entry in write.entries:
            index += 1
            assert entry.index == index, "appended entries follow the log without a gap"
            records.append((entry_key(shard, index), entry.encoded))
        bounds.last = index
        return records

    def _truncate(self, transaction: Transaction, shard: ShardId, index: Index) -> None:
        bounds = self._bounds_of(shard)
        assert bounds.base < index, "what is compacted is committed and never truncated"
        for gone in range(index, bounds.last + 1):
            transaction.delete(entry_key(shard, gone), db=self._entries)
        bounds.last = min(bounds.last, index - 1)

    def _compact(self, transaction: Transaction, shard: ShardId, index: Index, term: Term) -> None:
        bounds = self._bounds_of(shard)
        if index <= bounds.base:
            return
        assert index <= bounds.last, "only what the log holds is compacted"
        bounds.base, bounds.base_term = index, term
        self._unswept[shard] = bounds
        self._put_base(transaction, shard, bounds)

    def _put_base(self, transaction: Transaction, shard: ShardId, bounds: _Bounds) -> None:
        transaction.put(shard_key(shard), encode_base(bounds.base, bounds.base_term), db=self._bases)

    def _sweep(self, transaction: Transaction) -> None:
        """Delete up to ``SWEEP_ENTRIES_MAX`` compacted entries."""
        remaining = SWEEP_ENTRIES_MAX
        for shard, bounds in list(self._unswept.items()):
            stop = min(bounds.base, bounds.swept + remaining)
            for index in range(bounds.swept + 1, stop + 1):
                transaction.delete(entry_key(shard, index), db=self._entries)
            remaining -= stop - bounds.swept
            bounds.swept = stop
            if stop == bounds.base:
                del self._unswept[shard]
            if remaining == 0:
                return

    def _bounds_of(self, shard: ShardId) -> _Bounds:
        bounds = self._bounds.get(shard)
        if bounds is None:
            bounds = self._bounds[shard] = _Bounds()
        return bounds

    # Reading

    def read_entries(self, shard: ShardId, low: Index, high: Index, bytes_max: int) -> list[bytes]:
        """Encoded entries from ``low``, without ``high``: at least one, at most ``bytes_max`` bytes.

        Raises ``StorageError`` for an entry that the log does not hold, or that the disk changed.
        """
        bounds = self._bounds.get(shard)
        if bounds is None or low <= bounds.base:
            raise StorageError(f"{self.path}: the entry of shard {shard} at {low} is compacted and cannot be read")
        entries: list[bytes] = []
        with self.reading(ENTRIES) as transaction:
            for index in range(low, high):
                encoded = transaction.get(entry_key(shard, index))
                if encoded is None:
                    raise StorageError(f"{self.path}: the log of shard {shard} has no entry at {index}")
                bytes_max -= len(encoded)
                if bytes_max < 0 and entries:
                    break
                self._decode(shard, index, encoded)
                entries.append(encoded)
        return entries

    def recover(self) -> dict[ShardId, StoredLog]:
        """Read and verify every log. Raises ``StorageError`` for a damaged entry, a gap, or terms that fall."""
        self._bounds.clear()
        self._unswept.clear()
        self._is_recovered = True
        with self.lmdb.begin() as transaction:
            for key, record in transaction.cursor(self._bases):
                shard = SHARD_KEY.unpack(key)[0]
                bounds = self._bounds[shard] = _Bounds()
                with self.naming(f"shard {shard}"):
                    bounds.base, bounds.base_term = decode_base(record)
                bounds.last = bounds.swept = bounds.base
            logs = self._recover_entries(transaction.cursor(self._entries))
            hard_states = {}
            for key, record in transaction.cursor(self._hard_states):
                shard = SHARD_KEY.unpack(key)[0]
                with self.naming(f"shard {shard}"):
                    hard_states[shard] = decode_hard_state(record)
        found: dict[ShardId, StoredLog] = {}
        for shard in sorted(self._bounds.keys() | hard_states.keys()):
            bounds = self._bounds_of(shard)
            terms, sizes = logs.get(shard, ([], []))
            summary = LogSummary(bounds.base + 1, bounds.base_term, tuple(terms), tuple(sizes))
            found[shard] = StoredLog(hard_states.get(shard, HardState()), summary)
        return found

    def _recover_entries(self, records: Iterable[tuple[bytes, bytes]]) -> dict[ShardId, tuple[list[Term], list[int]]]:
        logs: dict[ShardId, tuple[list[Term], list[int]]] = {}
        for key, encoded in records:
            shard, index = ENTRY_KEY.unpack(key)
            bounds = self._bounds_of(shard)
            if index <= bounds.base:
                # Compacted, and not deleted before the process ended.
                bounds.swept = min(bounds.swept, index - 1)
                self._unswept[shard] = bounds
                continue
            terms, sizes = logs.setdefault(shard, ([], []))
            if index != bounds.last + 1:
                raise StorageError(f"{self._where(shard, index)} does not follow {bounds.last}: {REPLACE_HOST}")
            term = self._decode(shard, index, encoded).term
            if term < (terms[-1] if terms else bounds.base_term):
                raise StorageError(f"{self._where(shard, index)} has a lower term than the one before: {REPLACE_HOST}")
            terms.append(term)
            sizes.append(len(encoded))
            bounds.last = index
        return logs

    def _decode(self, shard: ShardId, index: Index, encoded: bytes) -> Entry:
        try:
            entry = decode_entry(encoded, shard)
        except EntryError as error:
            is_newer = encoded[4:5] > bytes([FORMAT_VERSION]) and "newer" in str(error)
            advice = "start the newer program that wrote it" if is_newer else REPLACE_HOST
            raise StorageError(f"{self._where(shard, index)}: {error}; {advice}") from error
        if entry.index != index:
            raise StorageError(f"{self._where(shard, index)} says that its index is {entry.index}: {REPLACE_HOST}")
        return entry

    def _where(self, shard: ShardId, index: Index) -> str:
        return f"{self.path}: the entry of shard {shard} at {index}"


def _put_in_slices(cursor: Cursor, records: list[tuple[bytes, bytes]]) -> None:
    for start in range(0, len(records), PUT_RECORDS_MAX):
        cursor.putmulti(records[start : start + PUT_RECORDS_MAX])
