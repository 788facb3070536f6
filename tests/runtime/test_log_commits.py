"""Batches become blocks: joined, apart in time, alone where they must be, reported in order, none after a failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.runtime.log_commits import NEVER_US, SPACING_US, Job, LogCommits, nothing
from shardraft.runtime.writers import WRITES_MAX
from shardraft.storage.blocks import Block
from shardraft.storage.segment import PlacedBlock, Segment

MUCH = LogBatch(compactions=((9, 9, 9),))
"""What this store leaves to the thread."""


def a_batch(number: int) -> LogBatch:
    return LogBatch(compactions=((1, number, 1),))


class Disk:
    """A store, a writer and a thread that do nothing by themselves; ``did`` says what they were asked to."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.did: list[str] = []
        self.finished: list[int] = []
        self.jobs: list[Job] = []
        self.under_way = 0
        self.committed: list[int] = []
        self.failures: list[str] = []
        self.now_us = 1_000_000
        self.removal: Callable[[], None] | None = None
        self.preparations: list[str] = []
        self.refusal: Exception | None = None
        self.end_refusal: Exception | None = None
        self.commits = LogCommits(
            self, self, self.jobs.append, self.committed.extend, self._failed, clock=lambda: self.now_us
        )

    def _failed(self, error: BaseException) -> None:
        self.failures.append(str(error))

    def begin_commit(self, batches: list[LogBatch]) -> PlacedBlock | None:
        if self.refusal is not None:
            raise self.refusal
        if MUCH in batches:
            return None
        self.did.append(f"begin {len(batches)}")
        return self.segment.place(Block())

    def end_commit(self, placed: PlacedBlock) -> Callable[[], None] | None:
        if self.end_refusal is not None:
            raise self.end_refusal
        self.segment.landed()
        return self.removal

    def fail_commit(self, error: OSError) -> StorageError:
        return StorageError(f"the disk said {error}")

    def prepare_log(self) -> Callable[[], None] | None:
        left = self.preparations.pop(0) if self.preparations else None
        return None if left is None else lambda: self.did.append(left)

    def commit_log(self, batches: list[LogBatch]) -> None:
        self.did.append(f"commit {len(batches)}")

    def fileno(self) -> int:
        raise AssertionError("the loop polls it, not the commits")

    def write(self, fd: int, parts: tuple[bytes, ...], at: int, /) -> None:
        assert self.under_way < WRITES_MAX
        self.under_way += 1

    def take_finished(self) -> list[int]:
        finished, self.finished = self.finished, []
        return finished

    def stop(self, seconds: float, /) -> bool:
        raise AssertionError("the driver stops it")

    def finish(self, *errors: int) -> None:
        """So many of the oldest writes are finished, and the loop hears it."""
        self.under_way -= len(errors)
        self.finished += errors
        self.commits.hear()

    def run_job(self) -> None:
        self.jobs.pop(0)()()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    segment = Segment.create(tmp_path, 1, 1 << 20)
    segment.prepare()
    return Disk(segment)


def test_a_block_is_begun_at_once_and_reported_when_it_is_durable(disk: Disk) -> None:
    disk.commits.commit(1, a_batch(1))
    assert disk.did == ["begin 1"]
    assert disk.committed == []
    disk.finish(0)
    assert disk.committed == [1]


def test_batches_that_come_meanwhile_share_the_next_block(disk: Disk) -> None:
    for number in range(1, 6):
        disk.commits.commit(number, a_batch(number))
    assert disk.did == ["begin 1"]
    disk.finish(0)
    assert disk.did == ["begin 1", "begin 4"]
    disk.finish(0)
    assert disk.committed == [1, 2, 3, 4, 5]


def test_a_disk_that_takes_long_gets_another_block_after_a_while(disk: Disk) -> None:
    disk.commits.commit(1, a_batch(1))
    begun_us = disk.now_us
    disk.now_us += SPACING_US - 1
    disk.commits.commit(2, a_batch(2))
    assert disk.did == ["begin 1"]
    assert disk.commits.due_us == begun_us + SPACING_US
    disk.now_us += 1
    disk.commits.go_on()
    assert disk.did == ["begin 1", "begin 1"]
    assert disk.commits.due_us == NEVER_US
    disk.finish(0, 0)
    assert disk.committed == [1, 2]


def test_no_more_blocks_are_under_way_than_the_writer_takes(disk: Disk) -> None:
    for number in range(1, WRITES_MAX + 4):
        disk.commits.commit(number, a_batch(number))
        disk.now_us += SPACING_US
    assert disk.did == ["begin 1"] * WRITES_MAX
    disk.finish(0)
    assert disk.did[WRITES_MAX:] == ["begin 3"]
    disk.finish(*[0] * WRITES_MAX)
    assert disk.committed == list(range(1, WRITES_MAX + 4))


def test_a_job_runs_alone_after_everything_before_it(disk: Disk) -> None:
    disk.commits.commit(1, a_batch(1))
    disk.commits.submit(lambda: lambda: disk.did.append("job"))
    disk.commits.commit(2, a_batch(2))
    disk.now_us += 10 * SPACING_US
    disk.commits.go_on()
    assert disk.jobs == []
    disk.finish(0)
    assert disk.did == ["begin 1"], "nothing is begun while the thread may be at work"
    disk.run_job()
    assert disk.did == ["begin 1", "job", "begin 1"]
    disk.finish(0)
    assert disk.committed == [1, 2]


def test_what_cannot_be_begun_on_the_loop_is_left_for_the_thread_once_nothing_is_under_way(disk: Disk) -> None:
    disk.commits.commit(1, a_batch(1))
    disk.commits.commit(2, MUCH)
    disk.now_us += SPACING_US
    disk.commits.commit(3, a_batch(3))
    disk.commits.go_on()
    assert disk.jobs == []
    disk.finish(0)
    assert disk.committed == [1]
    disk.commits.commit(4, a_batch(4))
    disk.run_job()
    assert disk.did == ["begin 1", "commit 2", "begin 1"]
    disk.finish(0)
    assert disk.committed == [1, 2, 3, 4]


def test_a_turn_that_writes_nothing_is_durable_with_what_came_before_it(disk: Disk) -> None:
    disk.commits.commit(1, LogBatch())
    assert disk.committed == [1]
    disk.commits.commit(2, a_batch(2))
    disk.now_us += SPACING_US
    disk.commits.commit(3, LogBatch())
    assert disk.did == ["begin 1"]
    assert disk.committed == [1]
    disk.finish(0)
    assert disk.committed == [1, 2, 3]


def test_after_a_failed_write_nothing_is_reported_or_begun_any_more(disk: Disk) -> None:
    for number in range(1, 4):
        disk.commits.commit(number, a_batch(number))
        disk.now_us += SPACING_US
    disk.finish(0, 5, 0)
    assert disk.committed == [1]
    assert disk.failures == ["the disk said [Errno 5] Input/output error"]
    disk.commits.commit(4, a_batch(4))
    disk.commits.submit(lambda: nothing)
    disk.finish(0)
    assert disk.did == ["begin 1"] * 3
    assert disk.jobs == []
    assert disk.committed == [1]
    assert len(disk.failures) == 1


def test_a_block_that_cannot_be_made_is_fatal(disk: Disk) -> None:
    disk.refusal = StorageError("no")
    disk.commits.commit(1, a_batch(1))
    disk.commits.commit(2, a_batch(2))
    assert disk.failures == ["no"]
    assert disk.committed == []


def test_a_disk_that_failed_on_the_thread_is_heard_of_once_by_whoever_waits(disk: Disk) -> None:
    disk.commits.commit(1, a_batch(1))
    disk.commits.commit(2, a_batch(2))
    disk.end_refusal = StorageError("it cannot be deleted")
    disk.finish(0)
    assert disk.failures == ["it cannot be deleted"]
    assert disk.committed == [1], "that block is durable all the same"
    disk.commits.commit(3, a_batch(3))
    assert disk.did == ["begin 1"]
    assert len(disk.failures) == 1


def test_what_a_durable_block_frees_is_removed_by_the_thread_without_anybody_waiting(disk: Disk) -> None:
    disk.removal = lambda: disk.did.append("removed")
    disk.commits.commit(1, a_batch(1))
    disk.commits.commit(2, a_batch(2))
    disk.finish(0)
    assert disk.did == ["begin 1", "begin 1"]
    disk.run_job()
    assert disk.did[-1] == "removed"


def test_what_later_commits_need_is_made_a_piece_at_a_time_beside_others(disk: Disk) -> None:
    disk.preparations = ["first", "second"]
    disk.commits.commit(1, MUCH)
    disk.run_job()
    disk.commits.commit(2, a_batch(2))
    disk.run_job()
    assert disk.did == ["commit 1", "begin 1", "first"]
    disk.run_job()
    assert disk.did[-1] == "second"
    assert disk.jobs == []
