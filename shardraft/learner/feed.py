"""The parent's side of the read tree: every shard of a host, given to every child of it.

The caller's contract::

    feed.add_shard(shard, log, commit_index, hash_at)     # each shard here, voter's or learner's
    feed.set_hello(ParentHello(...))                      # our place in the tree, again whenever it changed
    feed.greet(connection, hello)                         # messages of children; both raise ProtocolError
    feed.attach(connection, attach)
    feed.acknowledged(connection, ack)
    feed.detach(connection)                               # the connection is gone
    feed.committed(shard, commit_index)                   # O(1); also as soon as a relay received entries
    feed.tick(now_us)                                     # heartbeats; when next_deadline_us has passed
    ready = feed.take_ready()                             # once per turn

Entries are sent up to the commit index only, and before this host applied or even persisted them:
they are committed. A child's window is in bytes; a slow one falls from memory to the store's log
and at last to a full copy, costs its siblings nothing and pins nothing.
"""

from __future__ import annotations

from typing import Final

from shardraft.config import Limits
from shardraft.errors import ErrorCode, ProtocolError
from shardraft.learner.messages import (
    Attach,
    AttachOutcome,
    AttachReply,
    ChildHello,
    DescendantPlace,
    FeedAck,
    FeedHeartbeat,
    LearnerMessage,
    ParentHello,
)
from shardraft.learner.ports import CommittedLog
from shardraft.learner.ready import NOTHING_TO_FEED, WHOLE_LINK, ChildShardStatus, ChildStatus, FeedReady, LearnerNote
from shardraft.learner.shard_feed import Cursor, HashAt, Link, Place, ShardFeed
from shardraft.types import HostId, Index, ShardId

_IDLE_HEARTBEAT: Final = FeedHeartbeat(())


class Feed:
    """All children of one host. ``hello`` is None until the host knows its own place in the tree."""

    def __init__(self, host: HostId, limits: Limits, heartbeat_ms: int) -> None:
        self.host = host
        self.hello: ParentHello | None = None
        self.descendants: tuple[DescendantPlace, ...] = ()
        """Every learner below this host that it knows of, sorted by host; the same object while nothing changes."""
        self._limits = limits
        self._heartbeat_us = heartbeat_ms * 1000
        self._heartbeat_due_us = 0
        self._shards: dict[ShardId, ShardFeed] = {}
        self._links: dict[int, Link] = {}
        self._dirty: dict[int, Link] = {}
        self._pending: dict[ShardId, ShardFeed] = {}
        self._closes: list[int] = []
        self._notes: list[LearnerNote] = []

    # What this host holds.

    def add_shard(self, shard: ShardId, log: CommittedLog, commit_index: Index, hash_at: HashAt) -> None:
        """Feed ``shard`` from ``log``. A learner's log is committed to its end, so that is its ``commit_index``."""
        assert shard not in self._shards, "a shard is fed from one log"
        self._shards[shard] = ShardFeed(shard, log, commit_index, hash_at, self._limits)

    def holds(self, shard: ShardId) -> bool:
        """Whether this host is a source of ``shard``."""
        return shard in self._shards

    def remove_shard(self, shard: ShardId) -> None:
        """This host must not be a source of ``shard`` (any more): children that ask for it turn elsewhere."""
        feed = self._shards.pop(shard, None)
        if feed is None:
            return
        self._pending.pop(shard, None)
        for link in self._links.values():
            if shard in link.cursors:
                feed.detach(link)
                link.post(AttachReply(shard, AttachOutcome.UNKNOWN_SHARD, 0))
                self._reopen_waiting(link)

    def set_hello(self, hello: ParentHello | None) -> None:
        """What children are told about this host; sent to all of them when it changed. Cheap when it is the same."""
        if hello is self.hello or hello is None or hello == self.hello:
            return
        self.hello = hello
        for link in self._links.values():
            link.post(hello)
        self._list_descendants()

    def committed(self, shard: ShardId, commit_index: Index) -> None:
        """The commit index of ``shard`` is ``commit_index``; after a copy was installed here, too. O(1)."""
        feed = self._shards[shard]
        if commit_index == feed.commit_index:
            return
        assert commit_index > feed.commit_index, "the commit index never goes back"
        feed.commit_index = commit_index
        if feed.open or commit_index >= feed.parked_index_min:
            self._pending[shard] = feed

    # What children say.

    def greet(self, connection: int, hello: ChildHello) -> None:
        """A child introduced itself, or its descendants changed.

        Raises ``ProtocolError`` when the child is above this host (a loop) or ``children_max`` is
        reached; the caller closes the connection. A child's former connection is forgotten and closed.
        """
        if hello.child == self.host or any(place.host == self.host for place in hello.descendants):
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, f"host {hello.child} is above host {self.host}: a loop")
        link = self._links.get(connection)
        if link is None:
            link = self._new_link(connection, hello)
        elif link.child != hello.child:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "a connection belongs to one child")
        link.endpoint = hello.endpoint
        link.descendants = hello.descendants
        self._list_descendants()

    def attach(self, connection: int, attach: Attach) -> AttachOutcome:
        """Begin feeding one shard; the ``AttachReply`` leaves with the next ready. Raises ``ProtocolError``."""
        link = self._links.get(connection)
        if link is None:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "a child says hello before it attaches")
        feed = self._shards.get(attach.shard)
        if feed is None:
            link.post(AttachReply(attach.shard, AttachOutcome.UNKNOWN_SHARD, 0))
            return AttachOutcome.UNKNOWN_SHARD
        outcome = feed.attach(link, attach)
        if outcome is AttachOutcome.DIVERGED:
            self._note(attach.shard, link, f"the child diverged at index {attach.applied_index}")
        self._pending[attach.shard] = feed
        self._reopen_waiting(link)
        return outcome

    def acknowledged(self, connection: int, ack: FeedAck) -> None:
        """The child holds entries durably: its window opens. Late news of a former connection is ignored."""
        link = self._links.get(connection)
        cursor = link.cursors.get(ack.shard) if link is not None else None
        if link is None or cursor is None:
            return
        cursor.acknowledge(ack.applied_index)
        feed = self._shards[ack.shard]
        if cursor.place is Place.SHARD_FULL and feed.has_room(cursor):
            self._reopen(ack.shard, cursor)
        self._reopen_waiting(link)

    def copy_finished(self, connection: int, shard: ShardId, index: Index) -> None:
        """The child holds a full copy of ``shard`` at ``index``: entries follow, or another copy."""
        link = self._links.get(connection)
        cursor = link.cursors.get(shard) if link is not None else None
        if link is None or cursor is None or cursor.place is not Place.COPYING:
            return
        feed = self._shards[shard]
        feed.copy_finished(cursor, index)
        self._pending[shard] = feed
        self._reopen_waiting(link)

    def detach(self, connection: int) -> None:
        """The connection is gone, or is none of a child. Its descendants are no longer ours."""
        link = self._links.pop(connection, None)
        if link is None:
            return
        for shard in tuple(link.cursors):
            self._shards[shard].detach(link)
        self._dirty.pop(connection, None)
        self._note(WHOLE_LINK, link, "the child left")
        self._list_descendants()

    # What leaves.

    @property
    def next_deadline_us(self) -> int | None:
        """When ``tick`` and ``take_ready`` are due; 0 while entries wait for the next turn, None without children."""
        if self._pending:
            return 0
        return self._heartbeat_due_us if self._links else None

    def tick(self, now_us: int) -> None:
        """Send heartbeats when they are due: one shared message to every child that waits for nothing."""
        if not self._links or now_us < self._heartbeat_due_us:
            return
        self._heartbeat_due_us = now_us + self._heartbeat_us
        for link in self._links.values():
            link.post(self._heartbeat(link) if link.waiting else _IDLE_HEARTBEAT)

    def _heartbeat(self, link: Link) -> FeedHeartbeat:
        return FeedHeartbeat(tuple((shard, self._shards[shard].commit_index) for shard in sorted(link.waiting)))

    def take_ready(self) -> FeedReady:
        """Everything to send, once. At most ``feed_turn_bytes_max``, to a round; the rest with the next call."""
        if not (self._pending or self._dirty or self._closes or self._notes):
            return NOTHING_TO_FEED  # The case of nearly every turn.
        wanted: list[tuple[int, ShardId]] = []
        if self._pending:
            self._give(wanted)
        messages: list[tuple[int, tuple[LearnerMessage, ...]]] = []
        for connection, link in self._dirty.items():
            messages.append((connection, tuple(link.outbox)))
            link.outbox.clear()
        self._dirty.clear()
        ready = FeedReady(tuple(messages), tuple(wanted), tuple(self._closes), tuple(self._notes))
        self._closes.clear()
        self._notes.clear()
        return ready

    def _give(self, wanted: list[tuple[int, ShardId]]) -> None:
        """Round after round, shard after shard, until all were given what fits or the turn's bytes are spent."""
        budget = self._limits.feed_turn_bytes_max
        pending = self._pending
        while pending and budget > 0:
            shard = next(iter(pending))
            feed = pending.pop(shard)
            budget -= feed.give_round()
            if feed.copies_wanted:
                wanted.extend(feed.copies_wanted.items())
                feed.copies_wanted.clear()
            if feed.behind:
                pending[shard] = feed

    # What others ask.

    def children(self) -> tuple[ChildStatus, ...]:
        """Every child, in the order in which they joined."""
        return tuple(self._status(link) for link in self._links.values())

    def _status(self, link: Link) -> ChildStatus:
        shards = tuple(
            ChildShardStatus(shard, cursor.place.outcome, cursor.acknowledged_index, self._shards[shard].lag_of(cursor))
            for shard, cursor in sorted(link.cursors.items())
        )
        lag_entries = sum(status.lag_entries for status in shards)
        return ChildStatus(link.connection, link.child, link.endpoint, lag_entries, shards)

    def _new_link(self, connection: int, hello: ChildHello) -> Link:
        for former in [link for link in self._links.values() if link.child == hello.child]:
            self.detach(former.connection)
            self._closes.append(former.connection)
        if len(self._links) >= self._limits.children_max:
            raise ProtocolError(ErrorCode.OVERLOADED, f"host {self.host} already feeds {len(self._links)} learners")
        link = Link(connection, hello.child, hello.endpoint, hello.descendants, self._dirty)
        self._links[connection] = link
        if self.hello is not None:
            link.post(self.hello)
        self._note(WHOLE_LINK, link, f"a child joined from {hello.endpoint}")
        return link

    def _reopen(self, shard: ShardId, cursor: Cursor) -> None:
        feed = self._shards[shard]
        feed.reopen(cursor)
        self._pending[shard] = feed

    def _reopen_waiting(self, link: Link) -> None:
        """Let the shards that the link had no room for have another look once half of its window is free.

        Half, so that many shards of one slow child are not visited for every single acknowledgement.
        """
        if link.waiting and 2 * link.in_flight_bytes <= self._limits.feed_link_bytes_in_flight_max:
            for shard, cursor in tuple(link.waiting.items()):
                if cursor.place is Place.LINK_FULL:
                    self._reopen(shard, cursor)

    def _list_descendants(self) -> None:
        """Children first-hand, then what they told of theirs; nobody twice, ourselves never."""
        tier = self.hello.tier if self.hello is not None else 0
        found: dict[HostId, DescendantPlace] = {}
        for link in self._links.values():
            found[link.child] = DescendantPlace(link.child, link.endpoint, tier + 1, self.host)
        for link in self._links.values():
            for place in link.descendants:
                if len(found) < self._limits.descendants_max:
                    found.setdefault(place.host, place)
        descendants = tuple(found[host] for host in sorted(found))
        if descendants != self.descendants:
            self.descendants = descendants

    def _note(self, shard: ShardId, link: Link, what: str) -> None:
        self._notes.append(LearnerNote(shard, link.child, what))
