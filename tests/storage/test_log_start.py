"""What a crash may leave of the log is told from what the disk damaged, sector by sector."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.raft.ready import HardState, LogWrite
from shardraft.storage.blocks import Block
from shardraft.storage.log_start import SECTOR_BYTES, read_log
from shardraft.storage.segment import BLOCKS_UNDER_WAY_MAX, PlacedBlock
from shardraft.storage.store import DiskStore, open_store
from tests.contracts.store_world import CLUSTER, HOST, append, entry, read, recovered
from tests.storage.conftest import DiskWorld, segments_of, used_store

LAST_BYTES = 1500
"""The payload of the last entry: its block covers four sectors, the first and the last in part."""


@pytest.fixture
def before_and_after(disk_world: DiskWorld) -> tuple[DiskStore, bytes, bytes]:
    """A store, and its segment without and with one more block, which has an entry at 51 and term 3."""
    store = used_store(disk_world)
    (segment,) = segments_of(store)
    before = segment.read_bytes()
    append(store, LogWrite(1, 0, None, (entry(1, 51, 3, b"x" * LAST_BYTES),), HardState(3, 2, 50)))
    return store, before, segment.read_bytes()


def block_span(before: bytes, after: bytes) -> tuple[int, int]:
    """Where the last block begins and ends."""
    return len(before.rstrip(b"\0")), len(after.rstrip(b"\0"))


def test_a_block_of_which_sectors_are_missing_was_never_acknowledged(
    before_and_after: tuple[DiskStore, bytes, bytes], disk_world: DiskWorld
) -> None:
    store, before, after = before_and_after
    start, end = block_span(before, after)
    sectors = range(start // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1)
    assert len(sectors) >= 4
    (segment,) = segments_of(store)
    for written in itertools.product((False, True), repeat=len(sectors)):
        content = bytearray(before)
        for sector, is_written in zip(sectors, written, strict=True):
            if is_written:
                at = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
                content[at] = after[at]
        segment.write_bytes(content)
        again = disk_world.crash(store)
        found = recovered(again, 1)
        assert len(found.log.terms) == 50 + all(written)
        assert found.hard_state == (HardState(3, 2, 50) if all(written) else HardState(2, 1, 40))
        append(again, LogWrite(1, 1, 51, (entry(1, 51, 4, b"other"),), HardState(4, 2, 50)))
        once_more = disk_world.crash(again)
        assert recovered(once_more, 1).log.terms[-1] == 4
        assert read(once_more, 1, 51, 52) == [entry(1, 51, 4, b"other").encoded]
        disk_world.close(again)
        disk_world.close(once_more)


@pytest.fixture
def three_under_way(disk_world: DiskWorld) -> tuple[DiskStore, bytes, list[PlacedBlock]]:
    """A store, its segment, and three blocks that have their places in it, of which none is written."""
    store = used_store(disk_world)
    (segment,) = segments_of(store)
    before = segment.read_bytes()
    placed = []
    for index, payload_bytes in ((51, 700), (52, 100), (53, 900)):
        write = LogWrite(1, 0, None, (entry(1, index, 3, b"x" * payload_bytes),), HardState(3, 2, index - 1))
        block = store.begin_commit([LogBatch((write,))])
        assert block is not None
        placed.append(block)
    return store, before, placed


def test_blocks_that_were_under_way_count_as_far_as_all_before_them_are_whole(
    three_under_way: tuple[DiskStore, bytes, list[PlacedBlock]], disk_world: DiskWorld
) -> None:
    """Every combination of sectors of all three, each of which a crash may leave."""
    store, before, placed = three_under_way
    after = bytearray(before)
    for block in placed:
        content = b"".join(block.parts)
        after[block.at : block.at + len(content)] = content
    begin, end = placed[0].at, len(bytes(after).rstrip(b"\0"))
    sectors = range(begin // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1)
    assert len(sectors) >= 4
    ends = [*(block.at for block in placed[1:]), end]
    (segment,) = segments_of(store)
    for written in itertools.product((False, True), repeat=len(sectors)):
        content = bytearray(before)
        for sector, is_written in zip(sectors, written, strict=True):
            if is_written:
                content[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES] = after[
                    sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES
                ]
        whole = sum(content[begin:its_end] == after[begin:its_end] for its_end in ends)
        segment.write_bytes(content)
        again = disk_world.crash(store)
        assert len(recovered(again, 1).log.terms) == 50 + whole
        write = LogWrite(1, 0, None, (entry(1, 51 + whole, 4, b"other"),), HardState(4, 2, 50))
        append(again, write)
        once_more = disk_world.crash(again)
        assert recovered(once_more, 1).log.terms[-1] == 4, "nothing of what was torn comes back"
        disk_world.close(again)
        disk_world.close(once_more)


def test_a_torn_block_that_a_later_one_calls_durable_is_damage(
    three_under_way: tuple[DiskStore, bytes, list[PlacedBlock]], disk_world: DiskWorld
) -> None:
    """The fourth was made after the first landed, so whatever it misses, the first was whole."""
    store, before, placed = three_under_way
    store.end_commit(placed[0])
    write = LogWrite(1, 0, None, (entry(1, 54, 3, b"x"),), None)
    fourth = store.begin_commit([LogBatch((write,))])
    assert fourth is not None
    (segment,) = segments_of(store)
    for torn, is_damage in ((0, True), (1, False), (2, False)):
        content = bytearray(before)
        for number, block in enumerate([*placed, fourth]):
            if number != torn:
                encoded = b"".join(block.parts)
                content[block.at : block.at + len(encoded)] = encoded
        segment.write_bytes(content)
        if is_damage:
            with pytest.raises(StorageError, match="and no crash leaves it so"):
                read_log(segment.parent, CLUSTER, HOST)
        else:
            assert len(read_log(segment.parent, CLUSTER, HOST).logs.logs[1].terms) == 50 + torn


def test_blocks_that_are_under_way_together_are_written_through_files_of_their_own(
    three_under_way: tuple[DiskStore, bytes, list[PlacedBlock]],
) -> None:
    """The kernel tells an open file once that a page could not be written, whichever write through it was at fault."""
    store, _, placed = three_under_way
    for index in range(54, 51 + BLOCKS_UNDER_WAY_MAX):
        block = store.begin_commit([LogBatch((LogWrite(1, 0, None, (entry(1, index, 3, b"x"),), None),))])
        assert block is not None
        placed.append(block)
    assert len({block.fd for block in placed}) == BLOCKS_UNDER_WAY_MAX
    assert len({os.fstat(block.fd).st_ino for block in placed}) == 1
    for number, block in enumerate(placed):
        os.lseek(block.fd, number, os.SEEK_SET)
    positions = {os.lseek(block.fd, 0, os.SEEK_CUR) for block in placed}
    assert len(positions) == len(placed), "opened each, not duplicated: those would share their position and the error"
    with pytest.raises(AssertionError, match="an open file of its own"):
        store.begin_commit([LogBatch((LogWrite(1, 0, None, (entry(1, 67, 3, b"x"),), None),))])


def test_what_a_value_holds_is_not_taken_for_a_block(disk_world: DiskWorld) -> None:
    """A torn block with another one behind it, whose entry is full of headers of blocks of this segment."""
    store = used_store(disk_world)
    (segment,) = segments_of(store)
    forged = b"".join(Block().encode(1, number)[0] for number in range(100))
    placed = []
    for index, payload in ((51, forged * 2), (52, forged)):
        block = store.begin_commit([LogBatch((LogWrite(1, 0, None, (entry(1, index, 3, payload),), None),))])
        assert block is not None
        placed.append(block)
    placed[1].segment.write(placed[1])
    whole = b"".join(placed[0].parts)
    content = bytearray(segment.read_bytes())
    content[placed[0].at : placed[0].at + 2000] = whole[:2000]
    segment.write_bytes(content)
    assert len(recovered(disk_world.crash(store), 1).log.terms) == 50


def test_a_start_writes_again_whatever_is_not_known_to_have_been_durable(
    three_under_way: tuple[DiskStore, bytes, list[PlacedBlock]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a sync that failed the kernel shows all three and calls them clean."""
    store, _, placed = three_under_way
    for block in placed:
        block.segment.write(block)
    written: list[tuple[int, int]] = []
    write = os.pwritev

    def heard(fd: int, parts: tuple[bytes, ...], at: int) -> int:
        written.append((at, at + sum(map(len, parts))))
        return write(fd, parts, at)

    monkeypatch.setattr(os, "pwritev", heard)
    store.recover()
    assert (placed[0].at, placed[-1].at + sum(map(len, placed[-1].parts))) in written


def test_a_flipped_bit_anywhere_in_a_block_is_damage_and_no_crash(
    before_and_after: tuple[DiskStore, bytes, bytes],
) -> None:
    store, before, after = before_and_after
    (segment,) = segments_of(store)
    for at in range(*block_span(before, after)):
        changed = bytes([after[at] ^ 0x40])
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(changed)
            file.flush()
            with pytest.raises(StorageError, match="segment-00000001"):
                read_log(segment.parent, CLUSTER, HOST)
            file.seek(at)
            file.write(after[at : at + 1])
    assert len(read_log(segment.parent, CLUSTER, HOST).logs.logs[1].terms) == 51


def test_a_flipped_bit_in_any_earlier_block_is_damage(before_and_after: tuple[DiskStore, bytes, bytes]) -> None:
    store, before, after = before_and_after
    (segment,) = segments_of(store)
    for at in range(0, block_span(before, after)[0], 37):
        content = bytearray(after)
        content[at] ^= 0x10
        segment.write_bytes(content)
        with pytest.raises(StorageError, match="segment-00000001"):
            read_log(segment.parent, CLUSTER, HOST)


def test_a_segment_without_its_first_block_is_deleted_unless_another_says_that_it_is_there(
    before_and_after: tuple[DiskStore, bytes, bytes], disk_world: DiskWorld
) -> None:
    store, _, _ = before_and_after
    second = store.directory / "log" / "segment-00000002"
    for content in (b"", bytes(1 << 20), b"\x01" * 20 + bytes(1 << 20)):
        second.write_bytes(content)
        again = disk_world.crash(store)
        assert len(recovered(again, 1).log.terms) == 51
        assert [path.name for path in segments_of(again)] == ["segment-00000001"]
    second.unlink()
    there = store._log._open
    assert there is not None
    there.segments._newest.seal(2)
    with pytest.raises(StorageError, match="segment-00000002 is missing, the log of this host needs it"):
        store.recover()
    second.write_bytes(bytes(1 << 20))
    with pytest.raises(StorageError, match="segment-00000002 has lost its first block"):
        store.recover()


def test_segments_of_another_host_are_refused(used: Path) -> None:
    with pytest.raises(StorageError, match=r"holds segments of host 1 .* put back the directory that belongs here"):
        read_log(used / "log", CLUSTER, HOST + 1)


def test_other_files_in_the_directory_are_left_alone(used: Path, disk_world: DiskWorld) -> None:
    note = used / "log" / "segment-note"
    note.write_text("mine")
    assert len(recovered(disk_world.open(used), 1).log.terms) == 50
    assert note.read_text() == "mine"


def test_a_segment_that_cannot_be_read_says_so(used: Path) -> None:
    segment = used / "log" / "segment-00000001"
    segment.unlink()
    segment.mkdir()
    with pytest.raises(StorageError, match=r"log cannot be read \(.*Is a directory.*check the disk"):
        open_store(used, cluster_id=CLUSTER, host=HOST)
