"""A data directory as files: its lock, its paths, atomic replacement of a file, free space."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

import attrs

from shardraft.errors import StorageError

IDENTITY_NAME: Final = "identity"
STARTING_NAME: Final = "identity.starting"
CREATING_NAME: Final = "creating"
LOCK_NAME: Final = "lock"
LOG_NAME: Final = "log"
STATE_NAME: Final = "state"
COPIES_NAME: Final = "copies"
SUPERSEDED_NAME: Final = "superseded"


@attrs.frozen(slots=True)
class DataDirectory:
    """The names inside one data directory."""

    path: Path

    @property
    def identity(self) -> Path:
        return self.path / IDENTITY_NAME

    @property
    def starting(self) -> Path:
        """The identity that a start under way moves to (``identity``)."""
        return self.path / STARTING_NAME

    @property
    def creating(self) -> Path:
        """Stands while the directory is being made: nothing was ever promised from it."""
        return self.path / CREATING_NAME

    @property
    def log(self) -> Path:
        return self.path / LOG_NAME

    @property
    def state(self) -> Path:
        return self.path / STATE_NAME

    @property
    def copies(self) -> Path:
        return self.path / COPIES_NAME

    @property
    def superseded(self) -> Path:
        """Why this directory must never be used again; there is no such file in one that may (``condemn``)."""
        return self.path / SUPERSEDED_NAME

    def free_bytes(self) -> int:
        """What an ordinary process may still write to this file system, bytes."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize


class DirectoryLock:
    """Held by the one process that uses a data directory; given up by ``release`` or by the end of the process."""

    def __init__(self, directory: DataDirectory) -> None:
        """Take the lock. Raises ``StorageError`` when another process holds it, and names its pid."""
        path = directory.path / LOCK_NAME
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"{directory.path} cannot be used ({error.strerror}): make it a directory that this user may write"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip()
            os.close(self._file)
            raise StorageError(
                f"{directory.path} is in use by process {holder or 'unknown'}: "
                "stop that process first, or give this one another data directory"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        os.close(self._file)


def replace_file(path: Path, content: bytes) -> None:
    """Give ``path`` this content, durably and at once: after a crash it holds the old or the new, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    rename_file(temporary, path)


def rename_file(source: Path, target: Path) -> None:
    """Rename within one directory, durably."""
    source.rename(target)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
