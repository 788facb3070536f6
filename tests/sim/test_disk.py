"""The simulated disk: what is on it when, what a crash leaves of it, and how it breaks."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import pytest

from shardraft.errors import StorageError
from shardraft.host.events import CopyInstalled, CopySpooled, StateFlushed
from shardraft.host.turn import InstallCopy, LogBatch, SpoolCopy, StageChunk, StateBatch
from shardraft.kv.commands import Stored
from shardraft.kv.machine import MachineImage
from shardraft.raft.entry import EntryKind, encode_entry
from shardraft.raft.ready import LogWrite
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.sim.clock import Agenda
from shardraft.sim.disk import SimDisk
from shardraft.sim.store import SimStore

SHARD_MAP = ShardMap.bootstrap(b"c" * 16, (HostPlace(1, "h1:1"),), 1)


class DiskBench:
    """A disk of one shard whose completions are kept."""

    def __init__(self, seed: int = 1) -> None:
        self.agenda = Agenda()
        self.store = SimStore(b"c" * 16, 1, SHARD_MAP, chunk_bytes=50)
        self.disk = SimDisk(self.agenda, Random(seed), self.store)
        self.committed: list[tuple[int, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.disk.on_committed = self.committed.append
        self.disk.on_event = lambda *event: self.events.append(event)

    def append(self, number: int) -> None:
        """The log batch of turn ``number`` appends the entry of that index."""
        entry = encode_entry(1, number, 1, EntryKind.NOOP, 0)
        self.disk.submit_log(number, LogBatch((LogWrite(1, 0, entries=(entry,)),)))

    def flush(self, index: int) -> None:
        state = attrs.evolve(self.store.states[1].state, last_applied=index, last_applied_term=1)
        self.disk.submit_state(StateBatch(index, (MachineImage(state, {}),)))

    @property
    def last_index(self) -> int:
        return self.store.logs[1].last_index


def test_nothing_is_on_the_disk_before_its_commit_completes() -> None:
    bench = DiskBench()
    bench.append(1)
    assert bench.last_index == 0
    assert bench.committed == []
    bench.agenda.run_until(10_000)
    assert bench.last_index == 1
    assert bench.committed == [(1,)]


def test_batches_that_wait_share_one_commit() -> None:
    bench = DiskBench()
    for number in (1, 2, 3, 4):
        bench.append(number)
    bench.agenda.run_until(10_000)
    assert bench.committed == [(1,), (2, 3, 4)]
    assert bench.last_index == 4


def test_a_crash_keeps_any_number_of_the_first_batches_and_tells_nobody() -> None:
    """Batch 1 is at work, and 2 to 4 would have shared a commit: what is kept of them may be torn from the rest."""
    kept = set()
    for seed in range(60):
        bench = DiskBench(seed)
        for number in (1, 2, 3, 4):
            bench.append(number)
        bench.disk.crash()
        bench.agenda.run_until(10_000)
        assert bench.committed == [], "nobody is told any more"
        assert bench.disk.torn == (bench.last_index in (2, 3))
        kept.add(bench.last_index)
    assert kept == {0, 1, 2, 3, 4}


def test_a_disk_that_hangs_finishes_nothing_until_it_is_released() -> None:
    bench = DiskBench()
    bench.append(1)
    bench.disk.hang(log=True, state=False)
    bench.append(2)
    bench.flush(0)
    bench.agenda.run_until(60_000_000)
    assert (bench.committed, bench.last_index) == ([], 0)
    assert bench.events == [(StateFlushed, 0)], "the state's disk does not hang"
    assert bench.disk.log_at_work_since_us == 0
    bench.disk.release()
    bench.agenda.run_until(60_010_000)
    assert (bench.committed, bench.last_index) == ([(1,), (2,)], 2)


def test_a_disk_that_hangs_does_so_for_the_next_process_too() -> None:
    bench = DiskBench()
    bench.disk.hang(log=True, state=True)
    bench.append(1)
    bench.disk.crash()
    last_index = bench.last_index
    bench.append(last_index + 1)
    bench.flush(0)
    bench.agenda.run_until(60_000_000)
    assert (bench.committed, bench.events, bench.last_index) == ([], [], last_index)
    bench.disk.release()
    bench.agenda.run_until(60_020_000)
    assert (bench.committed, bench.events) == ([(last_index + 1,)], [(StateFlushed, 0)])


def test_an_entry_with_a_flipped_bit_is_not_read_and_no_process_starts_from_it() -> None:
    bench = DiskBench()
    for number in (1, 2, 3):
        bench.append(number)
    bench.agenda.run_until(10_000)
    store = bench.store
    store.flipped = store.logs[1].encoded[1]
    assert len(store.read_entries(1, 1, 2, 1_000)) == 1
    with pytest.raises(StorageError, match="checksum"):
        store.read_entries(1, 1, 4, 1_000)
    with pytest.raises(StorageError, match="checksum"):
        store.recover()
    store.heal()
    assert len(store.recover().shards[0].log.terms) == 3


def test_a_value_with_a_flipped_bit_is_not_read_nor_copied() -> None:
    store = DiskBench().store
    for key in (b"a", b"b"):
        store.states[1].items[key] = Stored(1, b"v")
    store.flipped = store.states[1].items[b"b"]
    assert store.get(1, b"a") == Stored(1, b"v")
    assert store.get(1, b"c") is None
    for read in (lambda: store.get(1, b"b"), lambda: store.scan(1, b"", b"", 9), lambda: store.spool_copy(1, 1)):
        with pytest.raises(StorageError, match="damaged"):
            read()
    store.heal()
    assert store.scan(1, b"", b"", 9) == [(b"a", Stored(1, b"v")), (b"b", Stored(1, b"v"))]


def test_a_flush_does_not_hold_up_the_log() -> None:
    bench = DiskBench()
    bench.flush(0)
    bench.append(1)
    bench.agenda.run_until(900)
    assert bench.committed == [(1,)]
    bench.agenda.run_until(20_000)
    assert bench.events == [(StateFlushed, 0)]


def test_a_copy_is_installed_state_first_and_then_the_log_behind_what_was_submitted() -> None:
    source, bench = DiskBench(), DiskBench()
    for number in (1, 2):
        source.append(number)
    source.flush(2)
    source.agenda.run_until(20_000)
    source.disk.submit_state(SpoolCopy(1, 7))
    source.agenda.run_until(40_000)
    (_, _, _, index, term, chunks) = source.events[-1]
    assert source.events[-1][0] is CopySpooled
    bench.append(1)
    for number in range(chunks):
        bench.disk.submit_state(StageChunk(1, number, source.store.read_chunk(7, number)))
    bench.disk.submit_state(InstallCopy(1, 5, index, term))
    bench.agenda.run_until(100_000)
    assert bench.events == [(CopyInstalled, 1, 5, source.store.states[1].state)]
    assert bench.store.logs[1].first_index == index + 1


def test_a_crash_may_fall_between_the_halves_of_an_install() -> None:
    """Then the state is the copy's and the log is not: recovery makes one of them (PROTOCOL, snapshots)."""
    seen = set()
    for seed in range(60):
        source, bench = DiskBench(), DiskBench(seed)
        source.append(1)
        source.flush(1)
        source.agenda.run_until(20_000)
        source.store.spool_copy(1, 7)
        bench.store.stage_chunk(1, 0, source.store.read_chunk(7, 0))
        for number in range(1, len(source.store._spooled[7])):
            bench.store.stage_chunk(1, number, source.store.read_chunk(7, number))
        bench.disk.submit_state(InstallCopy(1, 5, 1, 1))
        bench.agenda.run_until(Random(seed).randrange(9_000))
        bench.disk.crash()
        seen.add((bench.store.states[1].state.last_applied, bench.store.logs[1].first_index))
        recovered = bench.store.recover().shards[0]
        assert recovered.log.first_index == recovered.state.last_applied + 1
    assert seen == {(0, 1), (1, 1), (1, 2)}
