"""Commits of the log: batches into blocks on the loop, several blocks with the writer at a time (decision 0029).

A block is begun when none is under way, or half a millisecond after the one before; what comes meanwhile is joined, so
cost per batch falls as load rises, and a slow disk delays what is written and nothing else. What may take long or
needs the log to itself is a job of the log's thread, while no block is under way. This module is compiled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from os import strerror
from typing import Final, Protocol

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.runtime.clock import now_us
from shardraft.runtime.writers import WRITES_MAX, Writer
from shardraft.storage.segment import PlacedBlock

SPACING_US: Final = 500
"""Blocks that are under way together were begun so far apart: a disk whose syncs are quicker gets one at a time."""
NEVER_US: Final = (1 << 62) - 1

Job = Callable[[], Callable[[], None]]
"""Runs on the log's thread; what it returns runs on the loop."""


class LogStore(Protocol):
    """What a store of blocks offers (``storage.log``)."""

    def begin_commit(self, batches: list[LogBatch]) -> PlacedBlock | None: ...

    def end_commit(self, placed: PlacedBlock) -> Callable[[], None] | None: ...

    def fail_commit(self, error: OSError) -> StorageError: ...

    def prepare_log(self) -> Callable[[], None] | None: ...

    def commit_log(self, batches: list[LogBatch]) -> None: ...


class _Waiting:
    """A batch of a turn, or a job of the log's thread, in the order in which they came."""

    def __init__(self, number: int, batch: LogBatch, job: Job | None) -> None:
        self.number = number
        self.batch = batch
        self.job = job


class _UnderWay:
    """A block that the writer has, and the turns whose batches are in it."""

    def __init__(self, placed: PlacedBlock, numbers: list[int]) -> None:
        self.placed = placed
        self.numbers = numbers


class LogCommits:
    """The one owner of what waits for the log; all of it runs on the loop.

    ``on_committed`` hears which turns are durable, in order. ``on_failure`` hears why nothing is written any
    more; no further block is begun then. ``to_thread`` has a job run on the log's thread.
    """

    def __init__(
        self,
        store: LogStore,
        writer: Writer,
        to_thread: Callable[[Job], None],
        on_committed: Callable[[list[int]], None],
        on_failure: Callable[[BaseException], None],
        clock: Callable[[], int] = now_us,
    ) -> None:
        self.due_us = NEVER_US
        """When ``go_on`` is to be called, if nothing else happens before."""
        self._store = store
        self._writer = writer
        self._to_thread = to_thread
        self._on_committed = on_committed
        self._on_failure = on_failure
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._under_way: deque[_UnderWay] = deque()
        self._begun_us = 0
        self._is_thread_at_work = False
        self._is_for_thread = False
        """What waits first cannot be begun on the loop."""
        self._is_preparing = False
        self._has_failed = False

    def commit(self, number: int, batch: LogBatch) -> None:
        """Commit the batch of a turn."""
        self._waiting.append(_Waiting(number, batch, None))
        self.go_on()

    def submit(self, job: Job) -> None:
        """Run ``job`` on the log's thread, alone, after every batch that was committed before."""
        self._waiting.append(_Waiting(0, _NO_BATCH, job))
        self.go_on()

    def hear(self) -> None:
        """Take in which blocks are durable by now."""
        finished = self._writer.take_finished()
        if finished and not self._has_failed:
            self._end(finished)
            self.go_on()

    def go_on(self) -> None:
        """Begin what may be begun now."""
        self.due_us = NEVER_US
        while self._waiting and not self._is_thread_at_work and not self._has_failed:
            if self._under_way and not self._may_follow():
                return
            if self._waiting[0].job is not None:
                self._run_job()
            else:
                self._begin()

    def _may_follow(self) -> bool:
        """Whether what waits first may be begun although blocks are under way."""
        if self._is_for_thread or self._waiting[0].job is not None or len(self._under_way) >= WRITES_MAX:
            return False
        due_us = self._begun_us + SPACING_US
        if self._clock() < due_us:
            self.due_us = due_us
            return False
        return True

    def _begin(self) -> None:
        """Begin a block of all batches that wait, or leave them for the thread."""
        numbers: list[int] = []
        batches: list[LogBatch] = []
        for waiting in self._waiting:
            if waiting.job is not None:
                break
            numbers.append(waiting.number)
            if waiting.batch.writes or waiting.batch.compactions:
                batches.append(waiting.batch)
        if not batches:
            self._forget(len(numbers))
            self._pass(numbers)
            return
        placed: PlacedBlock | None = None
        try:
            if not self._is_for_thread:
                placed = self._store.begin_commit(batches)
            if placed is not None:
                self._writer.write(placed.fd, placed.parts, placed.at)
        except Exception as error:  # Whatever it is, the process must not go on.
            self._fail(error)
            return
        if placed is not None:
            self._forget(len(numbers))
            self._begun_us = self._clock()
            self._under_way.append(_UnderWay(placed, numbers))
        elif self._under_way:
            self._is_for_thread = True
        else:
            self._forget(len(numbers))
            self._commit_on_thread(numbers, batches)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()

    def _pass(self, numbers: list[int]) -> None:
        """These wrote nothing, and are durable when what came before them is."""
        if self._under_way:
            self._under_way[-1].numbers += numbers
        else:
            self._on_committed(numbers)

    def _commit_on_thread(self, numbers: list[int], batches: list[LogBatch]) -> None:
        store, on_committed = self._store, self._on_committed
        self._is_for_thread = False
        self._work(_job_of(lambda: store.commit_log(batches), lambda: on_committed(numbers)))

    def _prepare(self) -> None:
        """Have the thread get on with what commits will need later, a piece at a time beside them."""
        work = None if self._is_preparing or self._has_failed else self._store.prepare_log()
        if work is None:
            return
        self._is_preparing = True
        self._to_thread(_job_of(work, self._go_on_preparing))

    def _go_on_preparing(self) -> None:
        self._is_preparing = False
        self._prepare()

    def _run_job(self) -> None:
        job = self._waiting.popleft().job
        assert job is not None, "who calls has looked"
        self._work(job)

    def _work(self, job: Job) -> None:
        """Have the thread do a job; nothing else is begun before its end came back."""
        self._is_thread_at_work = True

        def alone() -> Callable[[], None]:
            result = job()

            def end() -> None:
                self._is_thread_at_work = False
                result()
                self._prepare()
                self.go_on()

            return end

        self._to_thread(alone)

    def _end(self, errors: list[int]) -> None:
        durable: list[int] = []
        for error in errors:
            if error:
                self._fail(self._store.fail_commit(OSError(error, strerror(error))))
                break
            block = self._under_way.popleft()
            durable += block.numbers
            try:
                rest = self._store.end_commit(block.placed)
            except Exception as failure:  # The thread met a disk that failed, and this block was durable before.
                self._fail(failure)
                break
            if rest is not None:
                self._to_thread(_job_of(rest, nothing))
        if durable:
            self._on_committed(durable)

    def _fail(self, error: BaseException) -> None:
        self._has_failed = True
        self._on_failure(error)


def _job_of(work: Callable[[], None], end: Callable[[], None]) -> Job:
    """Does ``work`` on the thread, then ``end`` on the loop."""

    def job() -> Callable[[], None]:
        work()
        return end

    return job


def nothing() -> None:
    """What is to be done at the end of a job that nobody waits for."""


_NO_BATCH: Final = LogBatch()
