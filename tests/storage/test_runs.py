"""Runs: whatever lies in runs or is being merged, a read finds what one large table would hold."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from shardraft.errors import StorageError
from shardraft.kv.commands import Stored
from shardraft.storage import runs as runs_module
from shardraft.storage import state as state_module
from shardraft.storage.layout import decode_runs, encode_runs
from shardraft.storage.pacing import Pace
from shardraft.storage.runs import MERGED_RUNS, RUNS_MAX, _next_few_rows, newest_rows, next_rows
from shardraft.storage.store import DiskStore
from shardraft.storage.verify import DATABASES_MAX, read_environment
from tests.contracts.store_world import SHARD_MAP, flush, image_of, state_at
from tests.storage.conftest import DiskWorld

Table = dict[bytes, Stored]


@pytest.fixture(params=[1, 64], ids=["slices", "rows"])
def store(disk_world: DiskWorld, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> DiskStore:
    """Every flush of more than two records makes a run, and at most twelve records are merged in one transaction.

    Both ways of reading what is merged next are tried: some rows of each run at once, and row by row.
    """
    monkeypatch.setattr(runs_module, "_ROWS_AT_ONCE_MIN", request.param)
    monkeypatch.setattr(state_module, "SMALL_FLUSH_RECORDS_MAX", 2)
    monkeypatch.setattr(state_module, "MERGE_RECORDS_MAX", 12)
    store = disk_world.make_store()
    store.save_shard_map(SHARD_MAP)
    store.recover()
    return store


def flush_at_random(store: DiskStore, table: Table, random: Random, index: int, count: int) -> None:
    """Flush ``count`` changes of shard 1, a third of them deletions, and note in ``table`` what must be found."""
    keys = random.sample([b"%03d" % number for number in range(60)], count)
    changes = {key: Stored(index, random.randbytes(9)) if random.random() < 0.67 else None for key in keys}
    flush(store, state_at(1, index), changes, number=index)
    for key, stored in changes.items():
        table.pop(key, None)
        if stored is not None:
            table[key] = stored


def assert_holds(store: DiskStore, table: Table) -> None:
    assert store.scan(1, b"", b"", 1000) == sorted(table.items(), key=lambda item: item[0])
    assert store.scan(1, b"015", b"040", 7) == sorted(item for item in table.items() if b"015" <= item[0] < b"040")[:7]
    for number in range(60):
        assert store.get(1, b"%03d" % number) == table.get(b"%03d" % number)
    keys = [b"%03d" % number for number in (*range(0, 60, 7), 99, 3, 3)]
    assert store.get_many(1, keys, 1 << 20) == [table.get(key) for key in keys]
    assert store.get(2, b"z") == Stored(1, b"of another shard")


@pytest.mark.parametrize("seed", range(8))
def test_reads_find_the_newest_of_runs_and_keys_through_flushes_merges_and_crashes(
    store: DiskStore, disk_world: DiskWorld, seed: int
) -> None:
    random = Random(seed)
    table: Table = {}
    flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"of another shard")})
    runs = set()
    for index in range(1, 50):
        flush_at_random(store, table, random, index, random.choice((1, 2, 9, 20)))
        runs.add(len(store._state._runs))
        assert_holds(store, table)
        if random.random() < 0.1:
            store = disk_world.crash(store)
            store.recover()
            assert_holds(store, table)
    assert max(runs) >= MERGED_RUNS - 1
    assert min(runs) < MERGED_RUNS - 1, "runs were merged"


def test_a_crash_within_a_merge_loses_nothing_and_the_merge_begins_again(
    store: DiskStore, disk_world: DiskWorld
) -> None:
    random, table = Random(1), {}
    flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"of another shard")})
    for index in range(1, MERGED_RUNS + 1):
        flush_at_random(store, table, random, index, 6 if index == MERGED_RUNS else 50)
    assert store._state._merging, "the last flush paid for a part only"
    store = disk_world.crash(store)
    store.recover()
    assert len(store._state._runs) == MERGED_RUNS
    assert_holds(store, table)
    for index in range(MERGED_RUNS + 1, MERGED_RUNS + 4):
        flush_at_random(store, table, random, index, 50)
    assert len(store._state._runs) < MERGED_RUNS
    assert_holds(store, table)


def test_at_rest_all_runs_are_merged_piece_by_piece(store: DiskStore) -> None:
    random, table = Random(5), {}
    flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"of another shard")})
    for index in range(1, MERGED_RUNS - 2):
        flush_at_random(store, table, random, index, 30)
    assert len(store._state._runs) == MERGED_RUNS - 3
    pieces = 1
    while store.merge_at_rest():
        pieces += 1
        assert_holds(store, table)
    assert pieces > 3
    assert store._state._runs == ()
    assert_holds(store, table)
    assert not store.merge_at_rest(), "nothing is left to merge"
    with store._state.reading(b"keys") as transaction:
        assert all(record for _, record in transaction.cursor(store._state._keys)), "deletions are gone for good"


@pytest.mark.parametrize("crashes", [True, False])
def test_a_flush_or_a_crash_in_the_middle_of_a_merge_at_rest_loses_nothing(
    store: DiskStore, disk_world: DiskWorld, crashes: bool
) -> None:
    random, table = Random(6), {}
    flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"of another shard")})
    for index in range(1, 20):
        flush_at_random(store, table, random, index, 30)
        if store.merge_at_rest() and crashes:
            store = disk_world.crash(store)
            store.recover()
        assert_holds(store, table)
    assert store.merge_at_rest()


def test_a_merge_of_a_full_flush_goes_on_at_rest(store: DiskStore) -> None:
    random, table = Random(1), {}
    flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"of another shard")})
    for index in range(1, MERGED_RUNS + 2):
        flush_at_random(store, table, random, index, 6 if index >= MERGED_RUNS else 50)
    merging = store._state._merging
    assert merging, "the last flushes paid for a part only"
    assert len(store._state._runs) == len(merging) + 1
    while store._state._merging:
        assert store.merge_at_rest()
    assert len(store._state._runs) == 1
    assert_holds(store, table)


def test_a_run_that_a_crash_left_unfinished_is_never_read(store: DiskStore, disk_world: DiskWorld) -> None:
    random, table = Random(4), {}
    flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"of another shard")})
    unfinished = {b"%03d" % number: Stored(99, b"never flushed") for number in range(0, 60, 2)}
    store._state._fill(store._state._run_databases[0], [image_of(state_at(1, 9), dict(unfinished))])
    assert_holds(store, table)
    store = disk_world.crash(store)
    assert_holds(store, table)
    flush_at_random(store, table, random, 1, 9)
    assert store._state._runs == (0,)
    assert_holds(store, table)


def test_a_large_flush_is_many_transactions_and_visible_with_the_last(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "TRANSACTION_BYTES_MAX", 100)
    monkeypatch.setattr(state_module, "PUT_RECORDS_MAX", 3)
    flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"of another shard")})
    before = store._state.lmdb.info()["last_txnid"]
    seen = []
    put_machine = store._state._put_machine
    monkeypatch.setattr(
        store._state, "_put_machine", lambda *image: (seen.append(store.get(1, b"059")), put_machine(*image))
    )
    table: Table = {b"%03d" % number: Stored(1, b"v" * 20) for number in range(60)}
    flush(store, state_at(1, 1), dict(table), number=2)
    assert store._state.lmdb.info()["last_txnid"] - before > 10
    assert seen == [None], "one machine state, written when nothing of the flush could be read yet"
    assert_holds(store, table)


def test_records_are_merged_by_their_size(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "TRANSACTION_BYTES_MAX", 64 << 10)
    merged = []
    put_rows = state_module.put_rows

    def counting(cursor: Any, rows: list[tuple[bytes, bytes]]) -> None:
        merged.append(sum(len(record) for _, record in rows))
        put_rows(cursor, rows)

    monkeypatch.setattr(state_module, "put_rows", counting)
    for index in range(MERGED_RUNS):
        flush(store, state_at(1, index), {b"%d %d" % (index, n): Stored(1, b"v" * 30_000) for n in range(8)})
    assert merged
    assert max(merged) <= 4 * 30_012


def test_when_there_is_no_room_for_a_run_a_merge_is_finished_first(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, table = Random(2), {}
    flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"of another shard")})
    with monkeypatch.context() as never_merged:
        never_merged.setattr(state_module, "MERGED_RUNS", RUNS_MAX + 1)
        for index in range(1, RUNS_MAX + 1):
            flush_at_random(store, table, random, index, 20)
        assert len(store._state._runs) == RUNS_MAX
    flush_at_random(store, table, random, RUNS_MAX + 1, 20)
    assert len(store._state._runs) == 1
    assert_holds(store, table)


def test_a_copy_is_of_runs_and_keys_and_replaces_both(store: DiskStore, disk_world: DiskWorld) -> None:
    random, table = Random(3), {}
    flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"of another shard")})
    for index in range(1, MERGED_RUNS + 1):
        flush_at_random(store, table, random, index, 6 if index == MERGED_RUNS else 50)
    assert store._state._merging
    _, term, chunks = store.spool_copy(1, 1)
    copied, before = dict(table), MERGED_RUNS
    for index in range(before + 1, before + 3):
        flush_at_random(store, table, random, index, 50)
    for number in range(chunks):
        store.stage_chunk(1, number, store.read_chunk(1, number))
    assert store.install_copy(1, before, term) == state_at(1, before)
    assert_holds(store, copied)
    for index in range(before + 3, before + 12):
        flush_at_random(store, copied, random, index, 50)
        assert_holds(store, copied)
    store = disk_world.crash(store)
    assert_holds(store, copied)


def test_every_run_is_read_when_an_environment_is_verified(
    store: DiskStore, disk_world: DiskWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "MERGED_RUNS", RUNS_MAX + 1)
    for index in range(1, RUNS_MAX + 1):
        flush(store, state_at(1, index), {b"%d %d" % (index, n): Stored(1, b"v") for n in range(5)}, number=index)
    assert len(store._state._runs) == RUNS_MAX
    state = store._state
    with state.reading(b"meta") as transaction:
        names = [b"meta", *state_module.DATABASES, *state_module.RUN_NAMES]
        records = sum(transaction.stat(state.database(name))["entries"] for name in names)
    assert len(names) <= DATABASES_MAX
    assert records > 5 * RUNS_MAX
    disk_world.close(store)
    assert read_environment(str(state.path)) == records


@pytest.mark.parametrize("count_max", [1, 2, 7, 1000])
def test_few_large_records_are_merged_row_by_row_in_the_same_order(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, count_max: int
) -> None:
    monkeypatch.setattr(state_module, "MERGED_RUNS", RUNS_MAX + 1)
    random, table = Random(7), {}
    for index in range(1, 6):
        flush_at_random(store, table, random, index, 40)
    state = store._state
    with state.reading(b"meta") as transaction:
        runs = [state._run_databases[number] for number in state._runs]
        every = next_rows(transaction, runs, b"", 64 * len(runs))
        cursors = [transaction.cursor(run) for run in runs]
        assert _next_few_rows(cursors, b"", count_max) == every[:count_max]
        after = every[9][0]
        assert _next_few_rows(cursors, after, count_max) == every[10 : 10 + count_max]
        assert _next_few_rows(cursors, every[-1][0], count_max) == []


def test_nothing_is_merged_at_rest_into_the_last_of_a_disk(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    random, table = Random(8), {}
    for index in range(1, 4):
        flush_at_random(store, table, random, index, 30)
    enough = store._disk_free_bytes_min + 2 * store._state.runs_bytes()
    assert store._state.runs_bytes() >= 3 * 4096
    monkeypatch.setattr(store, "free_bytes", lambda: enough - 1)
    assert not store.merge_at_rest()
    assert len(store._state._runs) == 3
    monkeypatch.setattr(store, "free_bytes", lambda: enough)
    assert store.merge_at_rest()


def test_a_rest_is_no_work_that_the_next_flush_pays_for(store: DiskStore) -> None:
    random, table = Random(9), {}
    now, pauses = [0.0], []

    def work(seconds: float) -> float:
        now[0] += seconds
        return now[0]

    store._state._pace = Pace(clock=lambda: work(0.001), sleep=pauses.append)
    for index in range(1, 4):
        work(10.0)
        flush_at_random(store, table, random, index, 30)
    work(60.0)
    pauses.clear()
    while store.merge_at_rest():
        work(1.0)
    assert not pauses, "who calls it waits between the pieces, and is free for other jobs"
    work(60.0)
    flush_at_random(store, table, random, 4, 30)
    assert store._state._pace._left_seconds > 10, "the time at rest was idle"


def test_rows_of_the_first_source_hide_those_of_the_others() -> None:
    newest = [(b"a", b""), (b"b", b"2")]
    oldest = [(b"a", b"1"), (b"b", b"1"), (b"c", b"1"), (b"d", b"")]
    assert list(newest_rows([newest, oldest])) == [(b"b", b"2"), (b"c", b"1")]


def test_the_list_of_runs_is_read_as_written_and_damage_to_it_noticed() -> None:
    assert decode_runs(None) == ()
    assert decode_runs(encode_runs((7, 0, 3))) == (7, 0, 3)
    for count in (0, 8, 9, RUNS_MAX):
        assert decode_runs(encode_runs(tuple(range(count)))) == tuple(range(count))
        assert encode_runs(tuple(range(count)))[4] == (1 if count <= 8 else 2), "an earlier program says what it lacks"
    assert encode_runs((8,))[4] == 2
    with pytest.raises(StorageError, match="the stored list of runs is damaged"):
        decode_runs(encode_runs(tuple(range(12)))[:-1])
    record = bytearray(encode_runs((7, 0, 3)))
    record[9] ^= 1
    with pytest.raises(StorageError, match="the stored list of runs is damaged"):
        decode_runs(bytes(record))
