"""How a process gets its data directory: made once, opened ever after, refused when it is not its own."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from shardraft.errors import StorageError
from shardraft.host.ports import Recovered
from shardraft.server.options import ServerOptions
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.storage.directory import DataDirectory
from shardraft.storage.identity import create_data_directory, has_identity, read_identity_file
from shardraft.storage.store import DiskStore, open_store
from shardraft.types import HostId


def cluster_id_of(options: ServerOptions) -> bytes:
    """The 16-byte id of the cluster that these options describe; the same on every one of its hosts.

    Endpoints are left out: a host may move. Two clusters on one network differ by their token.
    """
    hosts = ",".join(str(host) for host, _ in sorted(options.peers))
    text = f"{options.cluster_token}|{hosts}|{options.shards}|{options.partitioning.name}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def shard_map_of(options: ServerOptions, cluster_id: bytes) -> ShardMap:
    """The map with which a cluster begins; each host makes the same one from the same options."""
    hosts = tuple(HostPlace(host, str(endpoint)) for host, endpoint in sorted(options.peers))
    return ShardMap.bootstrap(cluster_id, hosts, options.shards, options.partitioning)


def open_voter_store(options: ServerOptions) -> tuple[DiskStore, Recovered]:
    """Open the data directory of a voter host, making it if there is none yet.

    Raises ``StorageError`` with what to do when the directory is blank under a known id, foreign or damaged.
    """
    cluster_id = cluster_id_of(options)
    if is_first_start(options.data_dir):
        create_data_directory(options.data_dir, cluster_id, options.host)
    _check_same_cluster(options.data_dir, cluster_id)
    store = open_store(options.data_dir, cluster_id=cluster_id, host=options.host, limits=options.config.limits)
    recovered = store.recover()
    shard_map = recovered.shard_map
    if shard_map is None:
        return store, _keep(store, shard_map_of(options, cluster_id))
    # Hosts may listen elsewhere than before. Which hosts there are, later changes have said.
    moved = _with_places(shard_map, {host: str(endpoint) for host, endpoint in options.peers})
    return store, (recovered if moved == shard_map else _keep(store, moved))


def _keep(store: DiskStore, shard_map: ShardMap) -> Recovered:
    store.save_shard_map(shard_map)
    return store.recover()


def _with_places(shard_map: ShardMap, endpoints: dict[HostId, str]) -> ShardMap:
    hosts = tuple(HostPlace(place.host, endpoints.get(place.host, place.endpoint)) for place in shard_map.hosts)
    return attrs.evolve(shard_map, hosts=hosts)


async def open_joining_store(
    options: ServerOptions, hear: Callable[[], Awaitable[ShardMap]]
) -> tuple[DiskStore, Recovered]:
    """Open the data directory of a voter host that came to a running cluster; ``hear`` asks that for the map.

    Raises ``StorageError`` for a directory that is not its own, and for an id that holds replicas already.
    """
    heard = None
    if is_first_start(options.data_dir):
        heard = await hear()
        _check_newcomer(options, heard)
        create_data_directory(options.data_dir, heard.cluster_id, options.host)
    store = open_store(options.data_dir, cluster_id=None, host=options.host, limits=options.config.limits)
    recovered = store.recover()
    shard_map = recovered.shard_map
    if shard_map is None:
        heard = heard or await hear()
        _check_newcomer(options, heard)
        others = [place for place in heard.hosts if place.host != options.host]
        own = HostPlace(options.host, str(options.place))
        shard_map = attrs.evolve(heard, hosts=tuple(sorted([*others, own], key=lambda place: place.host)))
    moved = _with_places(shard_map, {options.host: str(options.place)})
    return store, (recovered if moved == recovered.shard_map else _keep(store, moved))


def _check_newcomer(options: ServerOptions, shard_map: ShardMap) -> None:
    """An id with replicas and no disk is a host that lost its disk, and with it votes that it gave (PROTOCOL)."""
    if shard_map.shards_on(options.host):
        raise StorageError(
            f"host {options.host} holds replicas in that cluster already: bring back its data directory, or start "
            f"under an id that was never used and replace host {options.host} by it"
        )


def _check_same_cluster(data_dir: Path, cluster_id: bytes) -> None:
    """Say more than the store could, which knows nothing of the options that the id comes from."""
    identity = read_identity_file(DataDirectory(data_dir).identity)
    if identity is not None and identity.cluster_id != cluster_id:
        raise StorageError(
            f"{data_dir} belongs to another cluster than these options describe: it was made with other --peer ids, "
            "--shards, --partitioning or --cluster; give those again (addresses may change), or another --data-dir"
        )


def open_learner_store(options: ServerOptions, cluster_id: bytes | None) -> tuple[DiskStore, Recovered]:
    """Open the data directory of a learner, or make it for the cluster that its parent named (None: it exists)."""
    if cluster_id is not None:
        create_data_directory(options.data_dir, cluster_id, options.host)
    store = open_store(options.data_dir, cluster_id=cluster_id, host=options.host, limits=options.config.limits)
    return store, store.recover()


def is_first_start(data_dir: Path) -> bool:
    """Whether the directory was never used: then it is made, and a learner hears first which cluster it joins."""
    return not has_identity(data_dir)
