"""The child's side of the read tree: one link to one parent, for all shards of a learner.

The caller's contract::

    learner.add_shard(shard)                        # each LearnerShard that the host holds
    learner.connected(connection, now_us)           # the link to the parent is up
    learner.received(connection, message, now_us)   # what the parent says
    learner.disconnected(connection)
    learner.persisted(shard, index)                 # the log of that shard is durable up to there
    learner.copy_installed(shard)                   # a copy replaced state and log
    learner.set_descendants(feed.descendants)       # what is below us, every turn
    learner.tick(now_us)                            # when next_deadline_us has passed
    ready = learner.take_ready()                    # once per turn
    feed.set_hello(learner.hello)                   # what we tell our own children

What it takes from a parent: entries that follow its log without a gap. A duplicate is dropped, a
gap or anything else that no correct parent sends closes the link, and the next one resumes where
the log ends. Heartbeats move no cursor. A shard that diverged takes and serves nothing more.

A parent that does not hold a shard is left for another (``parents`` says which) after a while. Where
nobody holds all shards, a learner so goes from one to the next, and follows each shard part of the time.
"""

from __future__ import annotations

import attrs

from shardraft.config import Limits
from shardraft.learner.messages import (
    Attach,
    AttachOutcome,
    AttachReply,
    ChildHello,
    DescendantPlace,
    FeedAck,
    FeedEntries,
    FeedHeartbeat,
    LearnerMessage,
    ParentHello,
)
from shardraft.learner.parents import Parents
from shardraft.learner.ports import LearnerShard
from shardraft.learner.ready import (
    NOTHING_TO_SAY,
    WHOLE_LINK,
    FollowedShardStatus,
    Following,
    LearnerNote,
    LearnerReady,
)
from shardraft.raft.entry import Entry
from shardraft.shards.shard_map import ShardMap
from shardraft.types import NO_HOST, HostId, Index, ShardId

_FOLLOWING = {
    AttachOutcome.STREAMING: Following.STREAMING,
    AttachOutcome.PARKED: Following.PARKED,
    AttachOutcome.COPYING: Following.COPYING,
    AttachOutcome.DIVERGED: Following.DIVERGED,
    AttachOutcome.UNKNOWN_SHARD: Following.UNKNOWN,
}


@attrs.define(slots=True, eq=False)
class _Followed:
    """One shard and how far the present parent knows us in it."""

    replica: LearnerShard
    following: Following = Following.DETACHED
    parent_commit_index: Index = 0
    acknowledged_index: Index = 0
    persisted_index: Index = 0


class _BadParent(Exception):
    """The parent sent what closes the link; the text says what."""


class Learner:
    """A learner's link to its parent. ``shard_map`` is None until it was ever heard.

    ``hello`` is what this learner tells its own children: None until it first heard from a parent,
    and still the last known place while it has none (its children stay where they are).
    """

    def __init__(
        self,
        host: HostId,
        endpoint: str,
        limits: Limits,
        shard_map: ShardMap | None = None,
        parents: tuple[str, ...] = (),
    ) -> None:
        self.host = host
        self.endpoint = endpoint
        self.shard_map = shard_map
        self.hello: ParentHello | None = None
        self.parent: HostId = NO_HOST
        """The parent that this learner is attached to, or ``NO_HOST``."""
        self.parents = Parents(parents, limits, shard_map)
        self._silence_us = limits.silence_ms_max * 1000
        self._lacks_us = limits.parent_lacks_ms_max * 1000
        self._shards: dict[ShardId, _Followed] = {}
        self._descendants: tuple[DescendantPlace, ...] = ()
        self._connection = 0
        self._is_connected = False
        self._heard_us = 0
        self._ask_again_us: int | None = None
        self._leave_us: int | None = None
        """When the parent is given up unless it has what it lacks; None while it lacks nothing."""
        self._messages: list[LearnerMessage] = []
        self._acks: dict[ShardId, _Followed] = {}
        self._shard_map_heard: ShardMap | None = None
        self._closes: list[int] = []
        self._notes: list[LearnerNote] = []

    # What the host holds and what became durable.

    def add_shard(self, replica: LearnerShard) -> None:
        """Follow one more shard, from the end of its log on."""
        assert replica.shard not in self._shards, "a shard is followed once"
        followed = self._shards[replica.shard] = _Followed(replica)
        if self.is_attached:
            self._attach(followed)

    def persisted(self, shard: ShardId, index: Index) -> None:
        """The log of ``shard`` is durable up to ``index``: the parent may send as much again."""
        followed = self._shards[shard]
        followed.persisted_index = index
        if self.is_attached and index > followed.acknowledged_index:
            self._acks[shard] = followed

    def copy_installed(self, shard: ShardId) -> None:
        """A received copy stands in place of state and log of ``shard``; the parent that sent it goes on from there."""
        followed = self._shards[shard]
        followed.acknowledged_index = followed.persisted_index = followed.replica.last_index
        self._acks.pop(shard, None)
        if self.is_attached and followed.following is Following.DETACHED:
            self._attach(followed)

    def set_descendants(self, descendants: tuple[DescendantPlace, ...]) -> None:
        """Every learner below this one; told to the parent when it changed. Cheap when it is the same."""
        if descendants is self._descendants:
            return
        self._descendants = descendants
        if self._is_connected:
            self._messages.append(self._child_hello())

    # The link.

    def connected(self, connection: int, now_us: int) -> None:
        """A link to a parent is up; a former one is given up."""
        if self._is_connected:
            self._close("another link took its place")
        self._connection = connection
        self._is_connected = True
        self._heard_us = now_us
        self._messages.append(self._child_hello())

    def disconnected(self, connection: int) -> None:
        """The link is gone. Every shard keeps serving what it holds."""
        if self._is_connected and connection == self._connection:
            self._note(WHOLE_LINK, "the link to the parent closed")
            self._forget_link()

    def received(self, connection: int, message: LearnerMessage, now_us: int) -> None:
        """One message of the parent; what a former link still delivers is ignored."""
        if not self._is_connected or connection != self._connection:
            return
        self._heard_us = now_us
        try:
            if isinstance(message, FeedEntries):
                self._entries(message)
            elif isinstance(message, FeedHeartbeat):
                self._heartbeat(message)
            elif isinstance(message, AttachReply):
                self._attach_reply(message, now_us)
            elif isinstance(message, ParentHello):
                self._parent_hello(message)
            else:
                raise _BadParent(f"a parent sends no {type(message).__name__}")
        except _BadParent as bad:
            self._close(str(bad))

    def tick(self, now_us: int) -> None:
        """Give up a silent parent, or one that lacks a shard; until then, ask it again."""
        if not self._is_connected:
            return
        if now_us - self._heard_us >= self._silence_us:
            self._close("the parent is silent")
        elif self._leave_us is not None and now_us >= self._leave_us:
            self._leave(now_us)
        elif self._ask_again_us is not None and now_us >= self._ask_again_us:
            self._ask_again_us = None
            for followed in self._shards.values():
                if followed.following is Following.UNKNOWN:
                    self._attach(followed)

    @property
    def next_deadline_us(self) -> int | None:
        """When ``tick`` is due; None without a parent."""
        if not self._is_connected:
            return None
        due = (self._heard_us + self._silence_us, self._ask_again_us, self._leave_us)
        return min(deadline_us for deadline_us in due if deadline_us is not None)

    # What leaves.

    def take_ready(self) -> LearnerReady:
        """Everything to say, once."""
        if not (self._messages or self._acks or self._closes or self._notes or self._shard_map_heard):
            return NOTHING_TO_SAY
        for shard, followed in self._acks.items():
            followed.acknowledged_index = followed.persisted_index
            self._messages.append(FeedAck(shard, followed.persisted_index))
        self._acks.clear()
        ready = LearnerReady(
            self._connection,
            tuple(self._messages),
            self._shard_map_heard,
            tuple(self._closes),
            tuple(self._notes),
        )
        self._messages.clear()
        self._closes.clear()
        self._notes.clear()
        self._shard_map_heard = None
        return ready

    # What others ask.

    @property
    def is_attached(self) -> bool:
        """The parent answered our hello and the link is up."""
        return self.parent != NO_HOST

    @property
    def tier(self) -> int | None:
        """One more than the parent's, as last heard; None before that."""
        return self.hello.tier if self.hello is not None else None

    @property
    def is_following(self) -> bool:
        """Every shard of the map is here and in step with the parent: nothing is asked, copied or diverged."""
        return (
            self.is_attached
            and self.shard_map is not None
            and len(self._shards) >= len(self.shard_map.shards)
            and all(item.following in (Following.STREAMING, Following.PARKED) for item in self._shards.values())
        )

    def has_diverged(self, shard: ShardId) -> bool:
        """The shard must not be served: its log is not the committed one."""
        return self._shards[shard].following is Following.DIVERGED

    def wants_copy(self, shard: ShardId) -> bool:
        """The parent said that a copy follows; chunks that come unasked are not for this log."""
        followed = self._shards.get(shard)
        return followed is not None and followed.following is Following.COPYING

    def shards(self) -> tuple[FollowedShardStatus, ...]:
        """How every shard stands, by shard."""
        return tuple(
            FollowedShardStatus(shard, item.following, item.replica.last_index, item.parent_commit_index)
            for shard, item in sorted(self._shards.items())
        )

    # What the parent said.

    def _parent_hello(self, message: ParentHello) -> None:
        if self.host in message.path:
            raise _BadParent(f"host {message.parent} is below this learner: a loop")
        self._hear_shard_map(message.shard_map)
        was_attached = self.is_attached
        self.parent = message.parent
        path = (*message.path, self.host)
        self.hello = ParentHello(self.host, message.tier + 1, path, self.shard_map)
        if not was_attached:
            self._note(WHOLE_LINK, f"attached at tier {message.tier + 1}")
            for shard in sorted(self._shards):
                self._attach(self._shards[shard])

    def _hear_shard_map(self, heard: ShardMap | None) -> None:
        known = self.shard_map
        if heard is None:
            return
        if known is not None and heard.cluster_id != known.cluster_id:
            raise _BadParent("the parent is of another cluster")
        # Hosts come and go within one epoch, and an older list of them than ours is corrected by the next parent.
        if known is None or heard.epoch > known.epoch or (heard.epoch == known.epoch and heard != known):
            self.shard_map = self._shard_map_heard = heard
            self.parents.tell(heard)

    def _attach(self, followed: _Followed) -> None:
        """Ask for what follows our log; not while a copy is about to replace it (``copy_installed`` asks then)."""
        replica = followed.replica
        if followed.following is Following.DIVERGED or replica.installing:
            return
        followed.following = Following.ATTACHING
        followed.acknowledged_index = index = replica.last_index
        applied_hash = replica.applied_hash if replica.last_applied == index else 0
        epoch = self.shard_map.epoch if self.shard_map is not None else 0
        self._messages.append(Attach(replica.shard, index, replica.last_term, applied_hash, epoch))

    def _attach_reply(self, message: AttachReply, now_us: int) -> None:
        followed = self._shards.get(message.shard)
        if followed is None or followed.following in (Following.DIVERGED, Following.DETACHED):
            return
        following = _FOLLOWING[message.outcome]
        if following is not followed.following and following is not Following.STREAMING:
            self._note(message.shard, f"{following.value} at index {followed.replica.last_index}")
        followed.following = following
        followed.parent_commit_index = max(followed.parent_commit_index, message.commit_index)
        if following is Following.UNKNOWN:
            self._lacking(now_us)
        elif self._leave_us is not None and not self._asked_in_vain():
            self._leave_us = None

    def _lacking(self, now_us: int) -> None:
        if self._ask_again_us is None:
            self._ask_again_us = now_us + self._silence_us
        if self._leave_us is None:
            self._leave_us = now_us + self._lacks_us

    def _asked_in_vain(self) -> list[ShardId]:
        """The shards that the parent lacks, or was just asked for again."""
        vain = (Following.UNKNOWN, Following.ATTACHING)
        return [shard for shard, followed in sorted(self._shards.items()) if followed.following in vain]

    def _leave(self, now_us: int) -> None:
        """The parent lacks a shard: let another feed all of them, but end no copy for that."""
        is_copying = any(
            item.following is Following.COPYING or item.replica.installing for item in self._shards.values()
        )
        self.parents.lacks_shard()
        if is_copying or not self.parents.has_other:
            self._leave_us = now_us + self._lacks_us
        else:
            self._close(f"the parent holds no replica of shard {self._asked_in_vain()[0]}")

    def _entries(self, message: FeedEntries) -> None:
        followed = self._shards.get(message.shard)
        if followed is None or not message.entries or followed.following is Following.DIVERGED:
            return
        replica = followed.replica
        if replica.installing:
            return
        followed.parent_commit_index = max(followed.parent_commit_index, message.commit_index)
        entries = _fresh_entries(message, replica)
        if entries:
            replica.accept(entries, message.commit_index)

    def _heartbeat(self, message: FeedHeartbeat) -> None:
        for shard, commit_index in message.commit_indexes:
            followed = self._shards.get(shard)
            if followed is not None and commit_index > followed.parent_commit_index:
                followed.parent_commit_index = commit_index

    # The end of a link.

    def _close(self, why: str) -> None:
        self._note(WHOLE_LINK, f"link closed: {why}")
        self._closes.append(self._connection)
        self._forget_link()

    def _forget_link(self) -> None:
        if self.is_attached and self._leave_us is None:
            self.parents.was_whole()
        self._is_connected = False
        self.parent = NO_HOST
        self._ask_again_us = self._leave_us = None
        self._messages.clear()
        self._acks.clear()
        for followed in self._shards.values():
            if followed.following is not Following.DIVERGED:
                followed.following = Following.DETACHED

    def _child_hello(self) -> ChildHello:
        return ChildHello(self.host, self.endpoint, self._descendants)

    def _note(self, shard: ShardId, what: str) -> None:
        self._notes.append(LearnerNote(shard, self.parent, what))


def _fresh_entries(message: FeedEntries, replica: LearnerShard) -> tuple[Entry, ...]:
    """The entries of ``message`` that follow the log; raises ``_BadParent`` when they do not fit it."""
    entries = message.entries
    last_index, term = replica.last_index, replica.last_term
    first_index = entries[0].index
    if first_index > last_index + 1:
        raise _BadParent(f"a gap in shard {message.shard}: {first_index} after {last_index}")
    known = last_index + 1 - first_index
    for index, entry in enumerate(entries, first_index):
        if entry.index != index:
            raise _BadParent(f"a gap in shard {message.shard}: {entry.index} in place of {index}")
        if (entry.term < term) if index > last_index else (index == last_index and entry.term != term):
            raise _BadParent(f"shard {message.shard}: the entry at {index} has term {entry.term}, ours was {term}")
        if index > last_index:
            term = entry.term
    return entries[known:] if known else entries
