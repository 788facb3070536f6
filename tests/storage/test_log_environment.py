"""What is particular to the log on LMDB: compacted entries leave the file in slices."""

from __future__ import annotations

import pytest

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.raft.ready import LogSummary, LogWrite
from shardraft.storage.log import SWEEP_ENTRIES_MAX
from shardraft.storage.store import LmdbStore
from tests.contracts.store_world import (
    SHARD_MAP,
    append,
    compact,
    encoded,
    entries,
    entry,
    flush,
    read,
    recovered,
    state_at,
)
from tests.storage.conftest import LmdbWorld

MANY = 5 * SWEEP_ENTRIES_MAX // 2


@pytest.fixture
def store(lmdb_world: LmdbWorld) -> LmdbStore:
    """Shards 1 and 2 with ``MANY`` + 10 entries each, their state flushed to the end."""
    store = lmdb_world.make_store()
    store.save_shard_map(SHARD_MAP)
    store.recover()
    for shard in (1, 2):
        append(store, LogWrite(shard, 0, None, entries(shard, 1, MANY + 10)))
        flush(store, state_at(shard, MANY + 10), {})
    return store


def in_the_file(store: LmdbStore) -> int:
    with store._log.reading(b"entries") as transaction:
        return transaction.stat(store._log.database(b"entries"))["entries"]


def test_compacted_entries_are_deleted_a_bounded_number_per_commit(store: LmdbStore) -> None:
    before = in_the_file(store)
    compact(store, 1, MANY)
    assert in_the_file(store) == before - SWEEP_ENTRIES_MAX
    append(store, LogWrite(2, 0, None, (entry(2, MANY + 11),)))
    assert in_the_file(store) == before + 1 - 2 * SWEEP_ENTRIES_MAX
    append(store, LogWrite(2, 0, None, (entry(2, MANY + 12),)))
    assert in_the_file(store) == before + 2 - MANY
    append(store, LogWrite(2, 0, None, (entry(2, MANY + 13),)))
    assert in_the_file(store) == before + 3 - MANY


def test_compacted_entries_are_gone_for_readers_before_they_are_deleted(
    store: LmdbStore, lmdb_world: LmdbWorld
) -> None:
    compact(store, 1, MANY)
    for again in (store, lmdb_world.crash(store)):
        assert recovered(again, 1).log == LogSummary(MANY + 1, 1, (1,) * 10, (len(entry(1, 1).encoded),) * 10)
        with pytest.raises(StorageError, match=f"at {MANY} is compacted"):
            read(again, 1, MANY, MANY + 1)
        assert read(again, 1, MANY + 1, MANY + 3) == encoded(entries(1, MANY + 1, MANY + 2))


def test_the_rest_is_deleted_after_a_crash(store: LmdbStore, lmdb_world: LmdbWorld) -> None:
    compact(store, 1, MANY)
    again = lmdb_world.crash(store)
    again.recover()
    for index in range(MANY + 11, MANY + 14):
        append(again, LogWrite(1, 0, None, (entry(1, index),)))
    assert in_the_file(again) == MANY + 10 + 10 + 3


def test_two_shards_share_the_bound(store: LmdbStore) -> None:
    before = in_the_file(store)
    store.commit_log([LogBatch(compactions=((1, MANY, 1), (2, 100, 1)))])
    assert in_the_file(store) == before - SWEEP_ENTRIES_MAX
    store.commit_log([LogBatch()])
    assert in_the_file(store) == before - 2 * SWEEP_ENTRIES_MAX
    store.commit_log([LogBatch()])
    assert in_the_file(store) == before - MANY - 100


def test_compacting_further_while_entries_wait_to_be_deleted(store: LmdbStore, lmdb_world: LmdbWorld) -> None:
    compact(store, 1, MANY - 5)
    compact(store, 1, MANY)
    for _ in range(3):
        store.commit_log([LogBatch()])
    assert in_the_file(store) == MANY + 10 + 10
    assert recovered(lmdb_world.crash(store), 1).log.first_index == MANY + 1


def test_a_reset_while_entries_wait_to_be_deleted_leaves_none(store: LmdbStore, lmdb_world: LmdbWorld) -> None:
    compact(store, 1, MANY)
    store.reset_log(1, MANY + 100, 3)
    assert in_the_file(store) == MANY + 10
    flush(store, state_at(1, MANY + 100, 3), {})
    append(store, LogWrite(1, 0, None, (entry(1, MANY + 101, 3),)))
    again = lmdb_world.crash(store)
    assert recovered(again, 1).log.terms == (3,)
    assert in_the_file(again) == MANY + 10 + 1


def test_a_log_may_be_reset_below_its_base(store: LmdbStore, lmdb_world: LmdbWorld) -> None:
    """A replica that diverged is made anew from an older copy."""
    compact(store, 1, MANY)
    flush(store, state_at(1, 50, 7), {})
    store.reset_log(1, 50, 7)
    append(store, LogWrite(1, 0, None, entries(1, 51, 60, term=8)))
    again = lmdb_world.crash(store)
    assert recovered(again, 1).log.terms == (8,) * 10
    assert read(again, 1, 51, 61) == encoded(entries(1, 51, 60, term=8))


def test_a_log_without_a_state_is_refused(store: LmdbStore) -> None:
    append(store, LogWrite(9, 0, None, (entry(9, 1),)))
    with pytest.raises(StorageError, match="the log knows shard 9 and the state does not"):
        store.recover()
