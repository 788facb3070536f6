"""The state environment: keys and machine states of all shards of a host, and the shard map.

What a flush writes can be read from its last transaction on, the one that holds the machine states, so that each
shard's keys are always exactly those of its machine state's ``last_applied`` (``runs`` says how). It may hold hundreds
of thousands of keys: they are sorted, but in slices, since one ``sorted`` over all of them would keep the
interpreter, and with it the loop, for tens of milliseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import lmdb

from shardraft.errors import StorageError
from shardraft.host.making import first_state, shards_kept_on
from shardraft.host.turn import StateBatch
from shardraft.kv.commands import Stored
from shardraft.kv.machine import MachineImage, MachineState
from shardraft.kv.records import Record, decode_record
from shardraft.shards.shard_map import Shard, ShardMap
from shardraft.storage.environment import (
    META,
    PUT_RECORDS_MAX,
    Database,
    Environment,
    Transaction,
)
from shardraft.storage.kept_replicas import KeptReplica, put_replica, read_replica, read_replicas
from shardraft.storage.layout import RUNS_KEY, SHARD_MAP_KEY, decode_runs, encode_runs, shard_key
from shardraft.storage.pacing import Pace
from shardraft.storage.runs import (
    DELETED,
    MERGE_RECORDS_MAX,
    MERGED_RUNS,
    RUN_NAMES,
    RUNS_MAX,
    RunNumbers,
    newest_rows,
    next_rows,
    put_rows,
)
from shardraft.types import HostId, ReplicaId, ShardId
from shardraft.wire.stored import (
    decode_machine_state,
    decode_shard_map,
    encode_machine_state,
    encode_shard_map,
)

MACHINES: Final = b"machines"
KEYS: Final = b"keys"
DATABASES: Final = (MACHINES, KEYS)

_SORT_KEYS_MAX: Final = 4_096
"""Keys sorted in one call, about 1 ms."""
_SAMPLES_PER_SLICE: Final = 8
TRANSACTION_BYTES_MAX: Final = 1 << 20
"""Records written in one transaction of a flush or a merge, about: what LMDB then keeps in memory for ever, and what
the log's syncs have to wait for on the same disk."""
SMALL_FLUSH_RECORDS_MAX: Final = 4096
"""A flush of so few records is put into the newest run, or into the keys when there is none."""

_record_of: Final = itemgetter(1)


class StateEnvironment(Environment):
    """What writes or merges belongs to the state's thread, what reads to any."""

    def __init__(self, path: Path, map_bytes: int, *, create: bool = False) -> None:
        super().__init__(path, b"state", DATABASES, map_bytes, create=create, made_at_need=RUN_NAMES)
        self._machines: Database = self.database(MACHINES)
        self._keys: Database = self.database(KEYS)
        self._run_databases = [self.database(name) for name in RUN_NAMES]
        with self.reading(META) as transaction, self.naming("runs"):
            self._note_runs(decode_runs(transaction.get(RUNS_KEY)))
        self._pace = Pace()
        self._merging: RunNumbers = ()
        self._merged_to = b""

    # Writing

    def commit(self, batch: StateBatch) -> None:
        """Write all images, visible with the last transaction; then a piece of the merge. Raises ``StorageError``.

        A flush merges twice as many records as it brings, so merging keeps up with flushing.
        """
        self._pace.begin_flush()
        images = sorted(batch.images, key=_shard_of)
        records = sum(len(image.changes) for image in images)
        runs = self._runs_for(records)
        is_new = runs is not self._runs
        if is_new:
            self._fill(self._run_databases[runs[0]], images)
        with self.writing() as transaction:
            for image in images:
                if not is_new:
                    self._put_changes(transaction, image)
                self._put_machine(transaction, image.state)
            if is_new:
                transaction.put(RUNS_KEY, encode_runs(runs), db=self.database(META))
        if is_new:
            self._note_runs(runs)
        budget = 2 * records
        while budget > 0 and self._has_to_merge():
            self._pace.begin_transaction()
            budget -= self._merge()

    def _fill(self, run: Database, images: Sequence[MachineImage]) -> None:
        """Write a run that nobody knows of yet, in transactions of bounded size: LMDB never returns their memory."""
        with self.writing() as transaction:
            if transaction.stat(run)["entries"]:
                transaction.drop(run, delete=False)  # A crash came before it was known.
        slices = (rows for image in images for rows in _rows_of(image))
        is_all = False
        while not is_all:
            self._pace.begin_transaction()
            size = 0
            with self.writing() as transaction:
                cursor = transaction.cursor(run)
                while not is_all and size < TRANSACTION_BYTES_MAX:
                    rows = next(slices, [])
                    cursor.putmulti(rows, append=True)
                    size += sum(map(len, map(_record_of, rows)))
                    is_all = not rows

    def _runs_for(self, records: int) -> RunNumbers:
        """The runs there are when a flush is written, of which the first takes it; none: it goes into the keys."""
        if records <= SMALL_FLUSH_RECORDS_MAX and (not self._runs or self._runs[0] not in self._merging):
            return self._runs
        while len(self._runs) == RUNS_MAX:
            self._has_to_merge()
            self._merge()
        return (min(set(range(RUNS_MAX)) - set(self._runs)), *self._runs)

    def merge_at_rest(self) -> bool:
        """Merge a piece of whatever runs there are; whether there is more to merge.

        For times in which nothing is written: reads of old keys then look into one database.
        """
        if not self._merging:
            self._merging, self._merged_to = self._runs, b""
        if self._merging:
            self._merge()
        return bool(self._runs)

    def runs_bytes(self) -> int:
        """What all runs take on disk."""
        with self.reading(META) as transaction:
            return sum(_pages_bytes(transaction.stat(self._run_databases[run])) for run in self._runs)

    def _has_to_merge(self) -> bool:
        if not self._merging and len(self._runs) >= MERGED_RUNS:
            self._merging, self._merged_to = self._runs, b""
        return bool(self._merging)

    def _merge(self) -> int:
        """Merge the next records of the runs being merged, in one transaction; how many that were."""
        merging = [self._run_databases[number] for number in self._merging]
        with self.writing() as transaction:
            rows = next_rows(transaction, merging, self._merged_to, _merge_count(transaction, merging))
            put_rows(transaction.cursor(self._keys), rows)
            if not rows:
                # One at a time, the oldest first: each takes milliseconds, and those that are left hide it as they did.
                transaction.drop(merging[-1], delete=False)
                transaction.put(RUNS_KEY, encode_runs(self._runs[:-1]), db=self.database(META))
        if rows:
            self._merged_to = rows[-1][0]
        else:
            self._note_runs(self._runs[:-1])
            self._merging = self._merging[:-1]
        return len(rows)

    def _note_runs(self, runs: RunNumbers) -> None:
        """There are these from now on. Who reads looks into them and then into the keys."""
        self._runs: RunNumbers = runs
        self._databases_to_read: Sequence[Database] = (*[self._run_databases[run] for run in runs], self._keys)

    def save_shard_map(self, shard_map: ShardMap, host: HostId) -> None:
        """Keep the map and create, empty, those of its shards that belong on ``host`` and do not exist."""
        with self.writing() as transaction:
            transaction.put(SHARD_MAP_KEY, encode_shard_map(shard_map), db=self.database(META))
            for shard in shards_kept_on(shard_map, host):
                self._create_shard(transaction, shard, shard.membership.replica_on(host), shard_map.epoch)

    def _create_shard(self, transaction: Transaction, shard: Shard, replica: ReplicaId, epoch: int) -> None:
        """Create an empty shard of the map, unless it is here or was removed from here."""
        if transaction.get(shard_key(shard.shard), db=self._machines) is not None:
            return
        if read_replica(transaction, self.database(META), shard.shard) is None:
            self._put_machine(transaction, first_state(shard, epoch))
            if replica:
                put_replica(transaction, self.database(META), shard.shard, replica, is_removed=False)

    def create_replica(self, replica: ReplicaId, state: MachineState) -> None:
        """Keep the state of a new replica, and its number."""
        with self.writing() as transaction:
            assert self.read_machine(transaction, state.shard) is None, "this host holds one replica of a shard at most"
            known = read_replica(transaction, self.database(META), state.shard)
            assert known is None or known.replica < replica, "replica numbers are never used again"
            put_replica(transaction, self.database(META), state.shard, replica, is_removed=False)
            self._put_machine(transaction, state)

    def remove_replica(self, shard: ShardId, replica: ReplicaId) -> None:
        """Put a tombstone in place of a replica and everything that it applied."""
        with self.writing() as transaction:
            put_replica(transaction, self.database(META), shard, replica, is_removed=True)
            self._delete_keys(transaction, shard)
            transaction.delete(shard_key(shard), db=self._machines)

    def replace_shard(self, state: MachineState, records: Iterable[list[tuple[bytes, bytes]]]) -> None:
        """Put a shard's whole state in place of the one before, in one transaction.

        ``records`` are slices of (routing key, record), ascending. An error that they raise leaves the old state.
        """
        prefix = shard_key(state.shard)
        with self.writing() as transaction:
            self._delete_keys(transaction, state.shard)
            cursor = transaction.cursor(self._keys)
            for some in records:
                cursor.putmulti([(prefix + key, record) for key, record in some])
            self._put_machine(transaction, state)

    def _delete_keys(self, transaction: Transaction, shard: ShardId) -> None:
        prefix = shard_key(shard)
        for database in (self._keys, *self._run_databases):
            cursor = transaction.cursor(database)
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                found = cursor.delete()

    def _put_changes(self, transaction: Transaction, image: MachineImage) -> None:
        """Put a small flush into the newest run, or into the keys when there is no run that would hide them."""
        if self._runs:
            cursor = transaction.cursor(self._run_databases[self._runs[0]])
            for rows in _rows_of(image):
                cursor.putmulti(rows)
        else:
            cursor = transaction.cursor(self._keys)
            for rows in _rows_of(image):
                put_rows(cursor, rows)

    def _put_machine(self, transaction: Transaction, state: MachineState) -> None:
        transaction.put(shard_key(state.shard), encode_machine_state(state), db=self._machines)

    # Reading

    def get(self, shard: ShardId, key: bytes) -> Stored | None:
        """The flushed value of a routing key. Raises ``StorageError`` when the disk changed it.

        A flush whose commit returns at this very moment may not be seen yet.
        """
        return self.get_many(shard, (key,), 0)[0]

    def get_many(self, shard: ShardId, keys: Sequence[bytes], bytes_max: int) -> list[Stored | None]:
        """The same of the first of ``keys``, up to the one whose value passes ``bytes_max`` in all."""
        prefix = shard_key(shard)
        found: list[Stored | None] = []
        try:
            transaction, databases = self._begin_get()
            try:
                get = transaction.get
                for key in keys:  # As ``kv.lookup`` says it; a call for each key would take half as long again.
                    place = prefix + key
                    record = None
                    for database in databases:
                        record = get(place, None, database)
                        if record is not None:
                            break
                    stored = decode_record(key, record) if record else None
                    found.append(stored)
                    if stored is not None:
                        bytes_max -= len(stored.value)
                        if bytes_max < 0:
                            break
            finally:
                transaction.abort()
        except lmdb.Error as error:
            raise self.unreadable(error) from error
        return found

    def _begin_get(self) -> tuple[Transaction, Sequence[Database]]:
        # Asking the database which runs there are would cost as much as the read. If those known before the
        # transaction began are those known after, then none of them has been given to a newer flush in between.
        while True:
            databases = self._databases_to_read
            transaction = self.lmdb.begin(self._keys)
            if databases is self._databases_to_read:
                return transaction, databases
            transaction.abort()

    def scan(self, shard: ShardId, start: bytes, end: bytes, entries_max: int) -> list[tuple[bytes, Stored]]:
        """Up to ``entries_max`` keys in [``start``, ``end``), ascending; an empty ``end`` means no end."""
        with self.reading(KEYS) as transaction:
            return [
                (key, decode_record(key, record))
                for key, record in islice(self.records(transaction, shard, start, end), entries_max)
            ]

    def records(
        self, transaction: Transaction, shard: ShardId, start: bytes = b"", end: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """The routing keys and records of a shard in a read transaction, ascending, unchecked."""
        with self.naming("runs"):
            runs = decode_runs(transaction.get(RUNS_KEY, db=self.database(META)))
        databases = [*(self._run_databases[run] for run in runs), self._keys]
        sources = [_records_in(transaction, database, shard, start, end) for database in databases]
        return newest_rows(sources) if runs else sources[0]

    def read_machine(self, transaction: Transaction, shard: ShardId) -> MachineState | None:
        """A shard's machine state in a read transaction; None when the host does not hold the shard."""
        stored = transaction.get(shard_key(shard), db=self._machines)
        if stored is None:
            return None
        with self.naming(f"shard {shard}"):
            return decode_machine_state(stored)

    def recover(self) -> tuple[ShardMap | None, dict[ShardId, MachineState], dict[ShardId, KeptReplica]]:
        """The shard map, all machine states, and this host's replicas, present and removed. Raises ``StorageError``."""
        with self.reading(META) as transaction:
            stored = transaction.get(SHARD_MAP_KEY)
            with self.naming("shard map"):
                shard_map = None if stored is None else decode_shard_map(stored)
            states = {}
            for key, value in transaction.cursor(self._machines):
                with self.naming(f"machine state {key.hex()}"):
                    state = decode_machine_state(value)
                    if shard_key(state.shard) != key:
                        raise StorageError(f"it is the state of shard {state.shard}")
                states[state.shard] = state
            with self.naming("replicas"):
                replicas = read_replicas(transaction, self.database(META))
        return shard_map, states, replicas


def sorted_slices(keys: Collection[bytes]) -> Iterator[list[bytes]]:
    """All keys, ascending, in slices that are sorted one by one.

    Many keys are first dealt into buckets between splitters taken from a sample of them, so that no
    single sort is long.
    """
    if len(keys) <= _SORT_KEYS_MAX:
        yield sorted(keys)
        return
    slices = 1 + 2 * len(keys) // _SORT_KEYS_MAX
    sample = sorted(islice(keys, 0, None, max(1, len(keys) // (slices * _SAMPLES_PER_SLICE))))
    splitters = sample[_SAMPLES_PER_SLICE::_SAMPLES_PER_SLICE]
    buckets: list[list[bytes]] = [[] for _ in range(len(splitters) + 1)]
    for key in keys:
        buckets[bisect_right(splitters, key)].append(key)
    for bucket in buckets:
        bucket.sort()
        yield bucket


def _records_in(
    transaction: Transaction, database: Database, shard: ShardId, start: bytes, end: bytes
) -> Iterator[tuple[bytes, bytes]]:
    prefix = shard_key(shard)
    beyond = prefix + end
    cursor = transaction.cursor(database)
    if not cursor.set_range(prefix + start):
        return
    for key, record in cursor:
        if not key.startswith(prefix) or (end and key >= beyond):
            return
        yield key[len(prefix) :], record


def _rows_of(image: MachineImage) -> Iterator[list[tuple[bytes, Record]]]:
    """The changes of an image as they lie in a run: ascending, with their shard, in slices."""
    prefix = shard_key(image.state.shard)
    changes = image.changes
    for keys in sorted_slices(changes):
        for start in range(0, len(keys), PUT_RECORDS_MAX):
            some = keys[start : start + PUT_RECORDS_MAX]
            records = [changes[key] or DELETED for key in some]
            yield list(zip(map(prefix.__add__, some), records, strict=True))


def _merge_count(transaction: Transaction, runs: Sequence[Database]) -> int:
    """How many records of ``runs`` to merge in one transaction, by how large they are on average."""
    each = [transaction.stat(run) for run in runs]
    records = sum(run["entries"] for run in each)
    pages_bytes = sum(map(_pages_bytes, each))
    return min(MERGE_RECORDS_MAX, TRANSACTION_BYTES_MAX * records // max(pages_bytes, 1))


def _pages_bytes(stat: Any) -> int:
    pages_bytes: int = stat["psize"] * (stat["leaf_pages"] + stat["overflow_pages"])
    return pages_bytes


def _shard_of(image: MachineImage) -> ShardId:
    return image.state.shard
