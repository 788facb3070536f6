"""The simulated disk keeps the Store contract, like the real one."""

from __future__ import annotations

import pytest

from shardraft.host.ports import Store
from shardraft.sim.store import SimStore
from tests.contracts.store_suite import CHUNK_BYTES, CLUSTER, HOST, StoreContract, StoreWorld


class SimulatedStores:
    """Stores whose disk outlives them: a crash takes only what is not on it."""

    def make_store(self) -> Store:
        return SimStore(CLUSTER, HOST, chunk_bytes=CHUNK_BYTES)

    def reopen(self, store: Store) -> Store:
        store.close()
        return self.crash(store)

    def crash(self, store: Store) -> Store:
        assert isinstance(store, SimStore)
        store.crash()
        return store


class TestSimStore(StoreContract):
    @pytest.fixture
    def world(self) -> StoreWorld:
        return SimulatedStores()
