"""The state environment: keys and machine states of all shards of a host, and the shard map.

A flush is one transaction, so that each shard's keys are always exactly those of its machine state's
``last_applied``. It may hold hundreds of thousands of keys: they are sorted, since LMDB writes sorted keys
several times faster, but in slices, since one ``sorted`` over all of them would keep the interpreter, and
with it the loop, for tens of milliseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import compress, islice
from pathlib import Path
from typing import Final

import lmdb

from shardraft.errors import StorageError
from shardraft.host.turn import StateBatch
from shardraft.kv.commands import Stored
from shardraft.kv.machine import MachineImage, MachineState
from shardraft.kv.records import Record, decode_record
from shardraft.shards.shard_map import Shard, ShardMap
from shardraft.storage.environment import (
    META,
    PUT_RECORDS_MAX,
    Cursor,
    Database,
    Environment,
    Transaction,
)
from shardraft.storage.layout import (
    SHARD_MAP_KEY,
    shard_key,
)
from shardraft.types import HostId, ShardId
from shardraft.wire.stored import (
    decode_machine_state,
    decode_shard_map,
    encode_machine_state,
    encode_shard_map,
)

MACHINES: Final = b"machines"
KEYS: Final = b"keys"
DATABASES: Final = (MACHINES, KEYS)

_SORT_KEYS_MAX: Final = 16_384
"""Keys sorted in one call, about 5 ms."""
_SAMPLES_PER_SLICE: Final = 8


class StateEnvironment(Environment):
    """``commit``, ``save_shard_map`` and ``replace_shard`` belong to the state's thread; the rest to any."""

    def __init__(self, path: Path, map_bytes: int, *, create: bool = False) -> None:
        super().__init__(path, b"state", DATABASES, map_bytes, create=create)
        self._machines: Database = self.database(MACHINES)
        self._keys: Database = self.database(KEYS)

    # Writing

    def commit(self, batch: StateBatch) -> None:
        """Write all images in one transaction. Raises ``StorageError``."""
        with self.writing() as transaction:
            for image in sorted(batch.images, key=_shard_of):
                self._put_changes(transaction, image)
                self._put_machine(transaction, image.state)

    def save_shard_map(self, shard_map: ShardMap, host: HostId) -> None:
        """Keep the map and create, empty, those of its shards that belong on ``host`` and do not exist."""
        with self.writing() as transaction:
            transaction.put(SHARD_MAP_KEY, encode_shard_map(shard_map), db=self.database(META))
            for shard in shards_on(shard_map, host):
                if transaction.get(shard_key(shard.shard), db=self._machines) is None:
                    self._put_machine(transaction, MachineState(shard.shard, shard.key_range, shard_map.epoch))

    def replace_shard(self, state: MachineState, records: Iterable[list[tuple[bytes, bytes]]]) -> None:
        """Put a shard's whole state in place of the one before, in one transaction.

        ``records`` are slices of (routing key, record), ascending. An error that they raise leaves the old state.
        """
        prefix = shard_key(state.shard)
        with self.writing() as transaction:
            cursor = transaction.cursor(self._keys)
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                found = cursor.delete()
            for some in records:
                cursor.putmulti([(prefix + key, record) for key, record in some])
            self._put_machine(transaction, state)

    def _put_changes(self, transaction: Transaction, image: MachineImage) -> None:
        prefix = shard_key(image.state.shard)
        changes = image.changes
        cursor = transaction.cursor(self._keys)
        for keys in sorted_slices(changes):
            for start in range(0, len(keys), PUT_RECORDS_MAX):
                self._put_slice(cursor, prefix, changes, keys[start : start + PUT_RECORDS_MAX])

    def _put_slice(
        self, cursor: Cursor, prefix: bytes, changes: Mapping[bytes, Record | None], keys: list[bytes]
    ) -> None:
        records = list(map(changes.__getitem__, keys))
        places = list(map(prefix.__add__, keys))
        cursor.putmulti(zip(compress(places, records), filter(None, records), strict=True))
        if None in records:
            for place, record in zip(places, records, strict=True):
                if record is None and cursor.set_key(place):
                    cursor.delete()

    def _put_machine(self, transaction: Transaction, state: MachineState) -> None:
        transaction.put(shard_key(state.shard), encode_machine_state(state), db=self._machines)

    # Reading

    def get(self, shard: ShardId, key: bytes) -> Stored | None:
        """The flushed value of a routing key. Raises ``StorageError`` when the disk changed it."""
        try:
            transaction = self.lmdb.begin(self._keys)
            record = transaction.get(shard_key(shard) + key)
            transaction.abort()
        except lmdb.Error as error:
            raise self.unreadable(error) from error
        return None if record is None else decode_record(key, record)

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
        """The routing keys and records of a shard in a read transaction of ``KEYS``, ascending, unchecked."""
        prefix = shard_key(shard)
        beyond = prefix + end
        cursor = transaction.cursor(self._keys)
        if not cursor.set_range(prefix + start):
            return
        for key, record in cursor:
            if not key.startswith(prefix) or (end and key >= beyond):
                return
            yield key[len(prefix) :], record

    def read_machine(self, transaction: Transaction, shard: ShardId) -> MachineState | None:
        """A shard's machine state in a read transaction; None when the host does not hold the shard."""
        stored = transaction.get(shard_key(shard), db=self._machines)
        if stored is None:
            return None
        with self.naming(f"shard {shard}"):
            return decode_machine_state(stored)

    def recover(self) -> tuple[ShardMap | None, dict[ShardId, MachineState]]:
        """The shard map and all machine states. Raises ``StorageError``."""
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
        return shard_map, states


def shards_on(shard_map: ShardMap, host: HostId) -> tuple[Shard, ...]:
    """The shards of the map that belong on a host: on a voter host those it is a member of, on a learner all."""
    if all(place.host != host for place in shard_map.hosts):
        return shard_map.shards
    return tuple(shard for shard in shard_map.shards if shard.membership.replica_on(host))


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


def _shard_of(image: MachineImage) -> ShardId:
    return image.state.shard
