"""What clients do to a simulated cluster, and what they are told: the history.

Each client runs a few tasks at once on one router core, so that operations coalesce. Keys are few
hot ones and many cold ones; every value is unique, so a value that is read names its write. What a
client is told is compared with the oracle at once, and with all other clients by the
linearizability checker at the end.
"""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from shardraft.errors import Conflict, ShardraftError
from shardraft.kv.commands import ABSENT, ANY_REVISION, DELETE, PUT, Outcome
from shardraft.kv.requests import Consistency
from shardraft.sim.client import SimClient
from shardraft.sim.clock import Agenda
from shardraft.sim.history import Operation, OperationKind
from shardraft.sim.judge import Judge
from shardraft_router.core.calls import AtomicCall, Call, ReadCall, WriteCall, WriteGroup

HOT_KEYS: Final = tuple(b"hot-%d" % number for number in range(3))
COLD_KEYS: Final = tuple(b"cold-%d" % number for number in range(80))
TAGGED_KEYS: Final = tuple(b"{tag}%d" % number for number in range(4))
"""One slot, hence one shard: what an all-or-nothing batch needs."""

_READS: Final = (0.1, 0.35, 0.8)
_VALUE_BYTES: Final = (8, 8, 8, 60, 400)


@attrs.frozen(slots=True, kw_only=True)
class WorkloadOptions:
    """What the clients are like.

    ``think_ms``: a task's longest wait between two operations. ``stale``: the part of all reads that any
    replica may answer. ``hot``: the part of all operations that goes to the few hot keys. ``hurry``: the
    part whose deadline is at most ``hurry_ms`` away.
    """

    clients: int = 4
    tasks: int = 2
    think_ms: int = 240
    stale: float = 0.25
    hot: float = 0.5
    hurry: float = 0.1
    hurry_ms: int = 400


@attrs.define(slots=True)
class WorkloadCounts:
    """What came of the operations."""

    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    reads: int = 0
    stale_reads: int = 0
    cancelled: int = 0


class History:
    """Calls and returns of all clients in one order."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._position = 0

    def next_position(self) -> int:
        """The place of one more call or return."""
        self._position += 1
        return self._position


@attrs.define(slots=True, eq=False)
class Started:
    """An operation that is under way: what it is in the history, per key, and who goes on after it."""

    operations: tuple[Operation, ...]
    task: Task
    call: Call | None = None


class Task:
    """One of a client's concurrent tasks: an operation, a pause, the next; ``reads`` of them are reads."""

    def __init__(self, workload: Workload, client: SimClient, reads: float) -> None:
        self.client = client
        self.reads = reads
        self._workload = workload

    def go_on(self) -> None:
        """Begin the next operation, unless the workload has stopped."""
        self._workload.begin(self)


class Workload:
    """Draws operations, submits them, and records what became of each."""

    def __init__(self, agenda: Agenda, random: Random, options: WorkloadOptions, judge: Judge) -> None:
        self.history = History()
        self.counts = WorkloadCounts()
        self.running = True
        self._agenda = agenda
        self._random = random
        self._options = options
        self._judge = judge
        self.refused_values: set[bytes] = set()
        """Values that some client was told were certainly not written. Only asked for membership."""
        self._written = 0
        self._seen: dict[bytes, int] = {}
        """The revision of each key that any client saw last: what a compare-and-set expects."""
        self._under_way: dict[Started, None] = {}
        self._writes = (
            *[self._begin_put] * 8,
            *[self._begin_delete] * 2,
            *[self._begin_conditional_put] * 4,
            self._begin_put_many,
            self._begin_atomic,
        )

    def start(self, client: SimClient) -> None:
        """Let a client's tasks begin. Some clients read most of the time, some hardly ever."""
        reads = self._random.choice(_READS)
        for _ in range(self._options.tasks):
            self._agenda.after(self._random.randrange(1000, 100_000), Task(self, client, reads).go_on)

    def begin(self, task: Task) -> None:
        """The next operation of ``task``."""
        if not self.running:
            return
        started = (
            self._random.choice(self._writes)(task) if self._random.random() >= task.reads else self._begin_get(task)
        )
        assert started.call is not None
        started.call.waiter = started
        self._under_way[started] = None
        if self._random.random() < 0.01:
            self._agenda.after(self._random.randrange(1, 40_000), self._cancel, started)
        task.client.pump()

    # What is asked.

    def _begin_put(self, task: Task) -> Started:
        key, value = self._key(), self._value()
        return self._write(task, PUT, key, value, ANY_REVISION)

    def _begin_delete(self, task: Task) -> Started:
        return self._write(task, DELETE, self._key(), b"", ANY_REVISION)

    def _begin_conditional_put(self, task: Task) -> Started:
        key = self._key()
        return self._write(task, PUT, key, self._value(), self._seen.get(key, ABSENT))

    def _write(self, task: Task, kind: int, key: bytes, value: bytes, condition: int) -> Started:
        started = self._started(task, (self._operation(kind, key, value, condition),))
        started.call = task.client.core.write(kind, key, value, condition, self._deadline_us(task))
        return started

    def _begin_put_many(self, task: Task) -> Started:
        keys = dict.fromkeys(self._key() for _ in range(self._random.randrange(2, 6)))
        items = [(key, self._value()) for key in keys]
        started = self._started(task, tuple(self._operation(PUT, *item, ANY_REVISION) for item in items))
        names, values = zip(*items, strict=True)
        started.call = task.client.core.put_many(names, values, self._deadline_us(task))
        return started

    def _begin_atomic(self, task: Task) -> Started:
        keys = self._random.sample(TAGGED_KEYS, 2)
        condition = self._seen.get(keys[0], ABSENT) if self._random.random() < 0.5 else ANY_REVISION
        writes = [(PUT, keys[0], self._value(), condition), (PUT, keys[1], self._value(), ANY_REVISION)]
        started = self._started(task, tuple(self._operation(*write) for write in writes))
        started.call = task.client.core.write_atomic(writes, self._deadline_us(task))
        return started

    def _begin_get(self, task: Task) -> Started:
        is_stale = self._random.random() < self._options.stale
        consistency = Consistency.STALE if is_stale else Consistency.LINEARIZABLE
        key = self._key()
        started = self._started(task, (Operation(key, OperationKind.GET, self.history.next_position(), None),))
        started.call = task.client.core.read(key, consistency, self._deadline_us(task))
        return started

    def _operation(self, kind: int, key: bytes, value: bytes, condition: int) -> Operation:
        called = self.history.next_position()
        if kind == PUT:
            return Operation(key, OperationKind.PUT, called, None, value, condition)
        return Operation(key, OperationKind.DELETE, called, None, None, condition)

    def _started(self, task: Task, operations: tuple[Operation, ...]) -> Started:
        return Started(operations, task)

    def _key(self) -> bytes:
        draw = self._random.random()
        keys = HOT_KEYS if draw < self._options.hot else COLD_KEYS if draw < 0.95 else TAGGED_KEYS
        return self._random.choice(keys)

    def _value(self) -> bytes:
        self._written += 1
        return b"%d-" % self._written + b"." * self._random.choice(_VALUE_BYTES)

    def _deadline_us(self, task: Task) -> int:
        timeout_us = 10_000_000
        if self._random.random() < self._options.hurry:
            timeout_us = self._random.randrange(2_000, self._options.hurry_ms * 1000)
        return task.client.clock.now_us() + timeout_us

    # What became of it.

    def completed(self, call: Call) -> None:
        """A call is done: record it, judge it, and let its task go on."""
        started = call.waiter
        if not isinstance(started, Started):
            return  # It is not one of ours.
        del self._under_way[started]
        if isinstance(call, ReadCall):
            self._read_done(started, call)
        elif isinstance(call, WriteGroup):
            for operation, outcome in zip(started.operations, call.outcomes, strict=True):
                self._put_done(operation, call.error if outcome is None else outcome)
        elif isinstance(call, WriteCall):
            self._write_done(started.operations[0], call.error, call.revision)
        else:
            assert isinstance(call, AtomicCall)
            self._atomic_done(started, call)
        pause_us = self._random.randrange(0, self._options.think_ms * 1000)
        self._agenda.after(pause_us, started.task.go_on)

    def _read_done(self, started: Started, call: ReadCall) -> None:
        operation = started.operations[0]
        if call.error is not None:
            self.counts.refused += 1
            return
        value, revision = call.values[0], call.revisions[0]
        self._judge.read_was_told(operation.key, revision, value, call.applied_index)
        self._seen[operation.key] = revision
        if call.consistency is Consistency.STALE:
            self.counts.stale_reads += 1
            return
        self.counts.reads += 1
        self._returned(operation, value, None, revision)

    def _put_done(self, operation: Operation, outcome: int | ShardraftError | None) -> None:
        if isinstance(outcome, ShardraftError):
            self._write_done(operation, outcome, 0)
        else:
            assert outcome is not None, "a group is done when the outcome of every key is known"
            self._write_done(operation, None, outcome)

    def _write_done(self, operation: Operation, error: ShardraftError | None, revision: int) -> None:
        if isinstance(error, Conflict):
            self._told(operation, Outcome.CONFLICT, error.found_revision)
        elif error is not None:
            self._failed(operation, error.applied)
        elif operation.kind is OperationKind.PUT:
            self._judge.write_was_told(operation.key, revision, operation.value)
            self._told(operation, Outcome.WRITTEN, revision)
        elif revision:
            self._judge.write_was_told(operation.key, revision, None)
            self._told(operation, Outcome.DELETED, revision)
        else:
            self._told(operation, Outcome.MISSING, 0)

    def _told(self, operation: Operation, outcome: Outcome, revision: int) -> None:
        self.counts.acknowledged += 1
        self._seen[operation.key] = revision if operation.kind is OperationKind.PUT else 0
        self._returned(operation, operation.value, outcome, revision)

    def _returned(self, operation: Operation, value: bytes | None, outcome: Outcome | None, revision: int) -> None:
        key, kind, called, condition = operation.key, operation.kind, operation.called, operation.condition
        returned = self.history.next_position()
        told = Operation(key, kind, called, returned, value, condition, outcome, revision)
        self.history.operations.append(told)

    def _failed(self, operation: Operation, applied: str) -> None:
        """Certainly not applied means that it must have left no trace, so it is left out of the history."""
        if applied == "no":
            self.counts.refused += 1
            if operation.value is not None:
                self.refused_values.add(operation.value)
        else:
            self.counts.unknown += 1
            self.history.operations.append(operation)

    def _atomic_done(self, started: Started, call: AtomicCall) -> None:
        if isinstance(call.error, Conflict):
            self.counts.refused += 1  # Whose condition failed is not told, so nothing was seen of any one key.
            return
        for place, operation in enumerate(started.operations):
            self._write_done(operation, call.error, 0 if call.error else call.revisions[place])

    def _cancel(self, started: Started) -> None:
        if started not in self._under_way or started.call is None:
            return
        del self._under_way[started]
        self.counts.cancelled += 1
        call = started.call
        outcomes = call.outcomes if isinstance(call, WriteGroup) else [None] * len(started.operations)
        applied = started.task.client.core.cancel(call)
        for operation, outcome in zip(started.operations, outcomes, strict=True):
            if outcome is not None:
                self._put_done(operation, outcome)
            elif not isinstance(call, ReadCall):
                self._failed(operation, applied)
        started.task.client.pump()
        started.task.go_on()

    def finish(self) -> list[Operation]:
        """Stop; the whole history, in which what is still under way has an unknown outcome."""
        self.running = False
        waiting = [
            operation
            for started in self._under_way
            if not isinstance(started.call, ReadCall)
            for operation in started.operations
        ]
        return self.history.operations + waiting
