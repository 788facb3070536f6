"""Under which number a host holds a shard, and which numbers it held before: small records in the state environment.

A number that was removed is never used again (PROTOCOL): its record becomes a tombstone, which covers
every lower number too, since a host holds one replica of a shard at a time and numbers only rise.
"""

from __future__ import annotations

import attrs

from shardraft.storage.environment import Database, Transaction
from shardraft.storage.layout import REPLICA_PREFIX, SHARD_KEY, decode_replica, encode_replica, shard_key
from shardraft.types import ReplicaId, ShardId


@attrs.frozen(slots=True)
class KeptReplica:
    """The highest replica number of one shard on this host; ``is_removed``: the host holds none any more."""

    replica: ReplicaId
    is_removed: bool


def put_replica(
    transaction: Transaction, meta: Database, shard: ShardId, replica: ReplicaId, *, is_removed: bool
) -> None:
    transaction.put(REPLICA_PREFIX + shard_key(shard), encode_replica(replica, is_removed=is_removed), db=meta)


def read_replica(transaction: Transaction, meta: Database, shard: ShardId) -> KeptReplica | None:
    """What is kept of ``shard``; None on a learner and where an earlier program made it. Raises ``StorageError``."""
    record = transaction.get(REPLICA_PREFIX + shard_key(shard), db=meta)
    return None if record is None else KeptReplica(*decode_replica(record))


def read_replicas(transaction: Transaction, meta: Database) -> dict[ShardId, KeptReplica]:
    """All of them by shard. Raises ``StorageError``."""
    found: dict[ShardId, KeptReplica] = {}
    cursor = transaction.cursor(meta)
    is_there = cursor.set_range(REPLICA_PREFIX)
    while is_there and cursor.key().startswith(REPLICA_PREFIX):
        shard = SHARD_KEY.unpack(cursor.key()[len(REPLICA_PREFIX) :])[0]
        found[shard] = KeptReplica(*decode_replica(cursor.value()))
        is_there = cursor.next()
    return found
