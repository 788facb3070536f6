"""One real local cluster for all tests of commands; a test that kills or restarts things makes its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dev_cluster import DevCluster, dev_cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    with dev_cluster(tmp_path_factory.mktemp("cluster"), "--shards", "4", "--learners", "1,1") as running:
        yield running
