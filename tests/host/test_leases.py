"""Opt-in leases: a linearizable read is answered from a round that was acknowledged before it arrived."""

from __future__ import annotations

import pytest

from shardraft.config import HostConfig, RaftConfig
from shardraft.kv.requests import Consistency, ReadReply, ReadRequest
from tests.host.cluster import Cluster

SHARD = 1


@pytest.mark.parametrize("lease_ms", [0, 300])
def test_only_under_a_lease_a_read_needs_no_round(lease_ms: int) -> None:
    cluster = Cluster(config=HostConfig(raft=RaftConfig(lease_ms=lease_ms)))
    cluster.run(3)
    leader = cluster.leader_of(SHARD)
    found = cluster.shard_map.shard_by_id(SHARD)
    assert found is not None
    key = (found.key_range.start or b"\0\0") + b"k"
    cluster.ask(leader, ReadRequest(1, SHARD, 1, 5_000, Consistency.LINEARIZABLE, (key,)))
    cluster.turn(leader)  # Nobody else takes a turn, so nothing that it sends is acknowledged.
    assert isinstance(cluster.reply_to(leader, 1), ReadReply) == bool(lease_ms)
    cluster.settle()
    assert isinstance(cluster.reply_to(leader, 1), ReadReply)
