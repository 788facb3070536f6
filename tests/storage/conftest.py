"""Stores on real files for these tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardraft.config import Limits
from shardraft.kv.commands import Stored
from shardraft.raft.ready import HardState, LogWrite
from shardraft.storage.blocks import Block
from shardraft.storage.identity import create_data_directory
from shardraft.storage.store import DiskStore, open_store
from tests.contracts.store_world import (
    CHUNK_BYTES,
    CLUSTER,
    HOST,
    SHARD_MAP,
    append,
    entries,
    entry,
    flush,
    state_at,
)

LIMITS = Limits(copy_chunk_bytes=CHUNK_BYTES)


class DiskWorld:
    """``StoreWorld`` on files: a crash starts again from the files as they lie there, and closes nothing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: list[DiskStore] = []
        self._made = 0

    def make_store(self) -> DiskStore:
        directory = self.next_directory()
        create_data_directory(directory, CLUSTER, HOST)
        return self.open(directory)

    def open(self, directory: Path) -> DiskStore:
        store = open_store(directory, cluster_id=CLUSTER, host=HOST, limits=LIMITS)
        self._open.append(store)
        return store

    def close(self, store: DiskStore) -> Path:
        self._open.remove(store)
        store.close()
        return store.directory

    def reopen(self, store: DiskStore) -> DiskStore:
        return self.open(self.close(store))

    def crash(self, store: DiskStore) -> DiskStore:
        directory = self.next_directory()
        shutil.copytree(store.directory, directory)
        return self.open(directory)

    def next_directory(self) -> Path:
        self._made += 1
        return self._root / f"host-{self._made}"

    def close_all(self) -> None:
        for store in self._open:
            store.close()


@pytest.fixture
def disk_world(tmp_path: Path) -> Iterator[DiskWorld]:
    world = DiskWorld(tmp_path)
    yield world
    world.close_all()


@pytest.fixture
def used(disk_world: DiskWorld) -> Path:
    """The closed data directory of a host that ran once (``used_store``)."""
    return disk_world.close(used_store(disk_world))


def used_store(disk_world: DiskWorld) -> DiskStore:
    """Two shards, 50 entries, 200 keys."""
    store = disk_world.make_store()
    store.save_shard_map(SHARD_MAP)
    store.recover()
    append(store, LogWrite(1, 0, None, entries(1, 1, 49, term=2), HardState(2, 1, 40)))
    append(store, LogWrite(1, 0, None, (entry(1, 50, 2, b"entry-needle" * 500),)))
    flush(store, state_at(1, 30, 2), {b"%03d" % number: Stored(number, b"value-needle" * 20) for number in range(200)})
    return store


def write_block(store: DiskStore, *items: tuple[int, bytes]) -> None:
    """Write a block that has these items to the log, whatever they say; only the next start hears of it."""
    block = Block()
    for kind, content in items:
        block.add(kind, content)
    there = store._log._open
    assert there is not None
    there.segments.write(there.segments.place(block, there.logs), there.logs)


def segments_of(store: DiskStore) -> list[Path]:
    return sorted((store.directory / "log").glob("segment-*"))


def flip_everywhere(path: Path, needle: bytes) -> None:
    """Flip one bit in every place where ``needle`` stands in a file, old pages included."""
    content = path.read_bytes()
    assert needle in content
    path.write_bytes(content.replace(needle, needle[:-1] + bytes([needle[-1] ^ 0x40])))
