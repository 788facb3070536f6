"""What is particular to the state on LMDB: sorted slices, shards by host, readers beside a writer."""

from __future__ import annotations

import threading
from random import Random

import attrs
import pytest

from shardraft.errors import StorageError
from shardraft.host.making import shards_kept_on
from shardraft.kv.commands import Stored
from shardraft.shards.shard_map import HostPlace, Shard, ShardMap
from shardraft.storage.state import sorted_slices
from shardraft.storage.store import DiskStore
from shardraft.types import Membership
from tests.contracts.store_world import SHARD_MAP, flush, state_at
from tests.storage.conftest import DiskWorld

MAP_OF_FOUR = attrs.evolve(
    SHARD_MAP,
    hosts=(*SHARD_MAP.hosts, HostPlace(4, "h4:1")),
    shards=(
        attrs.evolve(SHARD_MAP.shards[0], membership=Membership.of({1: 1, 2: 2, 3: 3})),
        Shard(2, SHARD_MAP.shards[1].key_range, Membership.of({1: 2, 2: 3, 3: 4})),
    ),
)


@pytest.fixture
def store(disk_world: DiskWorld) -> DiskStore:
    store = disk_world.make_store()
    store.save_shard_map(SHARD_MAP)
    store.recover()
    return store


@pytest.mark.parametrize("order", ["random", "ascending", "descending", "equal beginnings"])
@pytest.mark.parametrize("count", [0, 1, 4_096, 4_097, 100_000])
def test_many_keys_are_sorted_in_slices(order: str, count: int) -> None:
    keys = [number.to_bytes(8, "big") for number in range(count)]
    if order == "random":
        Random(5).shuffle(keys)
    elif order == "descending":
        keys.reverse()
    elif order == "equal beginnings":
        keys = [b"\xff" * 8 + key for key in keys]
    slices = list(sorted_slices(keys))
    assert [key for some in slices for key in some] == sorted(keys)
    assert max(map(len, slices), default=0) <= 2 * 4_096


def test_a_large_flush_is_written_whole(store: DiskStore, disk_world: DiskWorld) -> None:
    random = Random(3)
    values = {random.randbytes(12): Stored(number, b"%d" % number) for number in range(40_000)}
    flush(store, state_at(1, 0, 0), dict(values))
    gone = random.sample(sorted(values), 20_000)
    flush(store, state_at(1, 0, 0), dict.fromkeys(gone), number=2)
    for key in gone:
        del values[key]
    assert dict(disk_world.crash(store).scan(1, b"", b"", 50_000)) == values


def test_a_voter_host_holds_the_shards_it_is_a_member_of_and_a_learner_all() -> None:
    assert [shard.shard for shard in shards_kept_on(MAP_OF_FOUR, 1)] == [1]
    assert [shard.shard for shard in shards_kept_on(MAP_OF_FOUR, 3)] == [1, 2]
    assert [shard.shard for shard in shards_kept_on(MAP_OF_FOUR, 100)] == [1, 2]


def test_a_map_creates_the_shards_of_this_host_only(disk_world: DiskWorld) -> None:
    store = disk_world.make_store()
    store.save_shard_map(MAP_OF_FOUR)
    assert [shard.shard for shard in store.recover().shards] == [1]


def test_the_map_of_another_cluster_is_refused(store: DiskStore) -> None:
    foreign: ShardMap = attrs.evolve(SHARD_MAP, cluster_id=b"another cluster!")
    with pytest.raises(StorageError, match="give this host the endpoints of its own cluster"):
        store.save_shard_map(foreign)
    assert store.recover().shard_map == SHARD_MAP


def test_reads_go_on_while_another_thread_flushes(store: DiskStore) -> None:
    """Every read sees one flush or the other, whole: the revisions of a scan are all equal."""
    flush(store, state_at(1, 0, 0), {b"%03d" % key: Stored(1, b"x") for key in range(500)})
    seen: set[int] = set()

    def write() -> None:
        for revision in range(2, 12):
            flush(store, state_at(1, 0, 0), {b"%03d" % key: Stored(revision, b"x") for key in range(500)})

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        revisions = {stored.revision for _, stored in store.scan(1, b"", b"", 1000)}
        assert len(revisions) == 1
        seen |= revisions
    writer.join()
    assert seen <= set(range(1, 12))
    assert store.get(1, b"000") == Stored(11, b"x")


def test_a_copy_and_a_flush_may_run_at_once(store: DiskStore) -> None:
    flush(store, state_at(1, 5), {b"%05d" % key: Stored(1, b"old" * 30) for key in range(5000)})
    spooled: list[tuple[int, int, int]] = []
    copier = threading.Thread(target=lambda: spooled.append(store.spool_copy(1, 1)))
    copier.start()
    flush(store, state_at(1, 6), {b"%05d" % key: Stored(2, b"new" * 30) for key in range(5000)}, number=2)
    copier.join()
    index, term, chunks = spooled[0]
    for number in range(chunks):
        store.stage_chunk(1, number, store.read_chunk(1, number))
    assert store.install_copy(1, index, term) == state_at(1, index)
    assert {stored.revision for _, stored in store.scan(1, b"", b"", 5000)} == {index - 4}


def test_copies_of_a_process_that_is_gone_are_removed(store: DiskStore, disk_world: DiskWorld) -> None:
    store.spool_copy(1, 1)
    store.stage_chunk(1, 0, store.read_chunk(1, 0))
    again = disk_world.crash(store)
    assert len(list((store.directory / "copies").iterdir())) == 2
    assert list((again.directory / "copies").iterdir()) == []


def test_a_dropped_copy_leaves_no_file(store: DiskStore) -> None:
    store.spool_copy(1, 1)
    store.drop_copy(1)
    store.drop_copy(1)
    assert list((store.directory / "copies").iterdir()) == []
    with pytest.raises(StorageError, match="holds no copy 1"):
        store.read_chunk(1, 0)
