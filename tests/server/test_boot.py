"""How a voter host gets its data directory: made once for its cluster, or for the one that it joins."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from shardraft.errors import StorageError
from shardraft.server.boot import cluster_id_of, open_joining_store, open_voter_store, shard_map_of
from shardraft.server.options import ServerOptions
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.types import Endpoint

PEERS = tuple((host, Endpoint("10.0.0.1", 7000 + host)) for host in (1, 2, 3))


def options(directory: Path, host: int = 1) -> ServerOptions:
    return ServerOptions(data_dir=directory / str(host), host=host, listen=Endpoint("10.0.0.1", 7000 + host))


def founder(directory: Path) -> ServerOptions:
    return attrs.evolve(options(directory), peers=PEERS, shards=2)


def kept_map(founding: ServerOptions) -> ShardMap:
    """What a founder starts from."""
    store, recovered = open_voter_store(founding)
    store.close()
    assert recovered.shard_map is not None
    return recovered.shard_map


def test_a_founder_begins_with_the_map_of_its_options(tmp_path: Path) -> None:
    founding = founder(tmp_path)
    assert kept_map(founding) == shard_map_of(founding, cluster_id_of(founding))


def test_hosts_that_came_and_went_stay_so_whatever_the_options_name(tmp_path: Path) -> None:
    """The options must name the founders for good, since the cluster's id comes from them."""
    founding = founder(tmp_path)
    begun = kept_map(founding)
    store, _ = open_voter_store(founding)
    store.save_shard_map(attrs.evolve(begun, hosts=(*begun.hosts, HostPlace(4, "d:7004"))))
    store.close()
    moved = attrs.evolve(founding, peers=(*PEERS[:2], (3, Endpoint("10.0.0.9", 9))))
    expected = {1: "10.0.0.1:7001", 2: "10.0.0.1:7002", 3: "10.0.0.9:9", 4: "d:7004"}
    assert {place.host: place.endpoint for place in kept_map(moved).hosts} == expected
    assert kept_map(moved).shards == begun.shards


async def opened(joining: ServerOptions, heard: ShardMap | None) -> ShardMap:
    """What a newcomer starts from; without ``heard`` there is nobody to ask."""

    async def hear() -> ShardMap:
        assert heard is not None, "it knows its cluster already"
        return heard

    store, recovered = await open_joining_store(joining, hear)
    store.close()
    assert recovered.shard_map is not None
    assert recovered.shards == ()
    return recovered.shard_map


@pytest.mark.anyio
async def test_a_newcomer_keeps_the_map_it_heard_with_itself_and_no_shard(tmp_path: Path) -> None:
    heard = kept_map(founder(tmp_path))
    joining = attrs.evolve(options(tmp_path, 4), join=(Endpoint("10.0.0.1", 7001),))
    first = await opened(joining, heard)
    assert first == attrs.evolve(heard, hosts=(*heard.hosts, HostPlace(4, "10.0.0.1:7004")))
    assert await opened(joining, None) == first, "it asks once"
    moved = attrs.evolve(joining, advertise=Endpoint("10.0.0.8", 8))
    assert (await opened(moved, None)).hosts[-1] == HostPlace(4, "10.0.0.8:8")


@pytest.mark.anyio
async def test_an_id_that_holds_replicas_and_has_no_disk_is_refused(tmp_path: Path) -> None:
    """It lost its disk, and with it votes that it gave."""
    heard = kept_map(founder(tmp_path))
    joining = attrs.evolve(options(tmp_path, 3), join=(Endpoint("10.0.0.1", 7001),))
    with pytest.raises(StorageError, match="start under an id that was never used"):
        await opened(joining, heard)
    assert not (tmp_path / "3").exists()
