"""The ports: what a host's driver must offer. Each has one contract suite that every implementation passes.

A host reads through ``Store`` synchronously, inline; everything it writes leaves as values of a
``Turn``, which the driver gives to the same store, in the real world on its writer threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from shardraft.host.turn import LogBatch, StateBatch
from shardraft.kv.commands import BatchCodec, Stored
from shardraft.kv.machine import MachineState
from shardraft.raft.ready import HardState, LogReader, LogSummary
from shardraft.shards.shard_map import ShardMap
from shardraft.types import NO_REPLICA, Identity, Index, ReplicaId, ShardId, Term


@attrs.frozen(slots=True)
class RecoveredShard:
    """One shard as the store holds it at start, already reconciled.

    Reconciled: a log that ends below the state's ``last_applied``, or differs from it in term there, was
    reset there (PROTOCOL, "Log, state, snapshots"). ``replica`` is the number under which this host holds it;
    ``NO_REPLICA`` on a learner, and where an earlier program made it: then it is the one that the map says.
    """

    shard: ShardId
    hard_state: HardState
    log: LogSummary
    state: MachineState
    replica: ReplicaId = NO_REPLICA


@attrs.frozen(slots=True)
class Tombstone:
    """This host's replica of ``shard`` was removed, and with it every one of a number up to ``replica``."""

    shard: ShardId
    replica: ReplicaId


@attrs.frozen(slots=True)
class Recovered:
    """Everything a host starts from. ``shard_map`` is None on a learner that never heard one."""

    identity: Identity
    shard_map: ShardMap | None
    shards: tuple[RecoveredShard, ...]
    tombstones: tuple[Tombstone, ...] = ()


class Store(LogReader, Protocol):
    """Log and applied state of all shards of one host. Durable when a commit returns.

    Each method that writes runs on one thread of its own environment (log, state) and raises
    ``StorageError`` when it cannot keep its promise; the process then ends.
    """

    def recover(self) -> Recovered:
        """Read and verify everything at start; raises ``StorageError`` with what to do about it.

        Comes before everything else but ``save_shard_map``.
        """
        ...

    def save_shard_map(self, shard_map: ShardMap) -> None:
        """Keep the map (bootstrap, or a learner that heard a later one) and create the empty shards in it.

        On a voter host those that it is a member of, under the map's replica number, but none that was removed.
        """
        ...

    def create_replica(self, replica: ReplicaId, state: MachineState) -> None:
        """Keep ``state`` as that of a new replica of its shard, with an empty log. The host must hold none of it."""
        ...

    def remove_replica(self, shard: ShardId, replica: ReplicaId) -> None:
        """Put a tombstone in place of the replica and its state, in one synced transaction of the state environment.

        The first half of a removal; the driver then has ``remove_log`` run on the log's own thread, after every
        batch submitted before. A crash between the two is repaired by ``recover``.
        """
        ...

    def remove_log(self, shard: ShardId) -> None:
        """Forget log and hard state of ``shard``: the second half of a removal."""
        ...

    def commit_log(self, batches: list[LogBatch]) -> None:
        """Write several turns' batches, in order, with one sync: all of it is there after a crash, or none."""
        ...

    def commit_state(self, batch: StateBatch) -> None:
        """Write one flush: synced, and to be read from one moment on, all of it."""
        ...

    def get(self, shard: ShardId, key: bytes) -> Stored | None:
        """The flushed value of a routing key."""
        ...

    def get_many(self, shard: ShardId, keys: Sequence[bytes], bytes_max: int) -> list[Stored | None]:
        """The flushed values of the first of ``keys``, up to the one that passes ``bytes_max`` bytes in all.

        They are all from one moment.
        """
        ...

    def scan(self, shard: ShardId, start: bytes, end: bytes, entries_max: int) -> list[tuple[bytes, Stored]]:
        """Flushed keys in [``start``, ``end``) in ascending order; an empty ``end`` means no end."""
        ...

    def spool_copy(self, shard: ShardId, copy_id: int) -> tuple[Index, Term, int]:
        """Make a snapshot of the flushed state in one read transaction; its index, term and number of chunks."""
        ...

    def read_chunk(self, copy_id: int, number: int) -> bytes:
        """One chunk of a spooled snapshot."""
        ...

    def drop_copy(self, copy_id: int) -> None: ...

    def stage_chunk(self, shard: ShardId, number: int, data: bytes) -> None:
        """Keep one received chunk; number 0 starts anew, any other follows the last.

        Raises ``CopyRefused`` for a chunk that is damaged or does not follow: what was staged is gone then.
        """
        ...

    def install_copy(self, shard: ShardId, index: Index, term: Term) -> MachineState:
        """Replace the shard's state by the staged copy, in one synced transaction of the state environment.

        The first half of an install; the driver then has ``reset_log`` run on the log's own thread, after
        every batch submitted before. A crash between the two is repaired by ``recover``. Raises
        ``CopyRefused`` when the staged chunks are not the whole state at (``index``, ``term``): they are
        gone then, and nothing else changed.
        """
        ...

    def reset_log(self, shard: ShardId, index: Index, term: Term) -> None:
        """Make the log of ``shard`` empty with its next entry at ``index`` + 1: the second half of an install.

        The entry before that has ``term``. The hard state is kept, but ``commit_index`` is at least ``index`` then.
        """
        ...

    def close(self) -> None: ...


class Codec(BatchCodec, Protocol):
    """What the pure host must have encoded or decoded; Cap'n Proto in the real world, plain in the simulated."""
