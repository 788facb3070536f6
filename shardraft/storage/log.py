"""The log: entries, hard states and bases of all shards of a host, in segments that are only appended to.

All batches that wait are written as one block with one sync, several blocks at a time (decision 0029). Compaction
moves a *base*, which makes entries gone; a segment is deleted once no log needs an entry in it. Shards that write
little would keep segments of those that write much, so while segments hold much more than the entries there are, what
is left in the oldest is moved to the newest, a bounded part with each commit (decision 0024).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.raft.ready import HardState, LogSummary
from shardraft.storage.batches import add_batches, bytes_of
from shardraft.storage.blocks import Block, ItemKind
from shardraft.storage.directory import replace_file
from shardraft.storage.environment import explain_failure
from shardraft.storage.inspection import REPLACE_HOST
from shardraft.storage.layout import FORMAT_BYTES, check_format, encode_format
from shardraft.storage.log_start import FoundLog, read_log, verify_entry
from shardraft.storage.moving import Mover
from shardraft.storage.segment import PlacedBlock, Segment
from shardraft.storage.segments import Segments
from shardraft.storage.shard_logs import (
    OFFSET_MASK,
    SEGMENT_SHIFT,
    ShardLog,
    ShardLogs,
    base_item,
    hard_state_item,
    shard_item,
)
from shardraft.types import Identity, Index, ShardId, Term
from shardraft.wire.stored import decode_identity, encode_identity

BLOCK_BYTES_MAX: Final = 64 << 20
"""A commit of more bytes of entries is written as several blocks, each of whole batches and each with a sync."""
LOOP_BLOCK_BYTES_MAX: Final = 1 << 20
"""A commit of more bytes of entries is not begun on the loop, where it would take more than a millisecond."""
_IDENTITY_NAME: Final = "identity"


@attrs.frozen(slots=True)
class StoredLog:
    """One shard's log as it was found."""

    hard_state: HardState
    summary: LogSummary


@attrs.frozen(slots=True, eq=False)
class _OpenLog:
    """What there is once a log was recovered."""

    segments: Segments
    logs: ShardLogs
    mover: Mover


class SegmentedLog:
    """Several threads use it, one at a time: ``begin_commit`` and ``end_commit`` on the loop, with blocks under way
    between; ``commit``, ``reset`` and ``remove`` on the log's thread, while none is. ``read_entries`` may be called on
    any.

    After the first write that failed every later one is refused with the same error: after a failed sync a later
    one says that all is well (fsyncgate).
    """

    def __init__(self, path: Path) -> None:
        """``path`` is the directory, of which nothing is read yet."""
        self.path = path
        self._found: FoundLog | None = None
        self._open: _OpenLog | None = None
        self._failure: str | None = None
        self._lock = threading.Lock()
        """Held while entries are read and while what is remembered of them changes, never for a write."""

    # Whose it is

    @classmethod
    def create(cls, path: Path, identity: Identity) -> None:
        """Make an empty log in an empty directory, durably. Raises ``OSError``."""
        Segments.create(path, identity)
        replace_file(path / _IDENTITY_NAME, encode_format(b"log") + encode_identity(identity))

    def check_format(self) -> None:
        with self._naming("format"):
            check_format(self._read_identity()[:FORMAT_BYTES], b"log")

    def read_identity(self) -> Identity:
        with self._naming("identity"):
            return decode_identity(self._read_identity()[FORMAT_BYTES:])

    def write_identity(self, identity: Identity) -> None:
        try:
            replace_file(self.path / _IDENTITY_NAME, encode_format(b"log") + encode_identity(identity))
        except OSError as error:
            raise self._failed(error) from error

    def _read_identity(self) -> bytes:
        try:
            return (self.path / _IDENTITY_NAME).read_bytes()
        except FileNotFoundError as error:
            raise StorageError(f"the file is missing: {REPLACE_HOST}") from error
        except OSError as error:
            raise self._unreadable(error) from error

    @contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            raise StorageError(f"{self.path / _IDENTITY_NAME}, {what}: {error}") from error

    # Start

    def inspect(self) -> None:
        """Read and verify all of it, and write nothing. Raises ``StorageError``. What was read is for ``recover``."""
        identity = self.read_identity()
        try:
            self._found = read_log(self.path, identity.cluster_id, identity.host)
        except OSError as error:
            raise self._unreadable(error) from error

    def recover(self) -> dict[ShardId, StoredLog]:
        """Every log as it was found, with what a crash left cleared away. Raises ``StorageError``."""
        if self._failure is not None:
            raise StorageError(self._failure)
        self.close()
        if self._found is None:
            self.inspect()
        found, self._found = self._found, None
        assert found is not None, "it was inspected just now"
        try:
            segments = Segments(self.path, self.read_identity(), found)
        except OSError as error:
            raise self._failed(error) from error
        with self._lock:
            self._open = _OpenLog(segments, found.logs, Mover(found.logs, segments))
        return {
            shard: StoredLog(log.hard_state, log.summary()) for shard, log in sorted(found.logs.logs.items())
        }

    # Writing

    def begin_commit(self, batches: Sequence[LogBatch]) -> PlacedBlock | None:
        """The batches as one block, to be written at its place by the caller, who then says ``end_commit``, in order.

        None when they need ``commit``: they are large, the newest segment has no room, or entries are to be moved.
        Others may be begun before it is durable, at most ``BLOCKS_UNDER_WAY_MAX`` together. What it says is remembered
        at once: nobody asks for an entry that is not known to be durable (``raft.log``), and it moves none. Raises
        ``StorageError``.
        """
        there = self._writable()
        if there.mover.is_due or sum([bytes_of(batch) for batch in batches]) > LOOP_BLOCK_BYTES_MAX:
            return None
        block = Block()
        add_batches(block, there.logs, batches)
        if not there.segments.has_room(block):
            return None
        placed = there.segments.place(block, there.logs)
        self._take(there, placed)
        return placed

    def end_commit(self, placed: PlacedBlock) -> Callable[[], None] | None:
        """A block that was begun is durable. What is to be done on the log's thread then, if anything is."""
        gone = self._landed(self._writable(), placed)
        if not gone:
            return None

        def remove() -> None:
            try:
                for one in gone:
                    one.remove()
            except OSError as error:
                raise self._failed(error) from error

        return remove

    def prepare(self) -> Callable[[], None] | None:
        """What can be done on the log's thread for the next segment, a few milliseconds of it, if anything is left.

        It may run beside blocks that are under way; asked for again when it was done.
        """
        if self._open is None or self._failure is not None:
            return None
        spare = self._open.segments.spare
        return spare.go_on if spare.is_being_made else None

    def fail_commit(self, error: OSError) -> StorageError:
        """A block that was begun could not be written: nothing may be written any more. What to say of it."""
        return self._failed(error)

    def commit(self, batches: Sequence[LogBatch]) -> None:
        """Write the batches in order, in one block, or in several when they are large. Raises ``StorageError``."""
        there = self._writable()
        waiting: list[LogBatch] = []
        waiting_bytes = 0
        for batch in batches:
            batch_bytes = bytes_of(batch)
            if waiting and waiting_bytes + batch_bytes > BLOCK_BYTES_MAX:
                self._commit(there, waiting, waiting_bytes)
                waiting, waiting_bytes = [], 0
            waiting.append(batch)
            waiting_bytes += batch_bytes
        self._commit(there, waiting, waiting_bytes)

    def _commit(self, there: _OpenLog, batches: list[LogBatch], commit_bytes: int) -> None:
        block = Block()
        try:
            there.mover.add_moves(block, commit_bytes)
        except OSError as error:
            raise self._failed(error) from error
        add_batches(block, there.logs, batches)
        self._write(there, block)
        there.mover.moved()

    def reset(self, shard: ShardId, index: Index, term: Term) -> HardState:
        """Make the log empty behind (``index``, ``term``), in one block; the hard state that stands then.

        That is the one before, but for ``commit_index``, which becomes ``index``.
        """
        there = self._writable()
        log = there.logs.logs.get(shard)
        kept = log.hard_state if log is not None else HardState()
        hard_state = HardState(kept.current_term, kept.voted_for, index)
        block = Block()
        block.add(ItemKind.RESET, base_item(shard, index, term))
        block.add(ItemKind.HARD_STATE, hard_state_item(shard, hard_state))
        self._write(there, block)
        return hard_state

    def remove(self, shard: ShardId) -> None:
        """Forget everything of a log whose replica was removed, in one block."""
        block = Block()
        block.add(ItemKind.REMOVAL, shard_item(shard))
        self._write(self._writable(), block)

    def _writable(self) -> _OpenLog:
        assert self._open is not None, "a log is recovered before it is written"
        if self._failure is not None:
            raise StorageError(self._failure)
        return self._open

    def _write(self, there: _OpenLog, block: Block) -> None:
        """Write a block on the log's thread, durably."""
        if not block:
            return
        try:
            placed = there.segments.place(block, there.logs)
            there.segments.write(placed, there.logs)
            # Only now: somebody may ask for an entry that is moved at any time.
            self._take(there, placed)
            for one in self._landed(there, placed):
                one.remove()
        except OSError as error:
            raise self._failed(error) from error

    def _take(self, there: _OpenLog, placed: PlacedBlock) -> None:
        with self._lock:
            there.logs.take(placed.segment.number, placed.begin, placed.body)

    def _landed(self, there: _OpenLog, placed: PlacedBlock) -> list[Segment]:
        with self._lock:
            return there.segments.landed(placed, there.logs)

    def _failed(self, error: OSError) -> StorageError:
        self._failure = explain_failure(self.path, error)
        return StorageError(self._failure)

    # Reading

    def read_entries(self, shard: ShardId, low: Index, high: Index, bytes_max: int) -> list[bytes]:
        """Encoded entries from ``low``, without ``high``: at least one, at most ``bytes_max`` bytes.

        Raises ``StorageError`` for an entry that the log does not hold, or that the disk changed.
        """
        entries: list[bytes] = []
        with self._lock:
            there = self._open
            log = None if there is None else there.logs.logs.get(shard)
            if there is None or log is None or low <= log.base:
                raise StorageError(f"{self.path}: the entry of shard {shard} at {low} is compacted and cannot be read")
            for index in range(low, high):
                if index > log.last:
                    raise StorageError(f"{self.path}: the log of shard {shard} has no entry at {index}")
                size = log.sizes[index - log.base - 1]
                bytes_max -= size
                if bytes_max < 0 and entries:
                    break
                entries.append(self._read_entry(there.segments, log, shard, index, size))
        return entries

    def _read_entry(self, segments: Segments, log: ShardLog, shard: ShardId, index: Index, size: int) -> bytes:
        position = log.positions[index - log.base - 1]
        number = position >> SEGMENT_SHIFT
        try:
            encoded = segments.read(number, position & OFFSET_MASK, size)
        except OSError as error:
            raise self._unreadable(error) from error
        verify_entry(segments.path(number), shard, index, encoded)
        return encoded

    def _unreadable(self, error: OSError) -> StorageError:
        return StorageError(f"{self.path} cannot be read ({error}): check the disk, then start the host again")

    def close(self) -> None:
        """Give the files back; ``recover`` opens them again."""
        with self._lock:
            if self._open is not None:
                self._open.segments.close()
                self._open = None

