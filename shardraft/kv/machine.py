"""The state machine of one shard: applies committed batches, keeps the sessions, serves reads.

Applied state lives in a write buffer above the store and is flushed in whole images; a read looks
at the buffer, then at the image being flushed, then at the store (DESIGN section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import attrs

from shardraft.config import Limits
from shardraft.kv.buffer import MISSING, WriteBuffer
from shardraft.kv.commands import ApplyResult, Batch, BatchResult, Outcome, Refusal, Stored
from shardraft.kv.door import check_batch
from shardraft.kv.evaluate import all_written, evaluate, only_puts, select
from shardraft.kv.records import Record, stored_in
from shardraft.kv.scan import merge_scan
from shardraft.kv.sessions import OperationResult, Session, SessionRecord, SessionTable, join_results, split_result
from shardraft.shards.keyspace import KeyRange
from shardraft.types import NO_REPLICA, Index, ReplicaId, Revision, ShardId, Term

__all__ = ["Machine", "MachineImage", "MachineState", "SessionRecord", "StateReader"]

_HASH_PRIME: Final = 0x100000001B3
_HASH_MASK: Final = 2**64 - 1
HASH_CHECKS_MAX: Final = 8
"""Of so many indexes a replica remembers its rolling hash; a comparison that comes later says nothing."""
_NOT_APPLIED: Final = OperationResult(Outcome.ABORTED, 0)


class StateReader(Protocol):
    """Where flushed state is read from. Synchronous."""

    def get(self, shard: ShardId, key: bytes) -> Stored | None: ...

    def get_many(self, shard: ShardId, keys: Sequence[bytes], bytes_max: int) -> list[Stored | None]: ...

    def scan(self, shard: ShardId, start: bytes, end: bytes, entries_max: int) -> list[tuple[bytes, Stored]]: ...


@attrs.frozen(slots=True)
class MachineState:
    """Everything of a shard's state but its keys, exactly as of ``last_applied``.

    ``applied_hash`` is the rolling hash of all applied entries (64 bits); replicas at equal
    ``last_applied`` must agree on it. ``time_us`` is the leader's time of the last applied entry.
    ``membership`` is the configuration in effect at ``last_applied`` in the encoding of ``raft.membership``;
    empty means that none was ever applied, so it is the one that the shard began with. ``last_replica`` is the
    highest replica number in any configuration that was applied: no new replica gets it again.
    """

    shard: ShardId
    key_range: KeyRange
    epoch: int
    last_applied: Index = 0
    last_applied_term: Term = 0
    applied_hash: int = 0
    revision: Revision = 0
    time_us: int = 0
    sessions: tuple[SessionRecord, ...] = ()
    membership: bytes = b""
    last_replica: ReplicaId = NO_REPLICA


@attrs.frozen(slots=True)
class MachineImage:
    """One shard's part of a flush: its state and the records of keys changed since the last one (None: deleted)."""

    state: MachineState
    changes: Mapping[bytes, Record | None]


class Machine:
    """One shard's applied state. Its attributes are read by others and written here only.

    ``sessions_max``, ``session_idle_ms_min`` and ``session_window_max`` decide outcomes at apply and must be the
    same on all replicas of a cluster; every other limit is used at the door only, where a difference harms nobody.
    """

    def __init__(self, state: MachineState, reader: StateReader, limits: Limits) -> None:
        self._reader = reader
        self._limits = limits
        self._flushing_index: Index = 0
        self._hash_check_entries = limits.hash_check_entries
        self.hash_checks: dict[Index, int] = {}
        """The rolling hash at the last few multiples of ``hash_check_entries``, ascending."""
        self.restore(state)

    def restore(self, state: MachineState) -> None:
        """Go on from ``state``, which the store holds: at start, or after a copy was installed.

        What is in the buffer is dropped, a flush in flight is forgotten (``end_flush`` must not follow).
        """
        self.shard = state.shard
        self.key_range = state.key_range
        self.epoch = state.epoch
        self.last_applied = state.last_applied
        self.last_applied_term = state.last_applied_term
        self.applied_hash = state.applied_hash
        self.revision = state.revision
        self.time_us = state.time_us
        self.membership = state.membership
        self.last_replica = state.last_replica
        self.flushed_index = state.last_applied
        self.hash_checks.clear()
        self._buffer = WriteBuffer()
        self._sessions = SessionTable(state.sessions, self._limits)

    @property
    def buffer_bytes(self) -> int:
        """Applied state not known to be in the store: what waits for a flush and what is being flushed."""
        return self._buffer.size_bytes

    @property
    def is_flushing(self) -> bool:
        return self._buffer.is_flushing

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    def state(self) -> MachineState:
        """The state as of ``last_applied``; costs as much as there are sessions."""
        return MachineState(
            shard=self.shard,
            key_range=self.key_range,
            epoch=self.epoch,
            last_applied=self.last_applied,
            last_applied_term=self.last_applied_term,
            applied_hash=self.applied_hash,
            revision=self.revision,
            time_us=self.time_us,
            sessions=self._sessions.export(),
            membership=self.membership,
            last_replica=self.last_replica,
        )

    # Before an entry is proposed.

    def check(self, batch: Batch, slot_bytes: int = 0) -> None:
        """Refuse a decoded batch that must not be appended; see ``kv.door.check_batch``.

        Raises ``InvalidArgument``, ``TooLarge``, or ``WrongShard`` when every key is outside the range.
        The batch's own ``epoch`` decides nothing: a key that the range holds is this shard's by any map.
        """
        check_batch(batch, self._limits, self.shard, self.key_range, self.epoch, slot_bytes)

    def expirable_before(self, now_us: int) -> int | None:
        """The ``before_us`` of an expiry entry worth proposing at the leader's time ``now_us``, or None."""
        before_us = now_us - self._limits.session_timeout_ms * 1_000
        oldest_us = self._sessions.oldest_us()
        return before_us if oldest_us is not None and oldest_us < before_us else None

    # Applying, one call per entry of the log.

    def apply_batch(self, index: Index, term: Term, time_us: int, checksum: int, batch: Batch) -> ApplyResult:
        """Apply a committed batch, or answer it from the session table when its operations have been applied."""
        self._advance(index, term, time_us, checksum)
        session = self._sessions.admit(batch, time_us)
        if isinstance(session, Refusal):
            return session
        if batch.sequence in session.results:
            return self._apply_again(session, batch)
        return self._apply_fresh(session, batch)

    def apply_noop(self, index: Index, term: Term, time_us: int, checksum: int) -> None:
        """Pass over a committed entry that changes nothing here."""
        self._advance(index, term, time_us, checksum)

    def apply_membership(
        self, index: Index, term: Term, time_us: int, checksum: int, membership: bytes, last_replica: ReplicaId
    ) -> None:
        """Keep a committed configuration, whose highest replica number is ``last_replica``.

        It took effect when it was appended; from here copies of the state hold it.
        """
        self._advance(index, term, time_us, checksum)
        self.membership = membership
        self.last_replica = max(self.last_replica, last_replica)

    def apply_expiry(self, index: Index, term: Term, time_us: int, checksum: int, before_us: int) -> int:
        """End the sessions last used before ``before_us``, leader's time; how many that were."""
        self._advance(index, term, time_us, checksum)
        return self._sessions.expire(before_us)

    def _advance(self, index: Index, term: Term, time_us: int, checksum: int) -> None:
        assert index == self.last_applied + 1, f"entry {index} cannot follow {self.last_applied}"
        assert term >= self.last_applied_term, f"the term went back at entry {index}"
        assert time_us >= self.time_us, f"the leader's time went back at entry {index}"
        self.last_applied = index
        self.last_applied_term = term
        self.time_us = time_us
        self.applied_hash = (self.applied_hash * _HASH_PRIME + checksum + 1) & _HASH_MASK
        if not index % self._hash_check_entries:
            self._note_hash(index)

    def _note_hash(self, index: Index) -> None:
        checks = self.hash_checks
        checks[index] = self.applied_hash
        if len(checks) > HASH_CHECKS_MAX:
            del checks[next(iter(checks))]

    def _apply_fresh(self, session: Session, batch: Batch) -> BatchResult:
        first_revision = self.revision + 1
        self.revision += len(batch.keys)
        if only_puts(batch, self.key_range):
            self._buffer.put(batch.keys, batch.values, first_revision)
            result = BatchResult(first_revision, all_written(len(batch.keys)))
        else:
            result, changes = evaluate(batch, first_revision, self.key_range, self.get)
            if changes:
                self._buffer.install(changes)
        session.keep(batch.sequence, batch.positions, result)
        return result

    def _apply_again(self, session: Session, batch: Batch) -> BatchResult:
        """Answer operations already applied with their first result and apply only the others.

        Others there are when a batch was regrouped, or when this shard did not hold their keys at first
        (certainly not applied then) and does so by now. An atomic batch is never applied in part.
        """
        positions = batch.positions or range(len(batch.keys))
        known = session.first_results(batch.sequence)
        pending = [
            place
            for place, position in enumerate(positions)
            if (first := known.get(position)) is None
            or (not first.is_final and self.key_range.holds(batch.keys[place]))
        ]
        if batch.atomic and len(pending) < len(positions):
            known = {position: known.get(position, _NOT_APPLIED) for position in positions}
        elif pending:
            others = select(batch, pending)
            result = self._apply_fresh(session, others)
            known.update(zip(others.positions, split_result(result), strict=True))
        return join_results([known[position] for position in positions])

    # Reading.

    def get(self, key: bytes) -> Stored | None:
        """The key as of ``last_applied``, or None when it is absent."""
        found = self._buffer.find(key)
        if found is MISSING:
            return self._reader.get(self.shard, key)
        return None if found is None else stored_in(found)

    def get_many(self, keys: Sequence[bytes], bytes_max: int) -> list[Stored | None]:
        """The first of ``keys`` as of ``last_applied``, up to the one whose value passes ``bytes_max`` in all."""
        records = [self._buffer.find(key) for key in keys]
        missing = [key for key, record in zip(keys, records, strict=True) if record is MISSING]
        flushed = iter(self._reader.get_many(self.shard, missing, bytes_max)) if missing else iter(())
        found: list[Stored | None] = []
        for record in records:
            stored = next(flushed) if record is MISSING else None if record is None else stored_in(record)
            found.append(stored)
            if stored is not None:
                bytes_max -= len(stored.value)
                if bytes_max < 0:
                    break  # At the latest where the store ended as well.
        return found

    def scan(
        self, start: bytes, end: bytes, entries_max: int, bytes_max: int
    ) -> tuple[list[tuple[bytes, Stored]], bool]:
        """Keys in [``start``, ``end``) as of ``last_applied``, ascending, and whether there are more of them.

        An empty ``end`` means no end. Keys and values are at most ``bytes_max`` bytes together, unless the
        first alone is larger. To go on, start from the last key and one zero byte.
        """
        return merge_scan(self._buffer.layers(), self._read_page, start, end, entries_max, bytes_max)

    def _read_page(self, start: bytes, end: bytes, entries_max: int) -> list[tuple[bytes, Stored]]:
        return self._reader.scan(self.shard, start, end, entries_max)

    # Flushing.

    def begin_flush(self) -> MachineImage:
        """Move the buffer aside and return it with the state of this very moment; one flush at a time."""
        image = MachineImage(self.state(), self._buffer.begin_flush())
        self._flushing_index = self.last_applied
        return image

    def end_flush(self) -> None:
        """The image that ``begin_flush`` gave is durable: reads of its keys go to the store from here on."""
        self._buffer.end_flush()
        self.flushed_index = self._flushing_index
