"""Takes over a log that an earlier 0.1.0 kept in an LMDB environment: once, at start, before anything else is read.

The new log is made beside the old one and takes its place by two renames; whatever a crash leaves, the next start
finishes or begins again. Nothing of the old log goes before the new one is durable.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import lmdb

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.raft.entry import Entry, EntryError, decode_entry
from shardraft.raft.ready import LogWrite
from shardraft.storage.directory import DataDirectory, sync_directory
from shardraft.storage.inspection import DATA_NAME, REPLACE_HOST, dry_run, inspect_data_file
from shardraft.storage.layout import FORMAT_KEY, IDENTITY_KEY, check_format, decode_base
from shardraft.storage.log import SegmentedLog
from shardraft.types import Index, ShardId
from shardraft.wire.stored import decode_hard_state, decode_identity

COMMIT_ENTRIES: Final = 1024
"""Entries that are written to the new log at a time."""
_ENTRIES, _HARD_STATES, _BASES, _META = b"entries", b"hard_states", b"bases", b"meta"
_SHARD_KEY: Final = struct.Struct(">I")
_ENTRY_KEY: Final = struct.Struct(">IQ")


def take_over(places: DataDirectory) -> None:
    """Make the log of ``places`` one of segments if it is not. Raises ``StorageError``, and ``OSError``."""
    new, former = places.log.with_name("log.new"), places.log.with_name("log.former")
    if not places.log.exists() and former.exists() and new.exists():
        _put_in_place(places.log, new)
    if (places.log / DATA_NAME).exists():
        shutil.rmtree(new, ignore_errors=True)
        _convert(places.log, new)
        places.log.rename(former)
        _put_in_place(places.log, new)
    if former.exists() and places.log.exists():
        shutil.rmtree(former)


def _put_in_place(log: Path, new: Path) -> None:
    new.rename(log)
    sync_directory(log.parent)


def _convert(old: Path, new: Path) -> None:
    inspect_data_file(old)
    dry_run(old)
    new.mkdir(mode=0o700)
    environment = lmdb.open(str(old), readonly=True, lock=False, create=False, max_dbs=4, lib_version=0)
    try:
        with environment.begin() as transaction:
            _copy(environment, transaction, new)
    except StorageError as error:
        raise StorageError(f"{old}: {error}") from error
    except (lmdb.Error, EntryError) as error:
        raise StorageError(f"{old} cannot be taken over ({error}): {REPLACE_HOST}") from error
    finally:
        environment.close()


def _copy(environment: lmdb.Environment, transaction: lmdb.Transaction[bytes], new: Path) -> None:
    meta = environment.open_db(_META, txn=transaction, create=False)
    check_format(transaction.get(FORMAT_KEY, db=meta) or b"", b"log")
    SegmentedLog.create(new, decode_identity(transaction.get(IDENTITY_KEY, db=meta) or b""))
    log = SegmentedLog(new)
    log.recover()
    bases: dict[ShardId, Index] = {}
    for key, record in transaction.cursor(environment.open_db(_BASES, txn=transaction, create=False)):
        shard = _SHARD_KEY.unpack(key)[0]
        index, term = decode_base(record)
        bases[shard] = index
        log.reset(shard, index, term)
    entries = transaction.cursor(environment.open_db(_ENTRIES, txn=transaction, create=False))
    for shard, some in _in_parts(entries, bases):
        log.commit([LogBatch((LogWrite(shard, 0, None, some),))])
    for key, record in transaction.cursor(environment.open_db(_HARD_STATES, txn=transaction, create=False)):
        write = LogWrite(_SHARD_KEY.unpack(key)[0], 0, None, (), decode_hard_state(record))
        log.commit([LogBatch((write,))])
    log.close()


def _in_parts(
    records: Iterable[tuple[bytes, bytes]], bases: dict[ShardId, Index]
) -> Iterator[tuple[ShardId, tuple[Entry, ...]]]:
    """The entries that are not compacted, of one shard at a time."""
    part: list[Entry] = []
    of = 0
    for key, encoded in records:
        shard, index = _ENTRY_KEY.unpack(key)
        if index <= bases.get(shard, 0):
            continue
        if part and (shard != of or len(part) == COMMIT_ENTRIES):
            yield of, tuple(part)
            part = []
        of = shard
        part.append(decode_entry(encoded, shard))
    if part:
        yield of, tuple(part)
