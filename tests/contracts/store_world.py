"""What the contract of the ``Store`` port is told in: worlds, sample values, and the few steps that stories share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pytest

from shardraft.host.ports import RecoveredShard, Store
from shardraft.host.turn import LogBatch, StateBatch
from shardraft.kv.commands import BatchResult, Stored
from shardraft.kv.machine import MachineImage, MachineState, SessionRecord
from shardraft.kv.records import encode_record
from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.membership import encode_membership
from shardraft.raft.ready import LogWrite
from shardraft.shards.keyspace import KeyRange
from shardraft.shards.shard_map import HostPlace, Partitioning, Shard, ShardMap
from shardraft.types import Index, Membership, ShardId, Term

CLUSTER = bytes(range(16))
HOST = 1
CHUNK_BYTES = 4096

LOWER = KeyRange(b"", b"m")
UPPER = KeyRange(b"m", b"")
MEMBERSHIP = Membership.of({1: 1, 2: 2, 3: 3})
SHARD_MAP = ShardMap(
    cluster_id=CLUSTER,
    epoch=1,
    partitioning=Partitioning.RANGE,
    slots=1024,
    hosts=(HostPlace(1, "h1:1"), HostPlace(2, "h2:1"), HostPlace(3, "h3:1")),
    shards=(Shard(1, LOWER, MEMBERSHIP), Shard(2, UPPER, MEMBERSHIP)),
)
CHANGED_MEMBERSHIP = encode_membership(Membership.of({1: 1, 2: 2, 8: 3}))
SESSIONS = (
    SessionRecord(b"s" * 16, 77, 3, ((3, (), BatchResult(9, b"\x01\x04", (5,))), (5, (2,), BatchResult(11, b"\x02")))),
    SessionRecord(b"t" * 16, 78, 1, ()),
)


class StoreWorld(Protocol):
    """Where stores come from. ``reopen`` and ``crash`` end the given store; the one they return goes on."""

    def make_store(self) -> Store:
        """An empty store that was never used; each call another one."""
        ...

    def reopen(self, store: Store) -> Store:
        """Close it properly and start again."""
        ...

    def crash(self, store: Store) -> Store:
        """Start again from what was committed."""
        ...


def entry(shard: ShardId, index: Index, term: Term = 1, payload: bytes = b"payload") -> Entry:
    return encode_entry(shard, index, term, EntryKind.BATCH, index, payload)


def entries(shard: ShardId, first: Index, last: Index, term: Term = 1) -> tuple[Entry, ...]:
    return tuple(entry(shard, index, term) for index in range(first, last + 1))


def append(store: Store, *writes: LogWrite) -> None:
    store.commit_log([LogBatch(writes=writes)])


def compact(store: Store, shard: ShardId, index: Index, term: Term = 1) -> None:
    store.commit_log([LogBatch(compactions=((shard, index, term),))])


def state_at(shard: ShardId, index: Index, term: Term = 1, sessions: tuple[SessionRecord, ...] = ()) -> MachineState:
    key_range = LOWER if shard == 1 else UPPER
    return MachineState(
        shard, key_range, 1, index, term, 1000 + index, 10 * index, 500 + index, sessions, CHANGED_MEMBERSHIP, 9
    )


def flush(store: Store, state: MachineState, changes: dict[bytes, Stored | None], number: int = 1) -> None:
    store.commit_state(StateBatch(number, (image_of(state, changes),)))


def image_of(state: MachineState, changes: dict[bytes, Stored | None]) -> MachineImage:
    records = {key: None if stored is None else encode_record(key, stored) for key, stored in changes.items()}
    return MachineImage(state, records)


def started(store: Store) -> Store:
    """``store`` once it was recovered, as every process does first."""
    store.recover()
    return store


def recovered(store: Store, shard: ShardId) -> RecoveredShard:
    return next(found for found in store.recover().shards if found.shard == shard)


def read(store: Store, shard: ShardId, low: Index, high: Index, bytes_max: int = 1 << 20) -> list[bytes]:
    return store.read_entries(shard, low, high, bytes_max)


def encoded(some: Sequence[Entry]) -> list[bytes]:
    return [one.encoded for one in some]


def send_copy(source: Store, shard: ShardId, target: Store, copy_id: int = 7) -> tuple[Index, Term]:
    """Spool a copy in one store and stage all of it in another."""
    index, term, chunks = source.spool_copy(shard, copy_id)
    for number in range(chunks):
        target.stage_chunk(shard, number, source.read_chunk(copy_id, number))
    return index, term


class StoreStories:
    """Where every part of the contract begins."""

    @pytest.fixture
    def world(self) -> StoreWorld:
        raise NotImplementedError

    @pytest.fixture
    def store(self, world: StoreWorld) -> Store:
        """A store that holds the map and its two empty shards."""
        store = world.make_store()
        store.save_shard_map(SHARD_MAP)
        return started(store)
