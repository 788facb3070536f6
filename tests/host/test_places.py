"""Where hosts listen, and the map that clients are told, while hosts come and go."""

from __future__ import annotations

import pytest

from shardraft.config import HostConfig, Limits
from shardraft.errors import Conflict, InvalidArgument, Overloaded, ShardraftError
from shardraft.host.events import HostMet, ShardMapKept
from shardraft.host.turn import Turn
from shardraft.kv.requests import (
    ChangeMembersRequest,
    ErrorReply,
    MapReply,
    MapRequest,
    PlaceReply,
    PlaceRequest,
)
from shardraft.shards.shard_map import ShardMap
from tests.host.cluster import CLIENT, Cluster, Process

SHARD = 1


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.run(3)
    return cluster


def told_map(cluster: Cluster, process: Process, request_id: int) -> ShardMap:
    cluster.ask(process, MapRequest(request_id))
    cluster.settle()
    reply = cluster.reply_to(process, request_id)
    assert isinstance(reply, MapReply)
    return reply.shard_map


def place(cluster: Cluster, process: Process, request_id: int, host: int, endpoint: str) -> ShardraftError | None:
    """Tell a host where another listens; what it refused it with."""
    cluster.ask(process, PlaceRequest(request_id, host, endpoint))
    cluster.settle()
    cluster.turn(process)
    reply = cluster.reply_to(process, request_id)
    if isinstance(reply, ErrorReply):
        return reply.error
    assert reply == PlaceReply(request_id)
    return None


def hosts_of(shard_map: ShardMap) -> dict[int, str]:
    return {place.host: place.endpoint for place in shard_map.hosts}


def turn(cluster: Cluster, process: Process) -> Turn:
    return process.host.begin_turn(cluster.now_us)


def test_the_first_turn_says_which_hosts_to_be_connected_to() -> None:
    cluster = Cluster()
    first = cluster.processes[1]
    assert turn(cluster, first).places == cluster.shard_map.hosts[1:]
    assert turn(cluster, first).places is None


def test_a_place_is_answered_when_it_is_kept_and_not_before(cluster: Cluster) -> None:
    first = cluster.processes[1]
    cluster.ask(first, PlaceRequest(7, 4, "host4:1"))
    made = turn(cluster, first)
    assert made.replies == ()
    assert made.places is not None
    assert [each.host for each in made.places] == [2, 3, 4]
    assert made.shard_map is not None
    assert hosts_of(made.shard_map)[4] == "host4:1"
    first.host.step(ShardMapKept(cluster.now_us, made.shard_map))
    assert turn(cluster, first).replies == ((CLIENT, (PlaceReply(7),)),)


def test_a_place_that_is_known_already_is_answered_at_once_and_one_being_kept_with_it(cluster: Cluster) -> None:
    first = cluster.processes[1]
    cluster.ask(first, PlaceRequest(7, 2, "host2:1"))
    assert turn(cluster, first).replies == ((CLIENT, (PlaceReply(7),)),)
    cluster.ask(first, PlaceRequest(8, 4, "host4:1"))
    made = turn(cluster, first)
    cluster.ask(first, PlaceRequest(9, 4, "host4:1"))
    assert turn(cluster, first).replies == ()
    assert made.shard_map is not None
    first.host.step(ShardMapKept(cluster.now_us, made.shard_map))
    assert turn(cluster, first).replies == ((CLIENT, (PlaceReply(8), PlaceReply(9))),)


def test_places_survive_a_restart_and_reach_clients(cluster: Cluster) -> None:
    first = cluster.processes[1]
    assert place(cluster, first, 7, 4, "host4:1") is None
    assert place(cluster, first, 8, 2, "elsewhere:1") is None
    first.start(cluster.now_us)
    expected = {1: "host1:1", 2: "elsewhere:1", 3: "host3:1", 4: "host4:1"}
    assert hosts_of(told_map(cluster, first, 9)) == expected


def test_a_stranger_that_says_hello_is_met_but_a_known_host_is_where_the_operator_said(cluster: Cluster) -> None:
    places = cluster.processes[1].host.places
    assert places.welcomes(4, "host4:1")
    assert not places.welcomes(4, ""), "nobody could answer it"
    assert not places.welcomes(1, "host1:1"), "that is this host itself"
    assert not places.welcomes(0, "host0:1")
    places.met(HostMet(cluster.now_us, 4, "host4:1"))
    places.met(HostMet(cluster.now_us, 2, "0.0.0.0:1"))
    assert hosts_of(told_map(cluster, cluster.processes[1], 7)) == {
        1: "host1:1", 2: "host2:1", 3: "host3:1", 4: "host4:1"
    }  # fmt: skip


def test_a_cluster_has_no_more_hosts_than_its_limit() -> None:
    cluster = Cluster(config=HostConfig(limits=Limits(hosts_max=4)))
    cluster.run(3)
    first = cluster.processes[1]
    assert place(cluster, first, 7, 4, "host4:1") is None
    assert isinstance(place(cluster, first, 8, 5, "host5:1"), Overloaded)
    assert not first.host.places.welcomes(5, "host5:1")
    assert place(cluster, first, 9, 4, "elsewhere:1") is None


def test_a_host_is_forgotten_only_when_no_shard_needs_it(cluster: Cluster) -> None:
    first = cluster.processes[1]
    assert isinstance(place(cluster, first, 7, 3, ""), Conflict)
    assert isinstance(place(cluster, first, 8, 1, ""), Conflict), "not itself"
    assert isinstance(place(cluster, first, 9, 0, "host0:1"), InvalidArgument)
    del cluster.processes[3]
    cluster.run(3)
    for shard in (1, 2):
        cluster.ask(cluster.leader_of(shard), ChangeMembersRequest(10 + shard, shard, 5_000, add=0, remove=3))
        cluster.run(1)
    assert place(cluster, first, 20, 3, "") is None
    assert hosts_of(told_map(cluster, first, 21)) == {1: "host1:1", 2: "host2:1"}
    assert not first.host.places.welcomes(3, "host3:1"), "it was removed"
    first.start(cluster.now_us)
    assert hosts_of(told_map(cluster, first, 22)) == {1: "host1:1", 2: "host2:1"}
    assert place(cluster, first, 23, 3, "host3:1") is None
    assert first.host.places.welcomes(3, "host3:1"), "an operator called it back"


def test_clients_are_told_the_present_configuration_once_its_hosts_are_known(cluster: Cluster) -> None:
    first = cluster.processes[1]
    cluster.ask(first, ChangeMembersRequest(7, SHARD, 5_000, add=4, remove=0))
    cluster.settle()
    assert told_map(cluster, first, 8) == cluster.shard_map, "nobody could reach host 4"
    assert place(cluster, first, 9, 4, "host4:1") is None
    (shard, other) = told_map(cluster, first, 10).shards
    assert shard.membership.host_of(4) == 4
    assert shard.membership_index == first.host.voters[SHARD].raft.membership_index > 0
    assert other.membership == cluster.shard_map.shards[1].membership


def test_what_a_host_keeps_says_how_the_cluster_began(cluster: Cluster) -> None:
    """A replica is made from it only where the cluster began with one (decision 0011)."""
    first = cluster.processes[1]
    cluster.ask(first, ChangeMembersRequest(7, SHARD, 5_000, add=4, remove=0))
    cluster.settle()
    assert place(cluster, first, 9, 4, "host4:1") is None
    kept = first.store.recover().shard_map
    assert kept is not None
    assert kept.shards == cluster.shard_map.shards
