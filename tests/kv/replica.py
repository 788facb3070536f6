"""One replica of one shard for tests: a log, a machine, and a store in memory that the machine is flushed to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from shardraft.config import Limits
from shardraft.kv.commands import ABSENT, ANY_REVISION, DELETE, PUT, ApplyResult, Batch, BatchResult, Outcome, Stored
from shardraft.kv.lookup import look_up
from shardraft.kv.machine import Machine, MachineImage, MachineState
from shardraft.kv.records import decode_record
from shardraft.shards.keyspace import KeyRange

SHARD = 7
SESSION = b"session-0-------"
OTHER_SESSION = b"session-1-------"
LIMITS = Limits()


@attrs.frozen
class Op:
    """One operation, as a test writes it down."""

    kind: int
    key: bytes
    value: bytes = b""
    condition: int = ANY_REVISION


def put(key: bytes, value: bytes = b"value", *, if_revision: int = ANY_REVISION, if_absent: bool = False) -> Op:
    return Op(PUT, key, value, ABSENT if if_absent else if_revision)


def delete(key: bytes, *, if_revision: int = ANY_REVISION) -> Op:
    return Op(DELETE, key, b"", if_revision)


def batch_of(
    *operations: Op,
    sequence: int = 0,
    session: bytes = SESSION,
    answered_below: int = 0,
    opens_session: bool = True,
    atomic: bool = False,
    positions: Sequence[int] = (),
) -> Batch:
    """A batch of these operations; it has conditions only if one of them has one."""
    has_conditions = any(operation.condition != ANY_REVISION for operation in operations)
    return Batch(
        session=session,
        sequence=sequence,
        answered_below=answered_below,
        opens_session=opens_session,
        atomic=atomic,
        epoch=1,
        kinds=bytes(operation.kind for operation in operations),
        keys=[operation.key for operation in operations],
        values=[operation.value for operation in operations],
        conditions=[operation.condition for operation in operations] if has_conditions else (),
        positions=positions,
    )


class MemoryStore:
    """Flushed state: keys in a dict, and the machine's state as of the last flush. Counts its reads."""

    def __init__(self, state: MachineState) -> None:
        self.state = state
        self.rows: dict[bytes, Stored] = {}
        self.reads = 0

    def get(self, shard: int, key: bytes) -> Stored | None:
        assert shard == self.state.shard
        self.reads += 1
        return self.rows.get(key)

    def get_many(self, shard: int, keys: Sequence[bytes], bytes_max: int) -> list[Stored | None]:
        assert shard == self.state.shard
        assert keys, "the store is asked only for what it alone can tell"
        self.reads += 1
        return look_up(keys, self.rows.get, bytes_max)

    def scan(self, shard: int, start: bytes, end: bytes, entries_max: int) -> list[tuple[bytes, Stored]]:
        assert shard == self.state.shard
        assert entries_max > 0
        self.reads += 1
        inside = sorted(key for key in self.rows if start <= key and (not end or key < end))
        return [(key, self.rows[key]) for key in inside[:entries_max]]

    def commit(self, image: MachineImage) -> None:
        self.state = image.state
        for key, record in image.changes.items():
            if record is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = decode_record(key, record)


class LogEntry(Protocol):
    """A committed entry, which can be applied any number of times to machines that are there."""

    def apply(self, machine: Machine, index: int) -> Any: ...


@attrs.frozen
class _BatchEntry:
    time_us: int
    checksum: int
    batch: Batch

    def apply(self, machine: Machine, index: int) -> ApplyResult:
        return machine.apply_batch(index, 1, self.time_us, self.checksum, self.batch)


@attrs.frozen
class _NoopEntry:
    time_us: int

    def apply(self, machine: Machine, index: int) -> None:
        machine.apply_noop(index, 1, self.time_us, 5)


@attrs.frozen
class _ExpiryEntry:
    time_us: int
    before_us: int

    def apply(self, machine: Machine, index: int) -> int:
        return machine.apply_expiry(index, 1, self.time_us, 6, self.before_us)


class Replica:
    """Applies entries in order, keeps them as a log, and can lose everything but log and store."""

    def __init__(self, limits: Limits = LIMITS, key_range: KeyRange | None = None) -> None:
        state = MachineState(SHARD, key_range or KeyRange(), epoch=1)
        self.limits = limits
        self.store = MemoryStore(state)
        self.machine = Machine(state, self.store, limits)
        self.log: list[LogEntry] = []
        self.image: MachineImage | None = None
        self.time_us = 0

    def apply(self, *batches: Batch) -> ApplyResult:
        """Apply each batch as the next entry; the result of the last."""
        results = [self._append(_BatchEntry(self.time_us, 1_000 + batch.sequence, batch)) for batch in batches]
        result: ApplyResult = results[-1]
        return result

    def write(self, *operations: Op, **batch_fields: Any) -> BatchResult:
        """Apply one batch that is not refused."""
        result = self.apply(batch_of(*operations, **batch_fields))
        assert isinstance(result, BatchResult), result
        return result

    def noop(self) -> None:
        self._append(_NoopEntry(self.time_us))

    def expire(self, before_us: int) -> int:
        ended: int = self._append(_ExpiryEntry(self.time_us, before_us))
        return ended

    def _append(self, entry: LogEntry) -> Any:
        self.log.append(entry)
        return entry.apply(self.machine, len(self.log))

    def begin_flush(self) -> MachineImage:
        self.image = self.machine.begin_flush()
        return self.image

    def end_flush(self) -> None:
        assert self.image is not None
        self.store.commit(self.image)
        self.machine.end_flush()
        self.image = None

    def flush(self) -> None:
        self.begin_flush()
        self.end_flush()

    def crash(self) -> None:
        """Lose the memory; start from the store and replay the log."""
        self.image = None
        self.machine = Machine(self.store.state, self.store, self.limits)
        for index in range(self.machine.last_applied + 1, len(self.log) + 1):
            self.log[index - 1].apply(self.machine, index)

    def change_range(self, key_range: KeyRange) -> None:
        """Own another range from here on, as after a split or a merge; the store agrees at once."""
        self.flush()
        self.store.state = attrs.evolve(self.store.state, key_range=key_range, epoch=self.store.state.epoch + 1)
        self.machine.restore(self.store.state)

    def everything(self) -> dict[bytes, Stored]:
        rows, more = self.machine.scan(b"", b"", 1_000_000, 1 << 40)
        assert not more
        return dict(rows)


def outcomes_of(result: ApplyResult) -> list[Outcome]:
    assert isinstance(result, BatchResult), result
    return [Outcome(outcome) for outcome in result.outcomes]
