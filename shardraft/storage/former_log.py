"""Takes over a log that an earlier 0.1.0 kept in an LMDB environment: once, at start, before anything else is read.

The new log is made beside the old one and takes its place by two renames; whatever a crash leaves, the next start
finishes or begins again. Nothing of the old log goes before the new one is durable.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import lmdb

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.raft.entry import Entry, EntryError, decode_entry
from shardraft.raft.ready import LogWrite
from shardraft.storage.directory import DataDirectory, sync_directory
from shardraft.storage.identity import check_holders, read_identity_file
from shardraft.storage.inspection import DATA_NAME, REPLACE_HOST, dry_run, inspect_data_file
from shardraft.storage.layout import FORMAT_KEY, IDENTITY_KEY, check_format, decode_base
from shardraft.storage.log import SegmentedLog
from shardraft.types import Identity, Index, ShardId
from shardraft.wire.stored import decode_hard_state, decode_identity

PART_BYTES: Final = 4 << 20
"""Entries that are written to the new log at a time, bytes, and one entry more."""
_SHARD_KEY: Final = struct.Struct(">I")
_ENTRY_KEY: Final = struct.Struct(">IQ")


def take_over(places: DataDirectory, current: Identity) -> None:
    """Make the log of ``places``, whose identity file says ``current``, one of segments if it is not.

    Raises ``StorageError``, and ``OSError``.
    """
    new, former = places.log.with_name("log.new"), places.log.with_name("log.former")
    if not places.log.exists() and former.exists() and new.exists():
        _put_in_place(places.log, new)
    if (places.log / DATA_NAME).exists():
        shutil.rmtree(new, ignore_errors=True)
        try:
            _convert(places, current, new)
        except (OSError, StorageError):
            shutil.rmtree(new, ignore_errors=True)  # It may hold the room that the disk lacks.
            raise
        places.log.rename(former)
        _put_in_place(places.log, new)
    if former.exists() and places.log.exists():
        shutil.rmtree(former)


def _put_in_place(log: Path, new: Path) -> None:
    new.rename(log)
    sync_directory(log.parent)


def _convert(places: DataDirectory, current: Identity, new: Path) -> None:
    old = places.log
    inspect_data_file(old)
    dry_run(old)
    environment = lmdb.open(str(old), readonly=True, lock=False, create=False, max_dbs=4, lib_version=0)
    try:
        with environment.begin() as transaction:
            former = FormerLog(old, environment, transaction)
            starting = read_identity_file(places.starting)
            check_holders(places, (current,) if starting is None else (current, starting), (former,))
            new.mkdir(mode=0o700)
            SegmentedLog.create(new, former.read_identity())
            log = SegmentedLog(new)
            try:
                former.copy_to(log)
            finally:
                log.close()
    except StorageError as error:
        raise StorageError(f"{old}: {error}") from error
    except (lmdb.Error, EntryError) as error:
        raise StorageError(f"{old} cannot be taken over ({error}): {REPLACE_HOST}") from error
    finally:
        environment.close()


class FormerLog:
    """A log in LMDB, which is read and never written."""

    def __init__(self, path: Path, environment: lmdb.Environment, transaction: lmdb.Transaction[bytes]) -> None:
        """Raises ``StorageError`` unless it is the log of a host."""
        self.path = path
        self._environment = environment
        self._transaction = transaction
        check_format(transaction.get(FORMAT_KEY, db=self._database(b"meta")) or b"", b"log")

    def _database(self, name: bytes) -> Any:
        return self._environment.open_db(name, txn=self._transaction, create=False)

    def read_identity(self) -> Identity:
        return decode_identity(self._transaction.get(IDENTITY_KEY, db=self._database(b"meta")) or b"")

    def copy_to(self, log: SegmentedLog) -> None:
        log.recover()
        bases: dict[ShardId, Index] = {}
        for key, record in self._transaction.cursor(self._database(b"bases")):
            shard = _SHARD_KEY.unpack(key)[0]
            bases[shard], term = decode_base(record)
            log.reset(shard, bases[shard], term)
        for shard, part in _in_parts(self._transaction.cursor(self._database(b"entries")), bases):
            log.commit([LogBatch((LogWrite(shard, 0, None, part),))])
        for key, record in self._transaction.cursor(self._database(b"hard_states")):
            write = LogWrite(_SHARD_KEY.unpack(key)[0], 0, None, (), decode_hard_state(record))
            log.commit([LogBatch((write,))])


def _in_parts(
    records: Iterable[tuple[bytes, bytes]], bases: dict[ShardId, Index]
) -> Iterator[tuple[ShardId, tuple[Entry, ...]]]:
    """The entries that are not compacted, of one shard at a time."""
    part: list[Entry] = []
    part_bytes = of = 0
    for key, encoded in records:
        shard, index = _ENTRY_KEY.unpack(key)
        if index <= bases.get(shard, 0):
            continue
        if part and (shard != of or part_bytes >= PART_BYTES):
            yield of, tuple(part)
            part, part_bytes = [], 0
        of = shard
        part.append(decode_entry(encoded, shard))
        part_bytes += len(encoded)
    if part:
        yield of, tuple(part)
