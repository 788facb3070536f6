"""How much of a log may go at once, when an operator asks for it."""

from __future__ import annotations

from typing import Final

from shardraft.host.commits import Commits
from shardraft.host.compaction import compaction_at
from shardraft.host.copying import Copying
from shardraft.host.followers import held_by_live_followers
from shardraft.host.replica import Replica
from shardraft.host.voter import Voter
from shardraft.learner.feed import Feed
from shardraft.learner.messages import AttachOutcome
from shardraft.types import Index, ShardId

_FED: Final = (AttachOutcome.STREAMING, AttachOutcome.PARKED)


class Cutting:
    """Cuts a log at the flushed state, but for what somebody who lives lacks: a cut would cost him a full copy."""

    def __init__(self, voters: dict[ShardId, Voter], feed: Feed, copying: Copying, commits: Commits) -> None:
        self._voters = voters
        self._feed = feed
        self._copying = copying
        self._commits = commits

    def cut(self, replica: Replica, now_us: int) -> None:
        """Drop every entry that is flushed here and held by all live followers, and by all children."""
        compaction = compaction_at(replica, min([replica.machine.flushed_index, *self._held(replica, now_us)]))
        if compaction is not None:
            replica.compact(compaction[1])
            self._commits.compact(compaction)

    def _held(self, replica: Replica, now_us: int) -> list[Index]:
        shard = replica.shard
        held = [
            status.acknowledged_index
            for child in self._feed.children()
            for status in child.shards
            if status.shard == shard and status.outcome in _FED
        ]
        voter = self._voters.get(shard)
        if voter is not None:
            held += held_by_live_followers(voter, now_us)
        copied = self._copying.needed_above(shard)
        return held if copied is None else [*held, copied]
