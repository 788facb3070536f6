"""One cluster for all tests of bad input: what any of them does must leave it as it was for the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.eventually import eventually
from tests.process.cluster import READY_SECONDS_MAX, ProcessCluster, process_cluster

ATTACKED = """
[transport]
handshake_timeout_ms = 400
frame_timeout_ms = 800
linger_ms = 300

[limits]
outbox_bytes_max = 4000000
feed_link_bytes_in_flight_max = 2000000
connections_max = 100
"""
"""Short patience and small buffers, so that running out of them takes no time."""


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """Three hosts, two shards, and a learner of host 1."""
    directory = tmp_path_factory.mktemp("attacked")
    with process_cluster(directory, shards=2, learners={101: (1,)}, limits=ATTACKED) as cluster:
        # On a busy machine another may be elected first; that the preferred one takes over would look like harm done.
        eventually(lambda: [cluster.leader_of(shard) for shard in (1, 2)] == [1, 2], within_seconds=READY_SECONDS_MAX)
        yield cluster
