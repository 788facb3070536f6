"""The log: boundaries, bytes, generations."""

from __future__ import annotations

import pytest

from shardraft.errors import Compacted, StorageError
from shardraft.raft.entry import HEADER_BYTES, Entry, EntryKind, encode_entry
from shardraft.raft.log import RaftLog
from shardraft.raft.ready import HardState, LogSummary, LogWrite
from shardraft.types import Index, Term
from tests.raft.law import SHARD, Disk

KIB = 1024
ALL = 1 << 30


def entry(index: Index, term: Term, payload_bytes: int = 0) -> Entry:
    return encode_entry(SHARD, index, term, EntryKind.BATCH, 0, bytes(payload_bytes))


def entries(first: Index, terms: tuple[Term, ...], payload_bytes: int = 0) -> list[Entry]:
    return [entry(index, term, payload_bytes) for index, term in enumerate(terms, first)]


def empty_log(disk: Disk | None = None, cache_bytes_max: int = ALL) -> RaftLog:
    disk = disk or Disk()
    return RaftLog(SHARD, disk, disk.summary(), cache_bytes_max=cache_bytes_max)


def stored_log(terms: tuple[Term, ...], cache_bytes_max: int = ALL) -> tuple[RaftLog, Disk]:
    disk = Disk()
    disk.entries = entries(1, terms)
    return empty_log(disk, cache_bytes_max), disk


def write(log: RaftLog, disk: Disk) -> LogWrite:
    taken = log.take_write()
    assert taken is not None
    disk.write(taken)
    return taken


def indexes(found: tuple[Entry, ...]) -> list[Index]:
    return [each.index for each in found]


def test_a_fresh_log_begins_at_index_1_after_term_0() -> None:
    log = empty_log()
    assert (log.first_index, log.last_index, log.last_term, log.persisted_index) == (1, 0, 0, 0)
    assert (log.term_at(0), log.term_at(1)) == (0, None)


def test_a_stored_log_is_persisted_and_read_from_the_store() -> None:
    log, disk = stored_log((1, 1, 2))
    assert (log.last_index, log.last_term, log.persisted_index) == (3, 2, 3)
    assert [log.term_at(index) for index in range(5)] == [0, 1, 1, 2, None]
    assert log.entries(1, 4, ALL) == tuple(disk.entries)
    assert log.log_bytes == 3 * HEADER_BYTES


def test_terms_before_the_first_index_are_unknown_but_for_the_one_just_before_it() -> None:
    log, _ = stored_log((1, 2, 3, 3))
    log.compact_to(2)
    assert [log.term_at(index) for index in range(6)] == [None, None, 2, 3, 3, None]
    assert log.first_index == 3


def test_reading_a_compacted_entry_says_what_is_still_there() -> None:
    log, _ = stored_log((1, 2, 3))
    log.compact_to(2)
    with pytest.raises(Compacted) as refusal:
        log.entries(2, 4, ALL)
    assert (refusal.value.first_index, refusal.value.shard) == (3, SHARD)


def test_compacting_twice_or_backwards_changes_nothing() -> None:
    log, _ = stored_log((1, 2, 3))
    log.compact_to(2)
    log.compact_to(1)
    assert (log.first_index, log.log_bytes) == (3, HEADER_BYTES)


def test_a_log_compacted_to_its_end_is_empty_and_goes_on() -> None:
    log, _ = stored_log((1, 2, 3))
    log.compact_to(3)
    assert (log.first_index, log.last_index, log.last_term, log.log_bytes) == (4, 3, 3, 0)
    log.append([entry(4, 3)])
    assert indexes(log.entries(4, 5, ALL)) == [4]


def test_unpersisted_entries_are_never_compacted() -> None:
    log = empty_log()
    log.append(entries(1, (1, 1)))
    with pytest.raises(AssertionError, match="never compacted"):
        log.compact_to(1)


def test_entries_stop_at_the_byte_limit_but_there_is_always_one() -> None:
    log = empty_log()
    log.append(entries(1, (1, 1, 1, 1), payload_bytes=KIB - HEADER_BYTES))
    assert indexes(log.entries(1, 5, 3 * KIB)) == [1, 2, 3]
    assert indexes(log.entries(1, 5, 3 * KIB - 1)) == [1, 2]
    assert indexes(log.entries(2, 5, 0)) == [2]
    assert log.entries(3, 3, ALL) == ()


def test_a_read_continues_from_the_store_into_memory() -> None:
    log, disk = stored_log((1, 1))
    log.append(entries(3, (2, 2)))
    assert indexes(log.entries(1, 5, ALL)) == [1, 2, 3, 4]
    assert disk.reads == 1
    assert indexes(log.entries(3, 5, ALL)) == [3, 4]
    assert disk.reads == 1


def test_the_byte_limit_holds_across_store_and_memory() -> None:
    log, _ = stored_log((1, 1))
    log.append(entries(3, (2, 2)))
    assert indexes(log.entries(1, 5, 3 * HEADER_BYTES)) == [1, 2, 3]
    assert indexes(log.entries(1, 5, 2 * HEADER_BYTES)) == [1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([], id="nothing"),
        pytest.param([entry(2, 1).encoded], id="another index"),
        pytest.param([entry(1, 2).encoded], id="another term"),
        pytest.param([entry(1, 1).encoded, entry(2, 1).encoded], id="too many"),
    ],
)
def test_a_store_that_returns_other_entries_is_refused(wrong: list[bytes]) -> None:
    class WrongDisk(Disk):
        def read_entries(self, shard: int, low: Index, high: Index, bytes_max: int) -> list[bytes]:
            return wrong

    log = RaftLog(SHARD, WrongDisk(), LogSummary(terms=(1,), sizes=(40,)), cache_bytes_max=ALL)
    with pytest.raises(StorageError):
        log.entries(1, 2, ALL)


def test_unpersisted_entries_stay_in_memory_whatever_the_cache_limit() -> None:
    disk = Disk()
    log = empty_log(disk, cache_bytes_max=2 * KIB)
    log.append(entries(1, (1,) * 10, payload_bytes=KIB))
    assert indexes(log.entries(1, 11, ALL)) == list(range(1, 11))
    assert disk.reads == 0


def test_persisted_entries_leave_memory_at_the_cache_limit() -> None:
    disk = Disk()
    log = empty_log(disk, cache_bytes_max=4 * KIB)
    log.append(entries(1, (1,) * 10, payload_bytes=KIB))
    log.persisted(write(log, disk))
    assert log.persisted_index == 10
    assert indexes(log.entries(9, 11, ALL)) == [9, 10]
    assert disk.reads == 0
    assert indexes(log.entries(1, 11, ALL)) == list(range(1, 11))
    assert disk.reads == 1


def test_truncation_drops_the_tail_and_raises_the_generation() -> None:
    log, _ = stored_log((1, 1, 2, 2))
    log.truncate_from(3)
    assert (log.last_index, log.last_term, log.persisted_index, log.generation) == (2, 1, 2, 1)
    assert log.log_bytes == 2 * HEADER_BYTES
    log.append([entry(3, 3)])
    assert log.take_write() == LogWrite(SHARD, 1, 3, (entry(3, 3),), None)


def test_truncating_what_no_write_was_taken_of_asks_nothing_of_the_store() -> None:
    log = empty_log()
    log.append(entries(1, (1, 1, 1)))
    log.truncate_from(2)
    taken = log.take_write()
    assert taken is not None
    assert (taken.truncate_from, indexes(taken.entries)) == (None, [1])


def test_two_truncations_before_a_write_ask_for_the_lower_one() -> None:
    log, _ = stored_log((1, 1, 1, 1))
    log.truncate_from(2)
    log.append(entries(2, (2, 2)))
    log.truncate_from(3)
    taken = log.take_write()
    assert taken is not None
    assert (taken.truncate_from, indexes(taken.entries), taken.generation) == (2, [2], 2)


def test_a_write_is_handed_out_once() -> None:
    log = empty_log()
    assert log.take_write() is None
    log.append([entry(1, 1)])
    assert log.has_unwritten
    assert log.take_write(HardState(1)) == LogWrite(SHARD, 0, None, (entry(1, 1),), HardState(1))
    assert not log.has_unwritten
    assert log.take_write() is None
    assert log.take_write(HardState(2)) == LogWrite(SHARD, 0, None, (), HardState(2))


def test_a_late_completion_of_overwritten_entries_persists_only_what_was_not_overwritten() -> None:
    """PROTOCOL, "Terms, votes, turns in flight": the append ABA race of etcd-io/raft."""
    log = empty_log()
    log.append(entries(1, (1, 1, 1)))
    first = log.take_write()
    log.truncate_from(2)
    log.append(entries(2, (2, 2)))
    second = log.take_write()
    assert first is not None
    assert second is not None
    log.persisted(first)
    assert log.persisted_index == 1, "entries 2 and 3 of term 2 are still being written"
    log.persisted(second)
    assert log.persisted_index == 3


def test_the_lowest_of_several_truncations_bounds_every_older_completion() -> None:
    log = empty_log()
    writes = []
    for generation, index in enumerate((1, 5, 3, 4), 1):
        if index <= log.last_index:
            log.truncate_from(index)
        log.append(entries(index, (generation,) * (8 - index)))
        taken = log.take_write()
        assert taken is not None
        writes.append(taken)
    reached = []
    for each in writes:
        log.persisted(each)
        reached.append(log.persisted_index)
    assert reached == [2, 2, 3, 7]


def test_truncation_lowers_what_was_persisted() -> None:
    log, _ = stored_log((1, 1, 1))
    log.truncate_from(2)
    log.append([entry(2, 2)])
    assert log.persisted_index == 1


def test_a_reset_log_is_empty_and_late_completions_do_not_reach_beyond_it() -> None:
    log = empty_log()
    log.append(entries(1, (1,) * 9))
    taken = log.take_write()
    assert taken is not None
    log.reset(5, 4)
    assert (log.first_index, log.last_index, log.last_term, log.persisted_index) == (6, 5, 4, 5)
    assert (log.log_bytes, log.generation, log.has_unwritten) == (0, 1, False)
    log.append(entries(6, (4, 4)))
    log.persisted(taken)
    assert log.persisted_index == 5


@pytest.mark.parametrize(("bytes_max", "cut"), [(4 * KIB, 0), (4 * KIB - 1, 1), (2 * KIB, 2), (1, 4), (0, 4)])
def test_the_cut_for_bytes_leaves_as_much_as_fits(bytes_max: int, cut: Index) -> None:
    log = empty_log()
    log.append(entries(1, (1,) * 4, payload_bytes=KIB - HEADER_BYTES))
    assert log.cut_for_bytes(bytes_max) == cut


def test_the_cut_of_a_compacted_log_is_an_index() -> None:
    log, _ = stored_log((1,) * 6)
    log.compact_to(2)
    assert log.cut_for_bytes(ALL) == 2
    assert log.cut_for_bytes(3 * HEADER_BYTES) == 3


@pytest.mark.parametrize(
    ("term", "limit", "index"), [(9, 9, 7), (3, 7, 6), (3, 4, 4), (2, 7, 4), (1, 7, 2), (0, 7, 0), (9, 0, 0)]
)
def test_the_last_index_of_a_term_at_most_is_found(term: Term, limit: Index, index: Index) -> None:
    log, _ = stored_log((1, 1, 2, 2, 3, 3, 5))
    assert log.last_index_of_term_at_most(term, limit) == index


def test_entries_must_follow_the_log() -> None:
    log, _ = stored_log((1, 3))
    with pytest.raises(AssertionError, match="does not follow"):
        log.append([entry(4, 3)])
    with pytest.raises(AssertionError, match="never fall"):
        log.append([entry(3, 2)])


def test_a_log_stands_alone_with_committed_entries_only() -> None:
    """A learner's use: append, write, persist, compact, and read back what its children want."""
    disk = Disk()
    log = RaftLog(SHARD, disk, LogSummary(first_index=11, previous_term=3), cache_bytes_max=KIB)
    for index in range(11, 31):
        log.append([entry(index, 3, payload_bytes=100)])
        if index % 5 == 0:
            if disk.last_index == 0:
                disk.reset(10, 3, 0)
            log.persisted(write(log, disk))
    log.compact_to(15)
    assert (log.first_index, log.last_index, log.persisted_index) == (16, 30, 30)
    assert indexes(log.entries(16, 31, ALL)) == list(range(16, 31))
