"""Whose disk it is: the identity file, the same identity in log and state, and the start that raises it.

An identity stands in three places and they must agree, since a voter that starts from a blank, foreign or
older disk votes twice (PROTOCOL, "Log, state, snapshots"). Each start moves all three to the next
incarnation with another boot nonce, in four steps, each durable before the next:

1. ``identity.starting`` is written with the next identity,
2. the log takes it over,
3. the state takes it over,
4. ``identity.starting`` is renamed to ``identity``.

After a crash in between, each of the two holds the identity of one of the two files, and the next start
finishes the steps first. A log or a state with any other identity does not belong here.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, Protocol

from shardraft.errors import StorageError
from shardraft.storage.directory import (
    CREATING_NAME,
    LOCK_NAME,
    DataDirectory,
    DirectoryLock,
    rename_file,
    replace_file,
    sync_directory,
)
from shardraft.storage.environment import MAP_BYTES
from shardraft.storage.inspection import REPLACE_HOST
from shardraft.storage.log import SegmentedLog
from shardraft.storage.state import StateEnvironment
from shardraft.types import HostId, Identity
from shardraft.wire.stored import decode_identity, encode_identity

_NAMES_IN_BLANK: Final = frozenset({LOCK_NAME, CREATING_NAME, f"{CREATING_NAME}.tmp", "lost+found"})


class IdentityBearer(Protocol):
    """The log or the state, as far as it knows whom it belongs to."""

    @property
    def path(self) -> Path: ...

    def read_identity(self) -> Identity: ...


class IdentityHolder(IdentityBearer, Protocol):
    """One that takes over the identity of a start."""

    def write_identity(self, identity: Identity) -> None: ...


def read_identity_file(path: Path) -> Identity | None:
    """The identity in a file; None when there is no such file. Raises ``StorageError`` when it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read ({error.strerror}): check the disk and the owner of the file"
        ) from error
    if not content:
        raise StorageError(f"{path} is empty (0 bytes), its contents were lost: {REPLACE_HOST}")
    try:
        return decode_identity(content)
    except StorageError as error:
        raise StorageError(f"{path}: {error}") from error


def has_identity(directory: Path) -> bool:
    """Whether a host ever had this data directory, so that it must be opened and never created."""
    return DataDirectory(directory).identity.exists()


def create_data_directory(directory: Path, cluster_id: bytes, host: HostId) -> None:
    """Make the empty data directory of a host that never ran. Raises ``StorageError`` when anything is there.

    ``directory`` may exist if it is empty (a fresh file system's ``lost+found`` does not count), or if an
    earlier making of it was interrupted.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{directory} cannot be made ({error.strerror}): choose another data directory") from error
    places = DataDirectory(directory)
    lock = DirectoryLock(places)
    try:
        _check_blank(places)
        _fill(places, Identity(cluster_id, host, 0, 0))
    except OSError as error:
        raise StorageError(f"{directory} cannot be written ({error.strerror}): check the disk") from error
    finally:
        lock.release()


def _check_blank(places: DataDirectory) -> None:
    if places.creating.exists() and not places.identity.exists():
        # Nothing ran from it: the identity is written last.
        shutil.rmtree(places.log, ignore_errors=True)
        shutil.rmtree(places.state, ignore_errors=True)
        return
    found = sorted(path.name for path in places.path.iterdir() if path.name not in _NAMES_IN_BLANK)
    if found:
        raise StorageError(
            f"{places.path} is not empty ({found[0]} is there): open it if it is this host's data directory, "
            "otherwise choose another for a host that never ran"
        )


def _fill(places: DataDirectory, identity: Identity) -> None:
    replace_file(places.creating, b"")
    places.log.mkdir(mode=0o700)
    SegmentedLog.create(places.log, identity)
    places.state.mkdir(mode=0o700)
    state = StateEnvironment(places.state, MAP_BYTES, create=True)
    try:
        state.write_format(identity)
    finally:
        state.close()
    sync_directory(places.state)
    replace_file(places.identity, encode_identity(identity))
    places.creating.unlink()
    sync_directory(places.path)
    sync_directory(places.path.resolve().parent)


def condemn(directory: DataDirectory, reason: str) -> None:
    """Let no process ever start from this directory again, because others know a later start of its host.

    Without that an old copy would be taken for the newest once it was started often enough, since every
    start counts. Raises ``StorageError`` when the disk does not take it.
    """
    try:
        replace_file(directory.superseded, reason.encode())
    except OSError as error:
        raise StorageError(f"{directory.superseded} cannot be written ({error.strerror}): {reason}") from error


def _check_not_superseded(directory: DataDirectory) -> None:
    try:
        reason = directory.superseded.read_text(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{directory.superseded} cannot be read ({error.strerror}): check the disk") from error
    raise StorageError(f"{directory.path} was refused by another host of its cluster: {reason}")


def check_directory(directory: DataDirectory, cluster_id: bytes | None, host: HostId | None) -> Identity:
    """The identity of a data directory, which must be that of the given cluster and host (None: any).

    Raises ``StorageError`` for a directory without one, or of somebody else.
    """
    identity = read_identity_file(directory.identity)
    if identity is None and directory.creating.exists():
        raise StorageError(f"the making of {directory.path} was interrupted and nothing ran from it: make it again")
    if identity is None:
        raise StorageError(_without_identity(directory))
    if cluster_id is not None and identity.cluster_id != cluster_id:
        raise StorageError(
            f"{directory.path} belongs to cluster {identity.cluster_id.hex()}, this host to {cluster_id.hex()}: "
            "give the data directory of this cluster, or an empty one to a host that never ran"
        )
    if host is not None and identity.host != host:
        raise StorageError(
            f"{directory.path} belongs to host {identity.host}, not to host {host}: "
            "give each host its own data directory"
        )
    _check_not_superseded(directory)
    return identity


def _without_identity(directory: DataDirectory) -> str:
    if directory.log.exists() or directory.state.exists():
        return (
            f"{directory.path} has data and no identity file, so nobody can say whose it is: "
            f"put the file back if it was moved, otherwise {REPLACE_HOST}"
        )
    if not directory.path.is_dir():
        return (
            f"{directory.path} does not exist: check that the disk is mounted; if it was lost, never start this host "
            "id again on an empty directory, but a new host under a new id"
        )
    return (
        f"{directory.path} is blank, it holds no identity of a host: check that the disk is mounted; if it was lost, "
        "never start this host id again on an empty directory, but a new host under a new id"
    )


def begin_incarnation(
    directory: DataDirectory, current: Identity, holders: tuple[IdentityHolder, ...], boot_nonce: int
) -> Identity:
    """Check that all three places agree, then move them to the next incarnation, which is returned."""
    starting = read_identity_file(directory.starting)
    if starting is not None:
        check_holders(directory, (current, starting), holders)
        _finish(directory, starting, holders)
        current = starting
    else:
        check_holders(directory, (current,), holders)
    following = Identity(current.cluster_id, current.host, current.incarnation + 1, boot_nonce)
    replace_file(directory.starting, encode_identity(following))
    _finish(directory, following, holders)
    return following


def check_holders(
    directory: DataDirectory, expected: tuple[Identity, ...], holders: tuple[IdentityBearer, ...]
) -> None:
    """Raises ``StorageError`` unless each holder has one of the ``expected`` identities, the newest of them last."""
    if any((its.cluster_id, its.host) != (expected[0].cluster_id, expected[0].host) for its in expected):
        raise StorageError(f"{directory.starting} belongs to another host than {directory.identity}: {REPLACE_HOST}")
    for holder in holders:
        found = holder.read_identity()
        if found in expected:
            continue
        if (found.cluster_id, found.host) != (expected[0].cluster_id, expected[0].host):
            raise StorageError(
                f"{holder.path} belongs to host {found.host} of cluster {found.cluster_id.hex()}, "
                f"but {directory.identity} says host {expected[0].host} of cluster {expected[0].cluster_id.hex()}: "
                "put back the directory that belongs here"
            )
        raise StorageError(
            f"{holder.path} was last used by start {found.incarnation} of this host, {directory.identity} by start "
            f"{expected[-1].incarnation}: one of them is an older copy; put back what belongs together, "
            f"otherwise {REPLACE_HOST}"
        )


def _finish(directory: DataDirectory, identity: Identity, holders: tuple[IdentityHolder, ...]) -> None:
    for holder in holders:
        holder.write_identity(identity)
    rename_file(directory.starting, directory.identity)
