"""How a process gets its data directory: made once, opened ever after, refused when it is not its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

from shardraft.errors import StorageError
from shardraft.host.ports import Recovered
from shardraft.server.options import ServerOptions
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.storage.directory import DataDirectory
from shardraft.storage.identity import create_data_directory, has_identity, read_identity_file
from shardraft.storage.store import LmdbStore, open_store


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


def open_voter_store(options: ServerOptions) -> tuple[LmdbStore, Recovered]:
    """Open the data directory of a voter host, making it if there is none yet.

    Raises ``StorageError`` with what to do when the directory is blank under a known id, foreign or damaged.
    """
    cluster_id = cluster_id_of(options)
    if is_first_start(options.data_dir):
        create_data_directory(options.data_dir, cluster_id, options.host)
    _check_same_cluster(options.data_dir, cluster_id)
    store = open_store(options.data_dir, cluster_id=cluster_id, host=options.host, limits=options.config.limits)
    recovered = store.recover()
    if recovered.shard_map is None or recovered.shard_map.hosts != shard_map_of(options, cluster_id).hosts:
        # The first start, or a host that listens elsewhere than before: the shards stay as they are.
        store.save_shard_map(shard_map_of(options, cluster_id))
        recovered = store.recover()
    return store, recovered


def _check_same_cluster(data_dir: Path, cluster_id: bytes) -> None:
    """Say more than the store could, which knows nothing of the options that the id comes from."""
    identity = read_identity_file(DataDirectory(data_dir).identity)
    if identity is not None and identity.cluster_id != cluster_id:
        raise StorageError(
            f"{data_dir} belongs to another cluster than these options describe: it was made with other --peer ids, "
            "--shards, --partitioning or --cluster; give those again (addresses may change), or another --data-dir"
        )


def open_learner_store(options: ServerOptions, cluster_id: bytes | None) -> tuple[LmdbStore, Recovered]:
    """Open the data directory of a learner, or make it for the cluster that its parent named (None: it exists)."""
    if cluster_id is not None:
        create_data_directory(options.data_dir, cluster_id, options.host)
    store = open_store(options.data_dir, cluster_id=cluster_id, host=options.host, limits=options.config.limits)
    return store, store.recover()


def is_first_start(data_dir: Path) -> bool:
    """Whether the directory was never used: then it is made, and a learner hears first which cluster it joins."""
    return not has_identity(data_dir)
