"""The contract of the ``Store`` port: replicas that come and go while a host lives."""

from __future__ import annotations

import pytest

from shardraft.errors import CopyRefused
from shardraft.host.ports import RecoveredShard, Store, Tombstone
from shardraft.kv.commands import Stored
from shardraft.kv.machine import MachineState
from shardraft.raft.ready import HardState, LogSummary, LogWrite
from tests.contracts.store_world import (
    LOWER,
    SHARD_MAP,
    UPPER,
    StoreStories,
    StoreWorld,
    append,
    encoded,
    entries,
    flush,
    read,
    recovered,
    send_copy,
    started,
    state_at,
)

THIRD = MachineState(3, LOWER, 4)
"""A shard that the map does not have."""


class StoreReplicasContract(StoreStories):
    """A part of ``StoreContract``."""

    @pytest.fixture
    def used(self, store: Store) -> Store:
        """Both shards have logs, votes and keys."""
        for shard in (1, 2):
            append(store, LogWrite(shard, 0, entries=entries(shard, 1, 3), hard_state=HardState(7, 2, 3)))
            flush(store, state_at(shard, 3), {b"k": Stored(shard, b"v")}, number=shard)
        return store

    def remove(self, store: Store, shard: int = 1, replica: int = 1) -> None:
        store.remove_replica(shard, replica)
        store.remove_log(shard)

    def test_a_new_replica_is_empty_and_keeps_its_number(self, world: StoreWorld, store: Store) -> None:
        store.create_replica(9, THIRD)
        again = started(world.crash(store))
        assert recovered(again, 3) == RecoveredShard(3, HardState(), LogSummary(), THIRD, 9)
        append(again, LogWrite(3, 0, entries=entries(3, 1, 2), hard_state=HardState(1, 0, 0)))
        assert recovered(world.crash(again), 3) == RecoveredShard(
            3, HardState(1, 0, 0), LogSummary(1, 0, (1, 1), recovered(again, 3).log.sizes), THIRD, 9
        )

    def test_of_a_removed_replica_the_number_alone_is_left(self, world: StoreWorld, used: Store) -> None:
        self.remove(used)
        found = started(world.crash(used)).recover()
        assert [shard.shard for shard in found.shards] == [2]
        assert found.tombstones == (Tombstone(1, 1),)

    def test_the_other_shards_stay_as_they_are(self, world: StoreWorld, used: Store) -> None:
        before = recovered(used, 2)
        self.remove(used)
        again = started(world.crash(used))
        assert recovered(again, 2) == before
        assert read(again, 2, 1, 4) == encoded(entries(2, 1, 3))
        assert again.get(2, b"k") == Stored(2, b"v")

    def test_a_crash_between_the_halves_of_a_removal_is_repaired_at_start(
        self, world: StoreWorld, used: Store
    ) -> None:
        """The tombstone stands with the state's end; what is left of the log goes at the start."""
        used.remove_replica(1, 1)
        again = started(world.crash(used))
        assert [shard.shard for shard in again.recover().shards] == [2]
        again.create_replica(5, MachineState(1, LOWER, 1))
        found = recovered(world.crash(again), 1)
        assert (found.log, found.hard_state, found.replica) == (LogSummary(), HardState(), 5)

    def test_a_new_replica_finds_nothing_of_the_removed_one(self, world: StoreWorld, used: Store) -> None:
        self.remove(used)
        used.create_replica(4, MachineState(1, LOWER, 1))
        assert used.get(1, b"k") is None
        again = started(world.crash(used))
        assert again.get(1, b"k") is None
        assert recovered(again, 1) == RecoveredShard(1, HardState(), LogSummary(), MachineState(1, LOWER, 1), 4)
        assert again.recover().tombstones == ()

    def test_keys_that_wait_in_runs_go_with_a_removed_replica(self, used: Store) -> None:
        flush(used, state_at(1, 3), {b"%05d" % n: Stored(n + 1, b"v") for n in range(10_000)}, number=3)
        self.remove(used)
        used.create_replica(4, MachineState(1, LOWER, 1))
        assert used.scan(1, b"", b"", 10) == []

    def test_the_map_revives_no_removed_replica(self, world: StoreWorld, used: Store) -> None:
        self.remove(used)
        used.save_shard_map(SHARD_MAP)
        found = started(world.crash(used)).recover()
        assert [shard.shard for shard in found.shards] == [2]
        assert found.tombstones == (Tombstone(1, 1),)

    def test_the_map_changes_nothing_of_a_replica_that_is_here(self, world: StoreWorld, store: Store) -> None:
        self.remove(store)
        store.create_replica(4, MachineState(1, LOWER, 1))
        store.save_shard_map(SHARD_MAP)
        assert recovered(world.crash(store), 1).replica == 4

    def test_a_number_is_never_used_again(self, store: Store) -> None:
        self.remove(store)
        with pytest.raises(AssertionError):
            store.create_replica(1, MachineState(1, LOWER, 1))

    def test_a_host_holds_one_replica_of_a_shard(self, store: Store) -> None:
        with pytest.raises(AssertionError):
            store.create_replica(4, MachineState(1, LOWER, 1))

    def test_a_removal_drops_what_was_staged(self, world: StoreWorld, used: Store) -> None:
        source = started(world.make_store())
        source.save_shard_map(SHARD_MAP)
        started(source)
        append(source, LogWrite(2, 0, entries=entries(2, 1, 3)))
        flush(source, state_at(2, 3), {b"z": Stored(1, b"z")})
        index, term = send_copy(source, 2, used)
        self.remove(used, 2)
        used.create_replica(4, MachineState(2, UPPER, 1))
        with pytest.raises(CopyRefused):
            used.install_copy(2, index, term)

    def test_a_copy_leaves_the_replica_its_number(self, world: StoreWorld, used: Store) -> None:
        target = started(world.make_store())
        target.create_replica(8, MachineState(1, LOWER, 1))
        target.install_copy(1, *send_copy(used, 1, target))
        target.reset_log(1, 3, 1)
        assert recovered(world.crash(target), 1).replica == 8
