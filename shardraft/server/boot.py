"""How a process gets its data directory: made once, opened ever after, refused when it is not its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

from shardraft.errors import StorageError
from shardraft.host.ports import Recovered
from shardraft.server.options import ServerOptions
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.storage.identity import create_data_directory, has_identity
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
    if _is_blank(options.data_dir):
        create_data_directory(options.data_dir, cluster_id, options.host)
    store = open_store(options.data_dir, cluster_id=cluster_id, host=options.host)
    recovered = store.recover()
    if recovered.shard_map is None or recovered.shard_map.hosts != shard_map_of(options, cluster_id).hosts:
        # The first start, or a host that listens elsewhere than before: the shards stay as they are.
        store.save_shard_map(shard_map_of(options, cluster_id))
        recovered = store.recover()
    return store, recovered


def open_learner_store(options: ServerOptions, cluster_id: bytes | None) -> tuple[LmdbStore, Recovered]:
    """Open the data directory of a learner, or make it for the cluster that its parent named (None: it exists)."""
    if cluster_id is not None:
        create_data_directory(options.data_dir, cluster_id, options.host)
    store = open_store(options.data_dir, cluster_id=cluster_id, host=options.host)
    return store, store.recover()


def is_first_start(data_dir: Path) -> bool:
    """Whether the directory was never used: then a learner must hear from its parent which cluster it joins."""
    return _is_blank(data_dir)


def _is_blank(data_dir: Path) -> bool:
    if has_identity(data_dir):
        return False
    if data_dir.exists() and any(data_dir.iterdir()):
        raise StorageError(
            f"{data_dir} is not empty and has no identity file: it is not a data directory of shardraft, or it lost "
            "its identity. Give another --data-dir, or restore the directory from where it came."
        )
    return True
