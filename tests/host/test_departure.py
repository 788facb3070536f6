"""Preferred leaders, and how a host that will stop leaves office."""

from __future__ import annotations

import pytest

from shardraft.errors import NotLeader, Overloaded, ShardraftError
from shardraft.host.events import StopAsked
from shardraft.kv.requests import ErrorReply
from tests.host.cluster import Cluster, Process, put_batch, write_request

SHARD = 1


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.run(3)
    return cluster


def put(cluster: Cluster, process: Process, request_id: int) -> None:
    found = cluster.shard_map.shard_by_id(SHARD)
    assert found is not None
    key = (found.key_range.start or b"\0\0") + b"k"
    cluster.ask(process, write_request(request_id, SHARD, put_batch(request_id, {key: b"value"})))


def refusal(cluster: Cluster, process: Process, request_id: int) -> ShardraftError:
    reply = cluster.reply_to(process, request_id)
    assert isinstance(reply, ErrorReply), f"expected a refusal, got {reply}"
    return reply.error


def test_the_first_voters_of_the_map_lead(cluster: Cluster) -> None:
    for shard in cluster.shard_map.shards:
        membership = shard.membership
        assert cluster.leader_of(shard.shard).host.host == membership.host_of(membership.voters[0])


def test_a_host_that_will_stop_hands_over_everything_it_leads(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    led = leader.host.leads()
    assert not leader.host.departure.is_done
    leader.host.step(StopAsked(cluster.now_us))
    assert not leader.host.departure.is_done
    cluster.settle()
    assert leader.host.departure.is_done
    assert leader.host.leads() == ()
    for shard in led:
        assert leader.host.voters[shard].raft.leader_host == cluster.leader_of(shard).host.host


def test_a_write_during_the_handover_is_refused_at_once_and_then_sent_to_the_successor(cluster: Cluster) -> None:
    leader = cluster.leader_of(SHARD)
    leader.host.step(StopAsked(cluster.now_us))
    put(cluster, leader, 1)
    cluster.settle()
    refused = refusal(cluster, leader, 1)
    assert isinstance(refused, Overloaded)
    assert refused.applied == "no"
    put(cluster, leader, 2)
    cluster.settle()
    named = refusal(cluster, leader, 2)
    assert isinstance(named, NotLeader)
    assert named.leader == cluster.leader_of(SHARD).host.host


def test_a_host_that_will_stop_and_hears_nobody_keeps_its_office_and_is_done() -> None:
    cluster = Cluster(hosts=1)
    cluster.run(3)
    only = cluster.leader_of(SHARD)
    only.host.step(StopAsked(cluster.now_us))
    assert only.host.departure.is_done
    assert SHARD in only.host.leads()
