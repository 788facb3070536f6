"""A segment that is made ahead of time: zeros, whole, of the size that was asked for, and needed by nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardraft.host.turn import LogBatch
from shardraft.raft.ready import LogWrite
from shardraft.storage.log import SegmentedLog
from shardraft.storage.spare import BYTES_PER_SECOND_MAX, PIECE_BYTES, WRITE_BYTES, Spare
from shardraft.types import Identity, Index
from tests.contracts.store_world import CLUSTER, HOST, entry


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spare(tmp_path: Path, clock: Clock) -> Spare:
    return Spare(tmp_path, clock)


def begin(spare: Spare, clock: Clock, segment_bytes: int) -> None:
    clock.seconds += segment_bytes / BYTES_PER_SECOND_MAX
    spare.begin(segment_bytes)


def make(spare: Spare) -> int:
    """Make what is wanted; in how many pieces."""
    pieces = 0
    while spare.is_being_made:
        spare.go_on()
        pieces += 1
    return pieces


def test_it_is_made_a_piece_at_a_time_and_given_away_whole(spare: Spare, clock: Clock, tmp_path: Path) -> None:
    begin(spare, clock, 3 * PIECE_BYTES + 5)
    for _ in range(3):
        spare.go_on()
        assert not spare.take(tmp_path / "segment", 1)
    spare.go_on()
    assert not spare.is_being_made
    assert not spare.take(tmp_path / "segment", 3 * PIECE_BYTES + 6), "too small"
    assert spare.take(tmp_path / "segment", 3 * PIECE_BYTES + 5)
    assert (tmp_path / "segment").read_bytes() == bytes(3 * PIECE_BYTES + 5)
    assert not spare.take(tmp_path / "another", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["segment"]


def test_its_room_was_written_to(spare: Spare, clock: Clock, tmp_path: Path) -> None:
    """That is the whole point: room that is only reserved has no blocks that hold data."""
    begin(spare, clock, PIECE_BYTES)
    make(spare)
    fd = os.open(tmp_path / "spare", os.O_RDONLY)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    os.close(fd)


def test_no_call_writes_much_of_it(spare: Spare, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def write(fd: int, zeros: bytes, at: int) -> int:
        written.append((at, len(zeros)))
        return os.pwritev(fd, [zeros[: WRITE_BYTES // 2 + 5]], at)

    monkeypatch.setattr(os, "pwrite", write)
    begin(spare, clock, PIECE_BYTES + 3)
    assert make(spare) == 2
    assert max(size for _, size in written) == WRITE_BYTES
    assert spare.take(tmp_path / "segment", PIECE_BYTES + 3)
    assert (tmp_path / "segment").read_bytes() == bytes(PIECE_BYTES + 3)


def test_a_log_that_grows_too_fast_has_none(spare: Spare, clock: Clock) -> None:
    spare.begin(PIECE_BYTES)
    assert not spare.is_being_made
    clock.seconds += 0.99 * PIECE_BYTES / BYTES_PER_SECOND_MAX
    spare.begin(PIECE_BYTES)
    assert not spare.is_being_made
    clock.seconds += 1.01 * PIECE_BYTES / BYTES_PER_SECOND_MAX
    spare.begin(PIECE_BYTES)
    assert make(spare) == 1


def test_one_that_is_there_is_kept(spare: Spare, clock: Clock, tmp_path: Path) -> None:
    begin(spare, clock, PIECE_BYTES)
    make(spare)
    begin(spare, clock, 2 * PIECE_BYTES)
    assert not spare.is_being_made
    assert spare.take(tmp_path / "segment", PIECE_BYTES)


def test_a_disk_that_refuses_leaves_none(
    spare: Spare, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(spare, clock, 2 * PIECE_BYTES)
    spare.go_on()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        spare.go_on()
    assert not spare.is_being_made
    assert not spare.take(tmp_path / "segment", 1)
    assert [*tmp_path.iterdir()] == []
    spare.go_on()
    assert [*tmp_path.iterdir()] == []


def fill(log: SegmentedLog, first: Index, last: Index) -> None:
    for index in range(first, last + 1):
        log.commit([LogBatch((LogWrite(1, 0, None, (entry(1, index, 1, b"x" * 100_000),)),))])


def test_the_log_goes_on_in_the_spare_segment_and_a_start_knows_it(tmp_path: Path) -> None:
    SegmentedLog.create(tmp_path, Identity(CLUSTER, HOST, 1, 1))
    log = SegmentedLog(tmp_path)
    log.recover()
    assert log.prepare() is None
    there = log._open
    assert there is not None
    there.segments.spare._begun_at -= 1000
    fill(log, 1, 12)
    while (piece := log.prepare()) is not None:
        piece()
    made = (tmp_path / "spare").stat().st_ino
    fill(log, 13, 24)
    assert (tmp_path / "segment-00000003").stat().st_ino == made
    assert not (tmp_path / "spare").exists()
    (tmp_path / "spare").write_bytes(b"what a crash left")
    again = SegmentedLog(tmp_path)
    assert len(again.recover()[1].summary.terms) == 24
    assert not (tmp_path / "spare").exists()
    again.close()
    log.close()
