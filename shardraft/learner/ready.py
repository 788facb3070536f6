"""What the read tree asks of its caller, and what it says about itself."""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

from shardraft.learner.messages import AttachOutcome, LearnerMessage
from shardraft.shards.shard_map import ShardMap
from shardraft.types import HostId, Index, ShardId

WHOLE_LINK: ShardId = 0
"""In a ``LearnerNote``: it is about the link, not about one shard (the meta group is never fed)."""


@attrs.frozen(slots=True)
class LearnerNote:
    """Something an operator cares about in the read tree: ``what`` is a few words, ``host`` the other side."""

    shard: ShardId
    host: HostId
    what: str


@attrs.frozen(slots=True)
class FeedReady:
    """What a feed has to send. Everything may leave at once: it is committed.

    ``messages`` by child connection, in order. ``copies_wanted`` names (connection, shard) whose
    entries the log no longer holds; the caller sends a copy and says ``Feed.copy_finished``, or
    closes the connection. ``closes``: connections that the feed already forgot.
    """

    messages: tuple[tuple[int, tuple[LearnerMessage, ...]], ...] = ()
    copies_wanted: tuple[tuple[int, ShardId], ...] = ()
    closes: tuple[int, ...] = ()
    notes: tuple[LearnerNote, ...] = ()


NOTHING_TO_FEED: Final = FeedReady()


@attrs.frozen(slots=True)
class ChildShardStatus:
    """How a child stands in one shard; ``lag_entries`` counts committed entries it does not hold durably."""

    shard: ShardId
    outcome: AttachOutcome
    acknowledged_index: Index
    lag_entries: int


@attrs.frozen(slots=True)
class ChildStatus:
    """A connected child; ``lag_entries`` is the sum over ``shards``, which are those it attached."""

    connection: int
    child: HostId
    endpoint: str
    lag_entries: int
    shards: tuple[ChildShardStatus, ...]


@attrs.frozen(slots=True)
class LearnerReady:
    """What a learner has to say to its parent on ``connection``, and what it learnt.

    ``shard_map``: keep it, make the shards in it and ``Learner.add_shard`` each that is not there yet.
    ``closes``: connections to the parent that the learner already forgot.
    """

    connection: int = 0
    messages: tuple[LearnerMessage, ...] = ()
    shard_map: ShardMap | None = None
    closes: tuple[int, ...] = ()
    notes: tuple[LearnerNote, ...] = ()


NOTHING_TO_SAY: Final = LearnerReady()


class Following(Enum):
    """How a learner follows one shard. All but DIVERGED keep serving what they hold."""

    DETACHED = "detached"
    """No parent, or a copy is being installed."""
    ATTACHING = "attaching"
    """Asked, not answered."""
    STREAMING = "streaming"
    PARKED = "parked"
    """Ahead of the parent."""
    COPYING = "copying"
    UNKNOWN = "unknown"
    """The parent does not hold the shard; asked again after a while."""
    DIVERGED = "diverged"
    """Serves nothing and takes nothing until it is made anew."""


@attrs.frozen(slots=True)
class FollowedShardStatus:
    """How this learner stands in one shard; ``parent_commit_index`` is the highest it heard of."""

    shard: ShardId
    following: Following
    last_index: Index
    parent_commit_index: Index
