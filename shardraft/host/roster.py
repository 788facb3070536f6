"""Where the replicas of one group are: whom a message to a replica goes to, and who may speak for it."""

from __future__ import annotations

from typing import Final

from shardraft.raft.group import Group
from shardraft.types import NO_HOST, HostId, ReplicaId

STRANGERS_MAX: Final = 64
"""Strangers whose hosts are remembered; beyond, the one met first is forgotten."""


class Roster(dict[ReplicaId, HostId]):
    """The host of each replica that the group has to do with; ``NO_HOST`` for one that nobody has heard of.

    A lookup is one in a dictionary; what is not in it yet is asked of Raft, which knows the members of the
    present and, while the log does, of former configurations. A *stranger* is a replica that Raft does not
    know: a leader or a candidate of a later configuration than this replica has seen. It is heard all the
    same, and answered where it spoke from (PROTOCOL; thesis 4.1).
    """

    def __init__(self, raft: Group) -> None:
        super().__init__()
        self._raft = raft
        self._strangers: dict[ReplicaId, HostId] = {}

    def __missing__(self, replica: ReplicaId) -> HostId:
        host = self._raft.host_of(replica) or self._strangers.get(replica, NO_HOST)
        if host:
            self[replica] = host
        return host

    def reconfigured(self) -> None:
        """Another configuration is in effect."""
        self.clear()

    def meet(self, replica: ReplicaId, host: HostId) -> bool:
        """``replica`` speaks from ``host``: True unless it is known to be on another host."""
        if self[replica] == host:
            return True
        if self._raft.host_of(replica):
            return False
        strangers = self._strangers
        strangers.pop(replica, None)
        strangers[replica] = self[replica] = host
        if len(strangers) > STRANGERS_MAX:
            oldest = next(iter(strangers))
            del strangers[oldest]
            self.pop(oldest, None)
        return True
