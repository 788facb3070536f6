"""The store on files keeps the contract of the ``Store`` port."""

from __future__ import annotations

import pytest

from tests.contracts.store_suite import StoreContract, StoreWorld


class TestDiskStore(StoreContract):
    @pytest.fixture
    def world(self, disk_world: StoreWorld) -> StoreWorld:
        return disk_world
