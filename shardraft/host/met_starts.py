"""The starts of other hosts that one host has met, so that a wiped disk or an old copy is found out.

A host that lost its disk has forgotten its votes; counted under its old id it could vote twice in a
term (PROTOCOL, "Log, state, snapshots"). Each start of a disk has a higher incarnation than the one
before and a nonce of its own; whoever shows a lower incarnation than before, or the same with another
nonce, is refused by everybody who met the former one.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.types import HostId


@attrs.frozen(slots=True)
class Start:
    """One start of a host from its disk."""

    incarnation: int
    boot_nonce: int


class MetStarts:
    """The highest start of each host that was met. It must outlive the process: its world keeps it on the disk."""

    def __init__(self, starts: Mapping[HostId, Start]) -> None:
        self._starts = dict(starts)

    def meet(self, host: HostId, start: Start) -> bool:
        """Judge a host by the start that it shows; True when that is news, to be kept before the host is let in.

        Raises ``ProtocolError`` (STALE_DISK) when it runs from another disk than it did before.
        """
        known = self._starts.get(host)
        if known == start:
            return False
        if known is not None and start.incarnation <= known.incarnation:
            raise ProtocolError(
                ErrorCode.STALE_DISK,
                f"host {host} shows start {start.incarnation} of its disk and was met in start {known.incarnation}: "
                "the disk was wiped or is an old copy, and votes it gave may be forgotten; bring back its newest data "
                "directory, or put a host under a new id in its place",
            )
        self._starts[host] = start
        return True

    def incarnation_of(self, host: HostId) -> int:
        """The highest incarnation in which ``host`` was met; 0 when it never was."""
        known = self._starts.get(host)
        return 0 if known is None else known.incarnation

    def in_order(self) -> list[tuple[HostId, Start]]:
        """Everything that is to be kept, by host."""
        return sorted(self._starts.items(), key=lambda item: item[0])
