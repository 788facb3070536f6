"""The configurations that one replica's log holds, so that truncation can go back to a former one."""

from __future__ import annotations

from typing import Final

from shardraft.errors import StorageError
from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.log import RaftLog
from shardraft.raft.membership import MembershipError, decode_membership
from shardraft.types import Index, Membership, ReplicaId

_SCAN_BYTES_MAX: Final = 1 << 20


class Configurations:
    """Configurations by the index of their entry, ascending; the last one is in effect (section 6).

    The first is the base: what was in effect where the kept log begins. It is never truncated,
    since what lies below it is committed.
    """

    __slots__ = ("_kept",)

    def __init__(self, index: Index, membership: Membership) -> None:
        self._kept = [(index, membership)]

    @classmethod
    def of_log(cls, index: Index, membership: Membership, log: RaftLog) -> Configurations:
        """``membership`` as of ``index``, and every later one that ``log`` holds.

        Raises ``StorageError`` for a configuration that cannot be read.
        """
        found = cls(index, membership)
        low = max(index + 1, log.first_index)
        while low <= log.last_index:
            entries = log.entries(low, log.last_index + 1, _SCAN_BYTES_MAX)
            for entry in entries:
                if entry.kind == EntryKind.MEMBERSHIP:
                    found.append(entry.index, _stored_membership(entry))
            low = entries[-1].index + 1
        return found

    @property
    def index(self) -> Index:
        """The index of the configuration in effect."""
        return self._kept[-1][0]

    @property
    def latest(self) -> Membership:
        """The configuration in effect."""
        return self._kept[-1][1]

    def at(self, index: Index) -> Membership:
        """The configuration in effect at ``index``; below the base, the base."""
        return self.since(index)[0]

    def since(self, index: Index) -> list[Membership]:
        """The configuration in effect at ``index`` and every later one, ascending."""
        kept = self._kept
        first = max((place for place, (at, _) in enumerate(kept) if at <= index), default=0)
        return [membership for _, membership in kept[first:]]

    def knows(self, replica: ReplicaId) -> bool:
        """Whether ``replica`` is or was a member, as far as the kept log tells."""
        return any(membership.host_of(replica) for _, membership in self._kept)

    def append(self, index: Index, membership: Membership) -> None:
        """The entry at ``index`` brings a configuration."""
        assert index > self.index, "configurations come in the order of the log"
        self._kept.append((index, membership))

    def truncate_from(self, index: Index) -> bool:
        """The entries from ``index`` up are gone; True when a configuration went with them."""
        kept = len(self._kept)
        while len(self._kept) > 1 and self._kept[-1][0] >= index:
            self._kept.pop()
        return len(self._kept) < kept

    def compact_to(self, index: Index) -> None:
        """The entries up to ``index`` are gone; the configuration in effect there becomes the base."""
        while len(self._kept) > 1 and self._kept[1][0] <= index:
            del self._kept[0]


def _stored_membership(entry: Entry) -> Membership:
    try:
        return decode_membership(entry.payload)
    except MembershipError as error:
        raise StorageError(f"the configuration stored at {entry.index} cannot be read: {error}") from error
