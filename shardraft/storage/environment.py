"""One LMDB environment: opened in one way only, written in whole transactions, never again after a failure."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import lmdb

from shardraft.errors import StorageError
from shardraft.storage.layout import FORMAT_KEY, IDENTITY_KEY, check_format, encode_format
from shardraft.types import Identity
from shardraft.wire.stored import decode_identity, encode_identity

Transaction: TypeAlias = "lmdb.Transaction[bytes]"
Cursor: TypeAlias = "lmdb.Cursor[bytes]"
Database: TypeAlias = Any
"""py-lmdb does not export the type of a database handle."""

MAP_BYTES: Final = 64 << 30
"""Addresses reserved for each environment; the file grows only as it is filled. Never changed while open."""
META: Final = b"meta"
READERS_MAX: Final = 126
"""Read transactions at one time: one on the loop, a few on threads that make copies. More is a StorageError."""
PUT_RECORDS_MAX: Final = 1024
"""Records given to LMDB in one call: about 1 ms of work that other threads may have to wait for."""
_SPARE_TRANSACTIONS: Final = 8
_DISK_FULL_BYTES: Final = 1 << 20
KEPT: Final = "what was acknowledged before is kept"


class Environment:
    """``path`` is its directory. Each ``writing`` block is one transaction on the thread that calls it.

    LMDB does not remember that a sync failed: the next commit says that all is well (fsyncgate). So the
    first error is kept, and every later transaction is refused with it.
    """

    def __init__(
        self,
        path: Path,
        purpose: bytes,
        databases: tuple[bytes, ...],
        map_bytes: int,
        *,
        create: bool = False,
        made_at_need: tuple[bytes, ...] = (),
    ) -> None:
        """Open the environment, or make it with ``create``. Raises ``StorageError``.

        ``databases`` must be there; those ``made_at_need`` are created empty where they are not.
        """
        self.path = path
        self._purpose = purpose
        self._map_bytes = map_bytes
        self._failure: str | None = None
        try:
            # Never writemap (a full disk becomes SIGBUS), never less than the default sync (votes would be lost).
            self.lmdb = lmdb.open(
                str(path),
                map_size=map_bytes,
                create=create,
                mode=0o600,
                max_dbs=1 + len(databases) + len(made_at_need),
                max_readers=READERS_MAX,
                max_spare_txns=_SPARE_TRANSACTIONS,
                lib_version=0,
            )
        except lmdb.Error as error:
            raise StorageError(
                f"{path} cannot be opened ({error}): check its owner, the disk and the limit of address space"
            ) from error
        try:
            self.lmdb.reader_check()
            self._databases = {name: self.lmdb.open_db(name, create=create) for name in (META, *databases)}
            self._databases.update({name: self.lmdb.open_db(name) for name in made_at_need})
        except lmdb.Error as error:
            self.lmdb.close()
            raise StorageError(
                f"{path} is not the {purpose.decode()} environment of a host ({error}): "
                "put back the one that belongs here"
            ) from error

    def database(self, name: bytes) -> Database:
        return self._databases[name]

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One synced write transaction; durable when the block has ended. Raises ``StorageError``.

        An error of the caller's own leaves the block as itself, and nothing was written.
        """
        if self._failure is not None:
            raise StorageError(self._failure)
        try:
            with self.lmdb.begin(write=True) as transaction:
                yield transaction
        except (lmdb.Error, OSError) as error:
            self._failure = self._explain(error)
            raise StorageError(self._failure) from error

    def reading(self, database: bytes) -> Transaction:
        """A read transaction; the caller ends it soon, since it keeps old pages from being used again."""
        try:
            return self.lmdb.begin(self._databases[database])
        except lmdb.Error as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: lmdb.Error) -> StorageError:
        """What to raise when LMDB could not read."""
        return StorageError(f"{self.path} cannot be read ({error}): check the disk, then start the host again")

    @contextmanager
    def naming(self, what: str) -> Iterator[None]:
        """A ``StorageError`` of the block says where it was: this environment, and ``what`` in it."""
        try:
            yield
        except StorageError as error:
            raise StorageError(f"{self.path}, {what}: {error}") from error

    def write_format(self, identity: Identity) -> None:
        """What stands first in an environment: its format and whose it is."""
        with self.writing() as transaction:
            transaction.put(FORMAT_KEY, encode_format(self._purpose), db=self._databases[META])
            transaction.put(IDENTITY_KEY, encode_identity(identity), db=self._databases[META])

    def check_format(self) -> None:
        with self.naming("format"):
            check_format(self._read_meta(FORMAT_KEY), self._purpose)

    def read_identity(self) -> Identity:
        with self.naming("identity"):
            return decode_identity(self._read_meta(IDENTITY_KEY))

    def write_identity(self, identity: Identity) -> None:
        with self.writing() as transaction:
            transaction.put(IDENTITY_KEY, encode_identity(identity), db=self._databases[META])

    def _read_meta(self, key: bytes) -> bytes:
        with self.reading(META) as transaction:
            return transaction.get(key) or b""

    def free_bytes(self) -> int:
        """How much the file may still grow before the map is full. Pages free inside the file are not counted."""
        page_bytes: int = self.lmdb.stat()["psize"]
        return self._map_bytes - (self.lmdb.info()["last_pgno"] + 1) * page_bytes

    def close(self) -> None:
        self.lmdb.close()

    def _explain(self, error: Exception) -> str:
        if isinstance(error, lmdb.MapFullError):
            return (
                f"the map of {self.path} ({self._map_bytes} bytes) is full, {KEPT}: "
                "start the host again with a larger map size (it only reserves addresses)"
            )
        return explain_failure(self.path, error)


def explain_failure(path: Path, error: Exception) -> str:
    """What to say when a write to ``path`` failed, after which nothing may be written there."""
    if getattr(error, "code", getattr(error, "errno", 0)) == errno.ENOSPC or _disk_is_full(path):
        return f"the disk under {path} is full, {KEPT}: make room and start the host again"
    return (
        f"writing to {path} failed ({error}), {KEPT}: this host stops, since after a failed sync "
        "a later one may lie; check the disk, then start it again"
    )


def _disk_is_full(path: Path) -> bool:
    # LMDB reports a short write as an I/O error (seen with 0.9.36), so the disk itself is asked.
    try:
        status = os.statvfs(path)
    except OSError:
        return False  # A disk that fails may fail here too; the error that is explained says more.
    return status.f_bavail * status.f_frsize < _DISK_FULL_BYTES
