"""Keeps the starts of other hosts that this one has met (``host.met_starts``) over its own restarts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from shardraft.errors import StorageError
from shardraft.host.met_starts import MetStarts, Start
from shardraft.storage.directory import replace_file
from shardraft.types import HostId

_FORMAT_VERSION: Final = 1
_FILE_NAME: Final = "peers.json"


class PeerBook:
    """Kept in the data directory; written when a host is met in a later start than before, which is rare.

    Raises ``StorageError`` when the file is damaged or of a newer format.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / _FILE_NAME
        self._met = MetStarts(self._read())

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
        if self._met.meet(host, start):
            self._write()

    def _write(self) -> None:
        starts = {str(other): [of.incarnation, of.boot_nonce] for other, of in self._met.in_order()}
        try:
            replace_file(self._path, json.dumps({"format": _FORMAT_VERSION, "starts": starts}).encode())
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written ({error.strerror}): check the disk") from error
