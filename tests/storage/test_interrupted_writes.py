"""What a write leaves that was cut, refused or failed, and what the next start makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.raft.ready import HardState, LogWrite
from shardraft.storage import moving, segments
from shardraft.storage.blocks import SEAL_BYTES, ItemKind, items
from shardraft.storage.log import SegmentedLog
from shardraft.storage.log_start import SECTOR_BYTES
from shardraft.storage.segment import PlacedBlock, Segment
from shardraft.types import Identity, Index, ShardId
from tests.contracts.store_world import CLUSTER, HOST, entry

IDENTITY = Identity(CLUSTER, HOST, 1, 1)


class Cut(BaseException):
    """The process ends in a write."""


def make_log(directory: Path) -> SegmentedLog:
    directory.mkdir()
    SegmentedLog.create(directory, IDENTITY)
    log = SegmentedLog(directory)
    log.recover()
    return log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentedLog]:
    log = make_log(tmp_path / "log")
    yield log
    log.close()


def write_of(shard: ShardId, index: Index, payload: bytes, hard_state: HardState | None = None) -> LogWrite:
    return LogWrite(shard, 0, None, (entry(shard, index, 1, payload),), hard_state)


def commit(log: SegmentedLog, *writes: LogWrite, compact: tuple[ShardId, Index] | None = None) -> None:
    log.commit([LogBatch(writes, ((*compact, 1),) if compact else ())])


def found_terms(directory: Path) -> int:
    log = SegmentedLog(directory)
    try:
        return len(log.recover()[1].summary.terms)
    finally:
        log.close()


def end_of(log: SegmentedLog) -> int:
    path = max(log.path.glob("segment-*"))
    return len(path.read_bytes().rstrip(b"\0"))


def cut_write(patch: pytest.MonkeyPatch, is_meant: Callable[[bytes], bool], kept: Callable[[int], int]) -> None:
    """Of the first write that is meant only so many bytes as ``kept`` says, by its place, reach the disk."""
    write = Segment._write

    def cut(self: Segment, parts: tuple[bytes, ...], at: int, fd: int) -> None:
        content = b"".join(parts)
        if not is_meant(content):
            write(self, parts, at, fd)
            return
        os.pwrite(fd, content[: kept(at)], at)
        raise Cut

    patch.setattr(Segment, "_write", cut)


def to_the_next_sector(at: int) -> int:
    return -at % SECTOR_BYTES


def test_a_seal_that_was_torn_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES_MIN", 2048)
    torn = 0
    for more in range(0, SECTOR_BYTES, 9):
        log = make_log(tmp_path / str(more))
        commit(log, write_of(1, 1, b"x" * (600 + more)))
        with monkeypatch.context() as patch:
            cut_write(patch, lambda content: len(content) == SEAL_BYTES, to_the_next_sector)
            with pytest.raises(Cut):
                commit(log, write_of(1, 2, b"x" * 1500))
        log.close()
        ended = len((log.path / "segment-00000001").read_bytes().rstrip(b"\0"))
        torn += ended % SECTOR_BYTES == 0
        assert found_terms(log.path) == 2
        assert found_terms(log.path) == 2, "it is sealed now"
    assert torn > 2


@pytest.mark.parametrize("kept", [1, 10, 19, 21, 60, 130])
def test_a_write_that_was_cut_anywhere_was_never_acknowledged(
    log: SegmentedLog, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """File systems that are no disks, and limits of a process, cut inside a sector."""
    commit(log, write_of(1, 1, b"x" * 100))
    with monkeypatch.context() as patch:
        cut_write(patch, lambda content: True, lambda at: kept)
        with pytest.raises(Cut):
            commit(log, write_of(1, 2, b"y" * 100))
    assert found_terms(log.path) == 1
    assert found_terms(log.path) == 1


def test_a_lost_sector_with_whole_blocks_behind_it_is_damage(log: SegmentedLog) -> None:
    """It is no torn block: what follows was acknowledged after it."""
    ends = []
    for index in range(1, 21):
        commit(log, write_of(1, index, b"v" * 900, HardState(index, 2, index - 1)))
        ends.append(end_of(log))
    path = log.path / "segment-00000001"
    content = path.read_bytes()
    for end in ends[4:18]:
        after = (end // SECTOR_BYTES + 1) * SECTOR_BYTES
        path.write_bytes(content[:end] + bytes(after - end) + content[after:])
        with pytest.raises(StorageError, match="and no crash leaves it so"):
            found_terms(log.path)


def test_a_flipped_bit_in_a_header_is_damage_whatever_zeros_follow(log: SegmentedLog) -> None:
    ends = []
    for index in range(1, 11):
        commit(log, write_of(1, index, bytes(1200)))
        ends.append(end_of(log))
    path = log.path / "segment-00000001"
    content = path.read_bytes()
    for end in ends[:-1]:
        for at in range(end, end + 20):
            path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
            with pytest.raises(StorageError, match="segment-00000001"):
                found_terms(log.path)


def test_what_a_failed_sync_left_is_written_again_before_anything_rests_on_it(
    log: SegmentedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel shows what it could not write and calls it clean, so a sync of it writes nothing."""
    commit(log, write_of(1, 1, b"x" * 100))
    before = end_of(log)
    write = os.pwritev

    def fail(fd: int, parts: tuple[bytes, ...], at: int) -> int:
        write(fd, parts, at)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fail)
        with pytest.raises(StorageError, match="a later one may lie"):
            commit(log, LogWrite(1, 0, None, (), HardState(5, 2, 1)))
    written: list[tuple[int, int]] = []

    def heard(fd: int, parts: tuple[bytes, ...], at: int) -> int:
        written.append((at, at + sum(map(len, parts))))
        return write(fd, parts, at)

    monkeypatch.setattr(os, "pwritev", heard)
    after = end_of(log)
    again = SegmentedLog(log.path)
    assert again.recover()[1].hard_state == HardState(5, 2, 1)
    assert (before, after) in written
    again.close()


def test_a_log_whose_write_failed_is_not_recovered_in_the_same_process(
    log: SegmentedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fail)
        with pytest.raises(StorageError, match=r"writing to .* failed"):
            log.recover()
    with pytest.raises(StorageError, match=r"writing to .* failed"):
        log.recover()


def test_moves_of_a_commit_that_was_refused_are_made_again(log: SegmentedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES_MIN", 2048)
    monkeypatch.setattr(segments, "HELD_BYTES_SPARE", 6144)
    last = 0
    for index in range(1, 40):
        compact = (1, index - 1) if index > 1 else None
        last = index
        # The first segment has its full size, so it takes a while until anything is to be moved.
        commit(log, write_of(1, index, b"x" * 60_000), write_of(2, index, b"cold"), compact=compact)
        with pytest.raises(AssertionError, match="follow the log without a gap"):
            commit(log, write_of(1, index + 5, b"x"))
        log.remove(3)
        log.reset(4, 1, 1)
    expected = [entry(2, index, 1, b"cold").encoded for index in range(1, last + 1)]
    assert log.read_entries(2, 1, last + 1, 1 << 20) == expected
    again = SegmentedLog(log.path)
    assert len(again.recover()[2].summary.terms) == last
    assert again.read_entries(2, 1, last + 1, 1 << 20) == expected
    again.close()


def held_bytes(log: SegmentedLog) -> int:
    return sum(path.stat().st_size for path in log.path.glob("segment-*"))


def test_a_little_beside_much_does_not_keep_segments(log: SegmentedLog) -> None:
    """Each segment holds one entry of a shard that is never compacted, and one of a shard that always is."""
    for index in range(1, 61):
        compact = (1, index - 1) if index > 1 else None
        commit(log, write_of(1, index, b"x" * 600_000), write_of(2, index, b"cold"), compact=compact)
        assert held_bytes(log) <= 2 * 700_000 + segments.HELD_BYTES_SPARE + 4 * segments.SEGMENT_BYTES_MIN
    assert len(log.read_entries(2, 1, 61, 1 << 20)) == 60


def test_a_log_that_became_small_gives_its_room_back_with_the_next_commits(log: SegmentedLog) -> None:
    for index in range(1, 201):
        cold = (write_of(2, index // 8, b"cold"),) if index % 8 == 0 else ()
        commit(log, write_of(1, index, b"x" * 100_000), *cold)
    assert held_bytes(log) > 20_000_000
    commit(log, compact=(1, 200))
    for term in range(1, 20):
        commit(log, LogWrite(1, 0, None, (), HardState(term, 1, 200)))
    assert held_bytes(log) <= segments.HELD_BYTES_SPARE + 3 * segments.SEGMENT_BYTES_MIN
    assert len(log.read_entries(2, 1, 26, 1 << 20)) == 25


def moved_by_each_block(patch: pytest.MonkeyPatch) -> list[list[int]]:
    """The bytes of each entry that a block moves, for all blocks from here on."""
    moved: list[list[int]] = []
    write = Segment.write

    def heard(self: Segment, placed: PlacedBlock) -> None:
        write(self, placed)
        moved.append([end - start for kind, start, end in items(placed.body) if kind == ItemKind.MOVED_ENTRY])

    patch.setattr(Segment, "write", heard)
    return moved


@pytest.mark.parametrize(
    ("limit", "value", "most"), [("MOVED_ENTRIES_MAX", 3, 3), ("MOVED_BYTES_MAX", 100, 3), ("MOVED_BYTES_MAX", 1, 1)]
)
def test_a_commit_moves_no_more_than_its_limits(
    log: SegmentedLog, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, most: int
) -> None:
    """An entry has 44 bytes, so 100 are passed with the third."""
    for index in range(1, 201):
        commit(log, write_of(1, index, b"x" * 100_000), write_of(2, index, b"cold"))
    monkeypatch.setattr(moving, limit, value)
    moved = moved_by_each_block(monkeypatch)
    commit(log, compact=(1, 200))
    for term in range(1, 10):
        commit(log, LogWrite(1, 0, None, (), HardState(term, 1, 200)))
    assert max(len(sizes) for sizes in moved) == most


def test_a_commit_empties_no_more_segments_than_its_limit(log: SegmentedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(1, 201):
        cold = (write_of(2, index // 8, b"cold"),) if index % 8 == 0 else ()
        commit(log, write_of(1, index, b"x" * 100_000), *cold)
    monkeypatch.setattr(moving, "SEGMENTS_EMPTIED_MAX", 1)
    commit(log, compact=(1, 200))
    for term in range(1, 10):
        before = len(list(log.path.glob("segment-*")))
        commit(log, LogWrite(1, 0, None, (), HardState(term, 1, 200)))
        assert before - len(list(log.path.glob("segment-*"))) <= 1


def test_what_is_moved_can_be_read_while_it_is_written(log: SegmentedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that lags asks for it at any time."""
    for index in range(1, 201):
        cold = (write_of(2, index // 8, b"cold"),) if index % 8 == 0 else ()
        commit(log, write_of(1, index, b"x" * 100_000), *cold)
    write = Segment.write
    moves = 0

    def reading(self: Segment, placed: PlacedBlock) -> None:
        nonlocal moves
        moves += any(kind == ItemKind.MOVED_ENTRY for kind, _, _ in items(placed.body))
        assert len(log.read_entries(2, 1, 26, 1 << 20)) == 25
        write(self, placed)
        assert len(log.read_entries(2, 1, 26, 1 << 20)) == 25

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "write", reading)
        commit(log, compact=(1, 200))
        for term in range(1, 20):
            commit(log, LogWrite(1, 0, None, (), HardState(term, 1, 200)))
    assert moves > 0


@pytest.mark.replaces_code
def test_a_batch_beyond_what_may_wait_is_a_bug_and_nothing_of_it_is_written(
    log: SegmentedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(log, write_of(1, 1, b"x" * 100))
    with monkeypatch.context() as patch:
        patch.setattr("shardraft.storage.blocks.BODY_BYTES_MAX", 1000)
        with pytest.raises(AssertionError, match="no larger than what may wait"):
            commit(log, write_of(1, 2, b"x" * 1000))
    commit(log, write_of(1, 2, b"x" * 1000))
    assert found_terms(log.path) == 2


def test_a_large_commit_is_written_in_several_blocks(log: SegmentedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardraft.storage.log.BLOCK_BYTES_MAX", 1000)
    blocks = []
    write = Segment.write

    def counted(self: Segment, placed: PlacedBlock) -> None:
        blocks.append(placed)
        write(self, placed)

    monkeypatch.setattr(Segment, "write", counted)
    log.commit([LogBatch((write_of(1, index, b"x" * 400),)) for index in range(1, 7)])
    assert len(blocks) == 3
    assert found_terms(log.path) == 6
