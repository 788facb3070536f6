"""The contract of the ``Store`` port: what every implementation of it promises, real or simulated.

An implementation passes it by a subclass that offers the fixture ``world``::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def world(self, tmp_path): ...

A ``StoreWorld`` makes stores of host ``HOST`` in cluster ``CLUSTER`` whose copies have chunks of about
``CHUNK_BYTES``, reopens them, and crashes them: after a crash only what was committed is there. Each store it
returns is as it is before ``recover``.
"""

from __future__ import annotations

from shardraft.host.making import first_state
from shardraft.host.ports import RecoveredShard, Store
from shardraft.host.turn import StateBatch
from shardraft.kv.commands import Stored
from shardraft.raft.ready import HardState, LogSummary, LogWrite
from shardraft.shards.shard_map import Partitioning, ShardMap
from tests.contracts.store_copies import StoreCopiesContract
from tests.contracts.store_log import StoreLogContract
from tests.contracts.store_replicas import StoreReplicasContract
from tests.contracts.store_world import (
    CHUNK_BYTES,
    CLUSTER,
    HOST,
    SESSIONS,
    SHARD_MAP,
    StoreWorld,
    append,
    entries,
    flush,
    image_of,
    recovered,
    started,
    state_at,
)

__all__ = ["CHUNK_BYTES", "CLUSTER", "HOST", "StoreContract", "StoreWorld"]


class StoreContract(StoreLogContract, StoreCopiesContract, StoreReplicasContract):
    """The whole contract. Subclass it, and offer ``world``."""

    # Start.

    def test_an_unused_store_has_no_map_and_no_shards(self, world: StoreWorld) -> None:
        found = world.make_store().recover()
        assert found.shard_map is None
        assert found.shards == ()
        assert (found.identity.cluster_id, found.identity.host) == (CLUSTER, HOST)

    def test_the_map_is_kept_and_its_shards_begin_empty(self, world: StoreWorld, store: Store) -> None:
        found = world.crash(store).recover()
        assert found.shard_map == SHARD_MAP
        assert found.shards == (
            RecoveredShard(1, HardState(), LogSummary(), first_state(SHARD_MAP.shards[0], 1), 1),
            RecoveredShard(2, HardState(), LogSummary(), first_state(SHARD_MAP.shards[1], 1), 1),
        )

    def test_a_later_map_leaves_the_shards_that_exist_as_they_are(self, world: StoreWorld, store: Store) -> None:
        flush(store, state_at(1, 5), {b"a": Stored(1, b"x")})
        later = ShardMap(CLUSTER, 2, Partitioning.RANGE, 1024, SHARD_MAP.hosts, SHARD_MAP.shards)
        store.save_shard_map(later)
        again = started(world.reopen(store))
        assert again.recover().shard_map == later
        assert again.get(1, b"a") == Stored(1, b"x")
        assert recovered(again, 1).state == state_at(1, 5)

    def test_each_start_is_a_later_incarnation(self, world: StoreWorld, store: Store) -> None:
        first = store.recover().identity
        second = world.reopen(store)
        then = second.recover().identity
        third = world.crash(second).recover().identity
        assert first.incarnation < then.incarnation < third.incarnation

    # Applied state.

    def test_a_key_that_was_never_flushed_is_absent(self, store: Store) -> None:
        assert store.get(1, b"a") is None

    def test_a_flush_keeps_values_revisions_and_the_machine_state_exactly(
        self, world: StoreWorld, store: Store
    ) -> None:
        values = {b"a": Stored(1, b"one"), b"b": Stored(2**63, b""), b"\x00\xff": Stored(3, bytes(range(256)))}
        append(store, LogWrite(1, 0, entries=entries(1, 1, 3)))
        flush(store, state_at(1, 3, sessions=SESSIONS), dict(values))
        again = started(world.crash(store))
        assert {key: again.get(1, key) for key in values} == values
        assert recovered(again, 1).state == state_at(1, 3, sessions=SESSIONS)

    def test_the_largest_keys_and_values_fit(self, world: StoreWorld, store: Store) -> None:
        """A routing key is two bytes of slot and 480 of key; a value is 1 MiB (PROTOCOL, "Defaults")."""
        key, value = b"k" * 482, b"v" * (1 << 20)
        flush(store, state_at(1, 0, 0), {key: Stored(1, value)})
        again = started(world.crash(store))
        assert again.get(1, key) == Stored(1, value)
        assert again.get(1, key[:-1]) is None

    def test_a_later_flush_overwrites_and_deletes(self, world: StoreWorld, store: Store) -> None:
        flush(store, state_at(1, 0, 0), {b"a": Stored(1, b"old"), b"b": Stored(2, b"gone"), b"c": Stored(3, b"kept")})
        flush(store, state_at(1, 0, 0), {b"b": None, b"a": Stored(4, b"new"), b"never": None}, number=2)
        again = started(world.crash(store))
        assert again.scan(1, b"", b"", 10) == [(b"a", Stored(4, b"new")), (b"c", Stored(3, b"kept"))]
        assert again.get(1, b"b") is None

    def test_one_flush_writes_the_images_of_several_shards(self, world: StoreWorld, store: Store) -> None:
        images = (
            image_of(state_at(2, 0, 0), {b"z": Stored(1, b"two")}),
            image_of(state_at(1, 0, 0), {b"a": Stored(1, b"one")}),
        )
        store.commit_state(StateBatch(1, images))
        again = started(world.crash(store))
        assert (again.get(1, b"a"), again.get(2, b"z")) == (Stored(1, b"one"), Stored(1, b"two"))
        assert (again.get(2, b"a"), again.get(1, b"z")) == (None, None)

    def test_a_flush_in_any_order_of_keys_is_scanned_in_ascending_order(self, store: Store) -> None:
        keys = [b"%04d" % (number * 7919 % 3001) for number in range(3000)]
        flush(store, state_at(1, 0, 0), {key: Stored(1, key) for key in keys})
        assert store.scan(1, b"", b"", 5000) == [(key, Stored(1, key)) for key in sorted(keys)]

    def test_a_scan_has_a_start_and_an_end_and_a_limit(self, store: Store) -> None:
        flush(store, state_at(1, 0, 0), {key: Stored(1, b"v") for key in (b"a", b"b", b"ba", b"c", b"d")})
        flush(store, state_at(2, 0, 0), {b"m": Stored(1, b"v")})

        def keys(start: bytes, end: bytes, entries_max: int = 10) -> list[bytes]:
            return [key for key, _ in store.scan(1, start, end, entries_max)]

        assert keys(b"", b"") == [b"a", b"b", b"ba", b"c", b"d"]
        assert keys(b"b", b"c") == [b"b", b"ba"]
        assert keys(b"aa", b"") == [b"b", b"ba", b"c", b"d"]
        assert keys(b"b", b"", 2) == [b"b", b"ba"]
        assert keys(b"c", b"c") == []
        assert keys(b"x", b"") == []
