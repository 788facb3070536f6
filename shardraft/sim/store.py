"""The simulated disk's contents: a ``Store`` that lives in memory and outlives its process.

Every method that writes takes effect at once and whole; when it takes effect, and whether a crash
comes first, is ``disk``'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from shardraft.errors import StorageError
from shardraft.host.making import first_state, shards_kept_on
from shardraft.host.met_starts import MetStarts, Start
from shardraft.host.ports import Recovered, RecoveredShard, Tombstone
from shardraft.host.turn import LogBatch, StateBatch
from shardraft.kv.commands import Stored
from shardraft.kv.lookup import look_up
from shardraft.kv.machine import MachineImage, MachineState
from shardraft.kv.records import decode_record, encode_record
from shardraft.raft.entry import EntryError, decode_entry
from shardraft.raft.ready import HardState, LogSummary, LogWrite
from shardraft.shards.shard_map import ShardMap
from shardraft.sim.copies import StagedCopy, encode_copy
from shardraft.types import NO_REPLICA, Identity, Index, ReplicaId, ShardId, Term

COPY_NONCES: Final = 1 << 32
"""Boot nonces of a copied disk begin so much higher, so that no two starts have the same one."""


@attrs.define(slots=True)
class KeptLog:
    """One shard's log and hard state as they lie on the disk; ``encoded[0]`` is the entry at ``first_index``."""

    hard_state: HardState = attrs.field(factory=HardState)
    first_index: Index = 1
    previous_term: Term = 0
    encoded: list[bytes] = attrs.field(factory=list)
    terms: list[Term] = attrs.field(factory=list)

    def copy(self) -> KeptLog:
        """The same log, which goes its own way from here."""
        return KeptLog(self.hard_state, self.first_index, self.previous_term, list(self.encoded), list(self.terms))

    @property
    def last_index(self) -> Index:
        return self.first_index + len(self.encoded) - 1

    def term_at(self, index: Index) -> Term | None:
        """The term of the entry at ``index``, or of the one before the first; None when it is not known here."""
        offset = index - self.first_index
        if offset == -1:
            return self.previous_term
        return self.terms[offset] if 0 <= offset < len(self.terms) else None

    def write(self, write: LogWrite) -> None:
        """Truncate, then append, then hard state."""
        if write.truncate_from is not None and write.truncate_from <= self.last_index:
            assert write.truncate_from >= self.first_index, "a truncation of what is compacted"
            keep = write.truncate_from - self.first_index
            del self.encoded[keep:], self.terms[keep:]
        following = self.last_index + 1
        for entry in write.entries:
            assert entry.index == following, "a gap in the stored log"
            self.encoded.append(entry.encoded)
            self.terms.append(entry.term)
            following += 1
        if write.hard_state is not None:
            self.hard_state = write.hard_state

    def compact(self, index: Index, term: Term) -> None:
        """Forget the entries up to and with ``index``."""
        if index < self.first_index:
            return
        assert self.term_at(index) == term, "a compaction names another entry than the stored one"
        drop = index + 1 - self.first_index
        del self.encoded[:drop], self.terms[:drop]
        self.first_index, self.previous_term = index + 1, term

    def reset(self, index: Index, term: Term) -> None:
        """Forget every entry; the next is at ``index`` + 1. What a snapshot holds is committed."""
        self.encoded.clear()
        self.terms.clear()
        self.first_index, self.previous_term = index + 1, term
        if self.hard_state.commit_index < index:
            self.hard_state = attrs.evolve(self.hard_state, commit_index=index)

    def reconcile(self, applied: Index, applied_term: Term) -> None:
        """What recovery does with a log that ends below the state, or differs from it there (PROTOCOL)."""
        if self.first_index > applied + 1:
            raise StorageError(f"the log begins at {self.first_index} and the state ends at {applied}: a gap")
        if self.term_at(applied) != applied_term:
            self.reset(applied, applied_term)


@attrs.define(slots=True)
class KeptState:
    """One shard's flushed state."""

    state: MachineState
    items: dict[bytes, Stored] = attrs.field(factory=dict)
    ordered: list[bytes] | None = None
    """The keys in order while nothing changed since they were last sorted."""


class SimStore:
    """The ``Store`` port in memory. Build it once per simulated disk; each ``recover`` is one start of a process."""

    def __init__(
        self,
        cluster_id: bytes,
        host: int,
        shard_map: ShardMap | None = None,
        *,
        chunk_bytes: int = 4096,
        first_nonce: int = 0,
    ) -> None:
        self.identity = Identity(cluster_id, host, 0, 0)
        self.met = MetStarts({})
        """The starts of other hosts that this one has met; they stay like everything on the disk."""
        self.superseded = ""
        """Why no process starts from this disk any more: another host knows a later start."""
        self.shard_map: ShardMap | None = None
        self.logs: dict[ShardId, KeptLog] = {}
        self.states: dict[ShardId, KeptState] = {}
        self.replicas: dict[ShardId, ReplicaId] = {}
        """The number under which each shard is held; none on a learner."""
        self.tombstones: dict[ShardId, ReplicaId] = {}
        self.on_written: Callable[[LogWrite], None] = lambda write: None
        """For those who watch: hears of each log write when it has taken effect."""
        self.on_flushed: Callable[[MachineImage], None] = lambda image: None
        """Hears of each shard's part of a flush when it has taken effect."""
        self.damages_next_chunk = False
        """The next chunk read of a spooled copy has a flipped bit."""
        self.flipped: bytes | Stored | None = None
        """An encoded entry or a key's value that is read with a flipped bit, as long as it lies on the disk."""
        self._chunk_bytes = chunk_bytes
        self._first_nonce = first_nonce
        self._spooled: dict[int, list[bytes]] = {}
        self._staged: dict[ShardId, StagedCopy] = {}
        if shard_map is not None:
            self.save_shard_map(shard_map)

    def crash(self) -> None:
        """What a process's end takes with it: spooled and staged copies. Logs, states and identity stay."""
        self._spooled.clear()
        self._staged.clear()

    @property
    def start(self) -> Start:
        """What this start of the disk is called in a hello."""
        return Start(self.identity.incarnation, self.identity.boot_nonce)

    def old_copy(self) -> SimStore:
        """All that lies on the disk now, to be put back later; a start from it has another nonce."""
        identity, shard_map = self.identity, self.shard_map
        nonce = self._first_nonce + COPY_NONCES
        copy = SimStore(identity.cluster_id, identity.host, chunk_bytes=self._chunk_bytes, first_nonce=nonce)
        copy.identity, copy.shard_map = identity, shard_map
        copy.met = MetStarts(dict(self.met.in_order()))
        copy.logs = {shard: log.copy() for shard, log in self.logs.items()}
        copy.replicas, copy.tombstones = dict(self.replicas), dict(self.tombstones)
        copy.states = {shard: KeptState(kept.state, dict(kept.items)) for shard, kept in self.states.items()}
        return copy

    def heal(self) -> None:
        """What was damaged is as it was written."""
        self.damages_next_chunk = False
        self.flipped = None

    # Start.

    def recover(self) -> Recovered:
        """Everything kept, reconciled, under the next incarnation.

        Raises ``StorageError`` for a damaged entry, and for a disk that is not the host's newest.
        """
        if self.superseded:
            raise StorageError(f"the disk was refused by another host: {self.superseded}")
        if self.flipped is not None:
            self._verify_logs()
        before = self.identity
        incarnation = before.incarnation + 1
        self.identity = Identity(before.cluster_id, before.host, incarnation, self._first_nonce + incarnation)
        for shard in [shard for shard in self.logs if shard not in self.states]:
            assert shard in self.tombstones, "a log without a state is what a crash leaves of a removal"
            del self.logs[shard]
        for shard in sorted(self.states):
            state = self.states[shard].state
            self.logs[shard].reconcile(state.last_applied, state.last_applied_term)
        shards = tuple(self._recovered(shard) for shard in sorted(self.states))
        tombstones = tuple(Tombstone(shard, replica) for shard, replica in sorted(self.tombstones.items()))
        return Recovered(self.identity, self.shard_map, shards, tombstones)

    def _verify_logs(self) -> None:
        for shard, log in self.logs.items():
            for encoded in log.encoded:
                self._checked(encoded, shard)

    def _recovered(self, shard: ShardId) -> RecoveredShard:
        log = self.logs[shard]
        sizes = tuple(len(encoded) for encoded in log.encoded)
        summary = LogSummary(log.first_index, log.previous_term, tuple(log.terms), sizes)
        return RecoveredShard(
            shard, log.hard_state, summary, self.states[shard].state, self.replicas.get(shard, NO_REPLICA)
        )

    def save_shard_map(self, shard_map: ShardMap) -> None:
        """Keep the map and create the empty shards in it."""
        self.shard_map = shard_map
        for shard in shards_kept_on(shard_map, self.identity.host):
            replica = shard.membership.replica_on(self.identity.host)
            if shard.shard not in self.states and shard.shard not in self.tombstones:
                self._create(shard.shard, replica, first_state(shard, shard_map.epoch))

    def _create(self, shard: ShardId, replica: ReplicaId, state: MachineState) -> None:
        self.logs[shard] = KeptLog()
        self.states[shard] = KeptState(state)
        if replica:
            self.replicas[shard] = replica

    def create_replica(self, replica: ReplicaId, state: MachineState) -> None:
        """Keep the state of a new replica, and its number."""
        assert state.shard not in self.states, "a host holds one replica of a shard at most"
        assert self.tombstones.pop(state.shard, NO_REPLICA) < replica, "replica numbers are never used again"
        self._create(state.shard, replica, state)

    def remove_replica(self, shard: ShardId, replica: ReplicaId) -> None:
        """A tombstone in place of the replica and its state: the first half of a removal."""
        self.replicas.pop(shard, None)
        self.tombstones[shard] = replica
        self._staged.pop(shard, None)
        del self.states[shard]

    def remove_log(self, shard: ShardId) -> None:
        """The second half."""
        del self.logs[shard]

    # The log.

    def commit_log(self, batches: list[LogBatch]) -> None:
        """Write several turns' batches, in order."""
        for batch in batches:
            for write in batch.writes:
                self.logs[write.shard].write(write)
                self.on_written(write)
            for shard, index, term in batch.compactions:
                self.logs[shard].compact(index, term)

    def reset_log(self, shard: ShardId, index: Index, term: Term) -> None:
        """The second half of an install."""
        self.logs[shard].reset(index, term)

    def read_entries(self, shard: ShardId, low: Index, high: Index, bytes_max: int) -> list[bytes]:
        """Encoded entries from ``low`` up to and without ``high``, at least one, at most ``bytes_max`` bytes."""
        log = self.logs[shard]
        if not log.first_index <= low < high <= log.last_index + 1:
            raise StorageError(f"shard {shard}: entries {low} to {high - 1} are not in the log")
        taken: list[bytes] = []
        for encoded in log.encoded[low - log.first_index : high - log.first_index]:
            bytes_max -= len(encoded)
            if taken and bytes_max < 0:
                break
            taken.append(self._checked(encoded, shard))
        return taken

    def _checked(self, encoded: bytes, shard: ShardId) -> bytes:
        """An entry as the disk gives it; raises ``StorageError`` when that is not what was written."""
        if encoded is self.flipped:
            encoded = _flip(encoded)
        try:
            decode_entry(encoded, shard)
        except EntryError as error:
            raise StorageError(f"an entry of shard {shard}: {error}") from error
        return encoded

    # The state environment.

    def commit_state(self, batch: StateBatch) -> None:
        """Write one flush."""
        for image in batch.images:
            kept = self.states[image.state.shard]
            kept.state = image.state
            kept.ordered = None
            for key, record in image.changes.items():
                if record is None:
                    kept.items.pop(key, None)
                else:
                    kept.items[key] = decode_record(key, record)
            self.on_flushed(image)

    def get(self, shard: ShardId, key: bytes) -> Stored | None:
        """The flushed value of a routing key."""
        stored = self.states[shard].items.get(key)
        if stored is None or stored is not self.flipped:
            return stored
        return _read_flipped(key, stored)

    def get_many(self, shard: ShardId, keys: Sequence[bytes], bytes_max: int) -> list[Stored | None]:
        """The flushed values of the first of ``keys``, up to the one that passes ``bytes_max`` bytes in all."""
        return look_up(keys, lambda key: self.get(shard, key), bytes_max)

    def scan(self, shard: ShardId, start: bytes, end: bytes, entries_max: int) -> list[tuple[bytes, Stored]]:
        """Flushed keys in [``start``, ``end``) in ascending order; an empty ``end`` means no end."""
        kept = self.states[shard]
        if kept.ordered is None:
            kept.ordered = sorted(kept.items)
        found = [key for key in kept.ordered if start <= key and (not end or key < end)]
        if self.flipped is not None:
            return [(key, stored) for key in found[:entries_max] if (stored := self.get(shard, key))]
        return [(key, kept.items[key]) for key in found[:entries_max]]

    # Copies.

    def spool_copy(self, shard: ShardId, copy_id: int) -> tuple[Index, Term, int]:
        """Make a snapshot of the flushed state; its index, term and number of chunks."""
        kept = self.states[shard]
        if self.flipped is not None:
            self.scan(shard, b"", b"", len(kept.items))
        self._spooled[copy_id] = encode_copy(kept.state, kept.items, self._chunk_bytes)
        return kept.state.last_applied, kept.state.last_applied_term, len(self._spooled[copy_id])

    def read_chunk(self, copy_id: int, number: int) -> bytes:
        """One chunk of a spooled snapshot."""
        chunk = self._spooled[copy_id][number]
        if not self.damages_next_chunk:
            return chunk
        self.damages_next_chunk = False
        return chunk[:-1] + bytes([chunk[-1] ^ 1])

    def drop_copy(self, copy_id: int) -> None:
        """Forget a spooled snapshot."""
        self._spooled.pop(copy_id, None)

    def stage_chunk(self, shard: ShardId, number: int, data: bytes) -> None:
        """Keep one received chunk; number 0 starts anew, any other follows the last."""
        staged = self._staged.pop(shard, None)
        if number == 0 or staged is None:
            staged = StagedCopy()
        staged.add(number, data)
        self._staged[shard] = staged

    def install_copy(self, shard: ShardId, index: Index, term: Term) -> MachineState:
        """Replace the shard's state by the staged copy: the first half of an install."""
        state, items = self._staged.pop(shard, StagedCopy()).complete_at(shard, index, term)
        self.states[shard] = KeptState(state, items)
        self.logs.setdefault(shard, KeptLog())
        return state

    def close(self) -> None:
        """Nothing is held open."""


def _flip(data: bytes) -> bytes:
    """The same bytes but for one bit of the last."""
    return data[:-1] + bytes([data[-1] ^ 1])


def _read_flipped(key: bytes, stored: Stored) -> Stored:
    """What is read of a record with a flipped bit; raises ``StorageError``, unless nobody looks at its checksum."""
    return decode_record(key, _flip(encode_record(key, stored)))
