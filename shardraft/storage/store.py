"""The ``Store`` port on segments and LMDB, and the door to it, ``open_store``. ``identity`` makes data directories."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Final

import lmdb

from shardraft.config import Limits
from shardraft.errors import StorageError
from shardraft.host.ports import Recovered, Tombstone
from shardraft.host.turn import LogBatch, StateBatch
from shardraft.kv.commands import Stored
from shardraft.kv.machine import MachineState
from shardraft.raft.ready import HardState, LogSummary
from shardraft.shards.shard_map import ShardMap
from shardraft.storage.copying import IncomingCopies, OutgoingCopies
from shardraft.storage.directory import DataDirectory, DirectoryLock
from shardraft.storage.environment import MAP_BYTES
from shardraft.storage.former_log import take_over
from shardraft.storage.identity import begin_incarnation, check_directory, condemn
from shardraft.storage.inspection import dry_run, inspect_data_file
from shardraft.storage.log import SegmentedLog, StoredLog
from shardraft.storage.recovery import check_known, recover_shard
from shardraft.storage.state import StateEnvironment
from shardraft.types import NO_REPLICA, HostId, Identity, Index, ReplicaId, ShardId, Term

DISK_FREE_BYTES_MIN: Final = 256 << 20
"""Below this much free space ``DiskStore.is_disk_low``: new writes are refused before the disk is full."""


def open_store(
    directory: Path,
    *,
    cluster_id: bytes | None,
    host: HostId | None,
    map_bytes: int = MAP_BYTES,
    boot_nonce: int | None = None,
    disk_free_bytes_min: int = DISK_FREE_BYTES_MIN,
    limits: Limits | None = None,
) -> DiskStore:
    """Open the data directory of a host that ran or was created before, and begin its next incarnation.

    ``cluster_id`` and ``host`` are what the caller expects, None to take what the directory says.
    ``boot_nonce`` is drawn when not given. Raises ``StorageError`` for a directory that is blank, foreign,
    damaged, of a newer format or in use, with what to do about it.
    """
    places = DataDirectory(directory)
    # Twice, so that a directory which belongs to nobody is left as it is, without a lock file.
    check_directory(places, cluster_id, host)
    lock = DirectoryLock(places)
    try:
        current = check_directory(places, cluster_id, host)
        take_over(places, current)
        state_is_long = inspect_data_file(places.state)
        if not state_is_long:
            dry_run(places.state)
        nonce = boot_nonce if boot_nonce is not None else 1 + secrets.randbits(63)
        return _open(places, lock, current, map_bytes, nonce, disk_free_bytes_min, limits or Limits())
    except (OSError, lmdb.Error) as error:
        lock.release()
        raise StorageError(f"{directory} cannot be used ({error}): check the disk and its owner") from error
    except BaseException:
        lock.release()
        raise


def _open(
    places: DataDirectory,
    lock: DirectoryLock,
    current: Identity,
    map_bytes: int,
    boot_nonce: int,
    disk_free_bytes_min: int,
    limits: Limits,
) -> DiskStore:
    log = SegmentedLog(places.log)
    state = StateEnvironment(places.state, map_bytes)
    try:
        log.check_format()
        state.check_format()
        log.inspect()
        identity = begin_incarnation(places, current, (log, state), boot_nonce)
        places.creating.unlink(missing_ok=True)
        # Copies are of a process's life only: whoever was sent one asks again.
        shutil.rmtree(places.copies, ignore_errors=True)
        places.copies.mkdir(mode=0o700)
        return DiskStore(places, lock, identity, log, state, disk_free_bytes_min, limits)
    except BaseException:
        log.close()
        state.close()
        raise


class DiskStore:
    """``shardraft.host.ports.Store`` on files and LMDB; made by ``open_store``.

    ``identity`` is that of this start, ``directory`` the data directory. Which thread may call what is said in
    the package.
    """

    def __init__(
        self,
        places: DataDirectory,
        lock: DirectoryLock,
        identity: Identity,
        log: SegmentedLog,
        state: StateEnvironment,
        disk_free_bytes_min: int,
        limits: Limits,
    ) -> None:
        self.identity = identity
        self.directory = places.path
        self._places = places
        self._lock = lock
        self._log = log
        self._state = state
        self._disk_free_bytes_min = disk_free_bytes_min
        self._outgoing = OutgoingCopies(places.copies, state, limits.copy_chunk_bytes)
        self._incoming = IncomingCopies(places.copies, state, limits.frame_bytes_max)
        # The hot paths, without a call in between.
        self.get = state.get
        self.get_many = state.get_many
        self.read_entries = log.read_entries
        self.begin_commit = log.begin_commit
        self.end_commit = log.end_commit
        self.fail_commit = log.fail_commit
        self.prepare_log = log.prepare

    def recover(self) -> Recovered:
        """Read and verify everything, and reset the logs that a copy's install left behind. Before any commit."""
        try:
            shard_map, states, replicas = self._state.recover()
            logs = self._log.recover()
        except lmdb.Error as error:
            raise StorageError(f"{self._places.path} cannot be read ({error}): check the disk") from error
        tombstones = tuple(
            Tombstone(shard, kept.replica) for shard, kept in sorted(replicas.items()) if kept.is_removed
        )
        for tombstone in tombstones:
            if logs.pop(tombstone.shard, None) is not None:
                self._log.remove(tombstone.shard)  # The process ended between the halves of a removal.
        check_known(logs, states)
        shards = tuple(
            recover_shard(
                self._log,
                logs.get(shard, StoredLog(HardState(), LogSummary())),
                states[shard],
                replicas[shard].replica if shard in replicas else NO_REPLICA,
            )
            for shard in sorted(states)
        )
        return Recovered(self.identity, shard_map, shards, tombstones)

    def save_shard_map(self, shard_map: ShardMap) -> None:
        """Keep the map and create, empty, the shards in it that belong on this host (a learner holds all)."""
        if shard_map.cluster_id != self.identity.cluster_id:
            raise StorageError(
                f"{self._places.path} belongs to cluster {self.identity.cluster_id.hex()}, the shard map to "
                f"{shard_map.cluster_id.hex()}: give this host the endpoints of its own cluster"
            )
        self._state.save_shard_map(shard_map, self.identity.host)

    def create_replica(self, replica: ReplicaId, state: MachineState) -> None:
        self._state.create_replica(replica, state)

    def remove_replica(self, shard: ShardId, replica: ReplicaId) -> None:
        self._incoming.forget(shard)
        self._state.remove_replica(shard, replica)

    def remove_log(self, shard: ShardId) -> None:
        self._log.remove(shard)

    def commit_log(self, batches: list[LogBatch]) -> None:
        self._log.commit(batches)

    def commit_state(self, batch: StateBatch) -> None:
        self._state.commit(batch)

    def merge_at_rest(self) -> bool:
        """Merge a piece of what was flushed; whether there is more. Belongs to the state's thread.

        It is never worth the last of a disk: what is merged takes room until the merge has ended, at worst in pages
        that are half full.
        """
        if self.free_bytes() < self._disk_free_bytes_min + 2 * self._state.runs_bytes():
            return False
        return self._state.merge_at_rest()

    def scan(self, shard: ShardId, start: bytes, end: bytes, entries_max: int) -> list[tuple[bytes, Stored]]:
        return self._state.scan(shard, start, end, entries_max)

    def spool_copy(self, shard: ShardId, copy_id: int) -> tuple[Index, Term, int]:
        return self._outgoing.spool(shard, copy_id)

    def read_chunk(self, copy_id: int, number: int) -> bytes:
        return self._outgoing.read(copy_id, number)

    def drop_copy(self, copy_id: int) -> None:
        self._outgoing.drop(copy_id)

    def stage_chunk(self, shard: ShardId, number: int, data: bytes) -> None:
        self._incoming.stage(shard, number, data)

    def install_copy(self, shard: ShardId, index: Index, term: Term) -> MachineState:
        return self._incoming.install(shard, index, term)

    def reset_log(self, shard: ShardId, index: Index, term: Term) -> None:
        self._log.reset(shard, index, term)

    def condemn(self, reason: str) -> None:
        """Let no process ever start from this directory again: others know a later start of this host."""
        condemn(self._places, reason)

    def free_bytes(self) -> int:
        """How much more can be written before the disk or the map is full, at least; a few microseconds."""
        return min(self._places.free_bytes(), self._state.free_bytes())

    def is_disk_low(self) -> bool:
        """Whether writes should be refused as Overloaded, so that the disk is never found full by a commit."""
        return self.free_bytes() < self._disk_free_bytes_min

    def close(self) -> None:
        """Give the directory back. No other thread uses the store any more."""
        self._outgoing.close()
        self._incoming.close()
        self._log.close()
        self._state.close()
        self._lock.release()
