"""What followers are to learn soon rides along with whatever leaves for their hosts anyway.

A frame costs its receiver a wake-up and a turn, many times what is in it. So a leader's commit index waits up to
``commit_push_ms`` for entries of its own group (``raft.commit_push``), and meanwhile takes any frame that passes:
an acknowledgement, or entries of another group.
"""

from __future__ import annotations

from shardraft.host.outbox import Outbox
from shardraft.host.voter import Voter
from shardraft.types import HostId, ShardId


class Telling:
    """The leaders of this host whose followers do not know all that is committed."""

    __slots__ = ("_outbox", "_released_to", "_voters")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._voters: dict[ShardId, Voter] = {}
        self._released_to: set[HostId] = set()

    def turn_of(self, voter: Voter) -> None:
        """``voter`` has taken its turn."""
        if voter.has_untold:
            self._voters[voter.shard] = voter

    def released(self) -> None:
        """A commit released what the outbox holds: it leaves in the frames of the next turn."""
        self._released_to.update(self._outbox.peer_messages)

    def turn(self) -> None:
        """All that leaves in this turn is known but this."""
        if self._voters:
            hosts = self._released_to.union(self._outbox.peer_messages)
            if hosts:
                self._voters = {shard: voter for shard, voter in self._voters.items() if voter.tell_commit(hosts)}
        if self._released_to:
            self._released_to.clear()
