"""The starts of other hosts that this one has met, so that a wiped disk or an old copy is found out.

A host that lost its disk has forgotten its votes; counted under its old id it could vote twice in a
term (PROTOCOL, "Log, state, snapshots"). Each start of a data directory has a higher incarnation and
a nonce of its own; whoever shows a lower incarnation than before, or the same with another nonce, is
refused by everybody who met the former one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import attrs

from shardraft.errors import ErrorCode, ProtocolError, StorageError
from shardraft.storage.directory import replace_file
from shardraft.types import HostId

_FORMAT_VERSION: Final = 1
_FILE_NAME: Final = "peers.json"


@attrs.frozen(slots=True)
class Start:
    """One start of a host's data directory."""

    incarnation: int
    boot_nonce: int


class PeerBook:
    """Kept in the data directory; written when a host is met in a later start than before, which is rare.

    Raises ``StorageError`` when the file is damaged or of a newer format.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / _FILE_NAME
        self._starts: dict[HostId, Start] = self._read()

    def _read(self) -> dict[HostId, Start]:
        if not self._path.exists():
            return {}
        try:
            content = json.loads(self._path.read_text())
            version = content["format"]
            starts = {int(host): Start(int(of[0]), int(of[1])) for host, of in content["starts"].items()}
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise StorageError(
                f"{self._path} is damaged ({error}): restore it from a backup of this directory, or delete it if you "
                "are sure that no other host of the cluster lost its disk since"
            ) from error
        if version != _FORMAT_VERSION:
            raise StorageError(
                f"{self._path} has format {version} and this program knows {_FORMAT_VERSION}: use the newer program"
            )
        return starts

    def meet(self, host: HostId, start: Start) -> None:
        """Judge a host by the start it shows and remember it.

        Raises ``ProtocolError`` (STALE_DISK), and ``StorageError`` when it cannot be remembered.
        """
        known = self._starts.get(host)
        if known == start:
            return
        if known is not None and start.incarnation <= known.incarnation:
            raise ProtocolError(
                ErrorCode.STALE_DISK,
                f"host {host} shows start {start.incarnation} of its disk and was met in start {known.incarnation}: "
                "the disk was wiped or is an old copy, and votes it gave may be forgotten; bring back its newest data "
                "directory, or put a host under a new id in its place",
            )
        self._starts[host] = start
        self._write()

    def _write(self) -> None:
        starts = {str(other): [of.incarnation, of.boot_nonce] for other, of in sorted(self._starts.items())}
        try:
            replace_file(self._path, json.dumps({"format": _FORMAT_VERSION, "starts": starts}).encode())
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written ({error.strerror}): check the disk") from error
