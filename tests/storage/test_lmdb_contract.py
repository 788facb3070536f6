"""The LMDB store keeps the contract of the ``Store`` port."""

from __future__ import annotations

import pytest

from tests.contracts.store_suite import StoreContract, StoreWorld


class TestLmdbStore(StoreContract):
    @pytest.fixture
    def world(self, lmdb_world: StoreWorld) -> StoreWorld:
        return lmdb_world
