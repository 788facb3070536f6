"""One shard as its parent feeds it: a cursor per child, never a queue.

Every child has one cursor, which is in one place at a time::

    open      entries are sent to it as they commit
    full      too many bytes are unacknowledged, of this shard or of the child's whole link
    parked    the child is ahead of this host, which is normal; it is checked when we get there
    copying   its next entry is compacted here; a full copy comes first
    diverged  its entry is not the one committed here; it gets nothing more

The cost of an advance is one visit per open cursor; all others are visited only when what they
wait for happens. Children at the same index are given the same message object, made once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from shardraft.config import Limits
from shardraft.learner.messages import Attach, AttachOutcome, AttachReply, DescendantPlace, FeedEntries, LearnerMessage
from shardraft.learner.ports import CommittedLog
from shardraft.types import INTEGER_MAX, HostId, Index, ShardId, Term

HashAt = Callable[[Index], int | None]
"""The rolling hash of the applied entries up to that index, when this host has applied exactly up to it."""

_MARKS_MAX: Final = 256
"""Sent and unacknowledged messages told apart by one cursor; beyond it the last two count as one."""


class Place(Enum):
    """Where a cursor is; see the module."""

    OPEN = AttachOutcome.STREAMING
    SHARD_FULL = "full"
    LINK_FULL = "link full"
    PARKED = AttachOutcome.PARKED
    COPYING = AttachOutcome.COPYING
    DIVERGED = AttachOutcome.DIVERGED

    @property
    def outcome(self) -> AttachOutcome:
        """The place as the child was told it."""
        return self.value if isinstance(self.value, AttachOutcome) else AttachOutcome.STREAMING


@attrs.define(slots=True, eq=False)
class Link:
    """One child's connection. ``waiting`` holds its cursors that are full or copying, by shard."""

    connection: int
    child: HostId
    endpoint: str
    descendants: tuple[DescendantPlace, ...]
    dirty: dict[int, Link]
    """Shared by all links of a feed: those with something in ``outbox``."""
    outbox: list[LearnerMessage] = attrs.field(factory=list)
    cursors: dict[ShardId, Cursor] = attrs.field(factory=dict)
    waiting: dict[ShardId, Cursor] = attrs.field(factory=dict)
    in_flight_bytes: int = 0

    def post(self, message: LearnerMessage) -> None:
        if not self.outbox:
            self.dirty[self.connection] = self
        self.outbox.append(message)


@attrs.define(slots=True, eq=False)
class Cursor:
    """One child in one shard. ``child_term`` and ``child_hash`` are of its last entry at its attach (0: not known)."""

    link: Link
    next_index: Index
    acknowledged_index: Index
    child_term: Term
    child_hash: int
    place: Place = Place.OPEN
    in_flight_bytes: int = 0
    marks: deque[tuple[Index, int]] = attrs.field(factory=deque)
    """(last index, entry bytes) of each message that was sent and not acknowledged."""

    def sent(self, last_index: Index, entry_bytes: int) -> None:
        self.next_index = last_index + 1
        self.in_flight_bytes += entry_bytes
        self.link.in_flight_bytes += entry_bytes
        if len(self.marks) >= _MARKS_MAX:
            entry_bytes += self.marks.pop()[1]
        self.marks.append((last_index, entry_bytes))

    def acknowledge(self, index: Index) -> None:
        """The child holds everything up to ``index``; more than was sent is taken as all that was sent."""
        index = min(index, self.next_index - 1)
        if index > self.acknowledged_index:
            self.acknowledged_index = index
        while self.marks and self.marks[0][0] <= index:
            self._release(self.marks.popleft()[1])

    def restart_at(self, index: Index) -> None:
        """The child's last entry is ``index``, whatever was sent before."""
        self.forget_in_flight()
        self.next_index = index + 1
        self.acknowledged_index = index

    def forget_in_flight(self) -> None:
        self._release(self.in_flight_bytes)
        self.marks.clear()

    def _release(self, entry_bytes: int) -> None:
        self.in_flight_bytes -= entry_bytes
        self.link.in_flight_bytes -= entry_bytes


class ShardFeed:
    """The cursors of all children in one shard. ``commit_index`` is set by its owner and never goes back."""

    def __init__(self, shard: ShardId, log: CommittedLog, commit_index: Index, hash_at: HashAt, limits: Limits) -> None:
        self.shard = shard
        self.commit_index = commit_index
        self.open: dict[int, Cursor] = {}
        self.parked_index_min: Index = INTEGER_MAX
        """The lowest index of a parked child; nobody is woken before the commit index gets there."""
        self.behind = False
        """An open cursor is below the commit index: there is more to give."""
        self.copies_wanted: dict[int, ShardId] = {}
        self._parked: dict[int, Cursor] = {}
        self._log = log
        self._hash_at = hash_at
        self._limits = limits

    def attach(self, link: Link, attach: Attach) -> AttachOutcome:
        """Put the child where it belongs and tell it; a cursor that it had is forgotten."""
        self.detach(link)
        index = attach.applied_index
        cursor = Cursor(link, index + 1, index, attach.applied_term, attach.applied_hash)
        link.cursors[self.shard] = cursor
        return self._place(cursor, self._outcome(cursor))

    def detach(self, link: Link) -> None:
        cursor = link.cursors.pop(self.shard, None)
        if cursor is not None:
            cursor.forget_in_flight()
            self._leave(cursor)

    def lag_of(self, cursor: Cursor) -> int:
        """Committed entries that the child does not hold durably."""
        return max(0, self.commit_index - cursor.acknowledged_index)

    def copy_finished(self, cursor: Cursor, index: Index) -> AttachOutcome:
        """The child holds a full copy at ``index``, made of this host's own stored state.

        That may be above ``commit_index``: a copy is being installed here too, and reached the store first.
        """
        cursor.restart_at(index)
        cursor.child_term = cursor.child_hash = 0  # What the child holds is our own: there is nothing to compare.
        self._leave(cursor)
        return self._place(cursor, self._outcome(cursor))

    def reopen(self, cursor: Cursor) -> None:
        """What ``cursor`` was full of was acknowledged; the next round finds out whether that is enough."""
        self._leave(cursor)
        self._enter(cursor, Place.OPEN)

    def give_round(self) -> int:
        """Give every open child that is behind one message; returns the entry bytes given."""
        if self.commit_index >= self.parked_index_min:
            self._unpark()
        made: dict[Index, tuple[FeedEntries, int]] = {}
        given_bytes = 0
        self.behind = False
        for cursor in tuple(self.open.values()):
            if cursor.next_index <= self.commit_index:
                given_bytes += self._give(cursor, made)
        return given_bytes

    def has_room(self, cursor: Cursor) -> bool:
        """One more message fits the child's window of this shard (an idle window takes any)."""
        limits, in_flight_bytes = self._limits, cursor.in_flight_bytes
        return not in_flight_bytes or in_flight_bytes + limits.feed_message_bytes_max <= limits.feed_bytes_in_flight_max

    def _give(self, cursor: Cursor, made: dict[Index, tuple[FeedEntries, int]]) -> int:
        if cursor.next_index < self._log.first_index:
            self._leave(cursor)
            self._place(cursor, AttachOutcome.COPYING)
            return 0
        if not self.has_room(cursor):
            self._leave(cursor)
            self._enter(cursor, Place.SHARD_FULL)
            return 0
        if not self._link_has_room(cursor.link):
            self._leave(cursor)
            self._enter(cursor, Place.LINK_FULL)
            return 0
        found = made.get(cursor.next_index)
        if found is None:
            found = made[cursor.next_index] = self._make(cursor.next_index)
        message, entry_bytes = found
        cursor.link.post(message)
        cursor.sent(message.entries[-1].index, entry_bytes)
        self.behind |= cursor.next_index <= self.commit_index
        return entry_bytes

    def _make(self, low: Index) -> tuple[FeedEntries, int]:
        entries = self._log.entries(low, self.commit_index + 1, self._limits.feed_message_bytes_max)
        assert entries[0].index == low, "a log answers with the entries it was asked for"
        assert entries[-1].index <= self.commit_index, "only committed entries are sent"
        return FeedEntries(self.shard, self.commit_index, entries), sum([len(entry.encoded) for entry in entries])

    def _link_has_room(self, link: Link) -> bool:
        limits = self._limits
        return (
            not link.in_flight_bytes
            or link.in_flight_bytes + limits.feed_message_bytes_max <= limits.feed_link_bytes_in_flight_max
        )

    def _outcome(self, cursor: Cursor) -> AttachOutcome:
        index = cursor.next_index - 1
        if index > self.commit_index:
            # What lies above the commit index here may yet be truncated, so it proves nothing about the child.
            return AttachOutcome.PARKED
        term = self._log.term_at(index)
        if term is not None and cursor.child_term not in (0, term):
            return AttachOutcome.DIVERGED
        if cursor.child_hash:
            applied_hash = self._hash_at(index)
            if applied_hash is not None and applied_hash != cursor.child_hash:
                return AttachOutcome.DIVERGED
        return AttachOutcome.COPYING if index + 1 < self._log.first_index else AttachOutcome.STREAMING

    def _unpark(self) -> None:
        """This host got to where some parked children are: now their last entries can be checked."""
        for cursor in tuple(self._parked.values()):
            if cursor.next_index - 1 <= self.commit_index:
                self._leave(cursor)
                self._place(cursor, self._outcome(cursor))

    def _place(self, cursor: Cursor, outcome: AttachOutcome) -> AttachOutcome:
        """Put the cursor where ``outcome`` says and tell the child."""
        cursor.link.post(AttachReply(self.shard, outcome, self.commit_index))
        self._enter(cursor, Place(outcome))
        return outcome

    def _enter(self, cursor: Cursor, place: Place) -> None:
        cursor.place = place
        connection = cursor.link.connection
        if place is Place.OPEN:
            self.open[connection] = cursor
        elif place is Place.PARKED:
            self._parked[connection] = cursor
            self.parked_index_min = min(self.parked_index_min, cursor.next_index - 1)
        elif place is not Place.DIVERGED:
            cursor.link.waiting[self.shard] = cursor
            if place is Place.COPYING:
                self.copies_wanted[connection] = self.shard

    def _leave(self, cursor: Cursor) -> None:
        connection = cursor.link.connection
        self.open.pop(connection, None)
        cursor.link.waiting.pop(self.shard, None)
        self.copies_wanted.pop(connection, None)
        if self._parked.pop(connection, None) is not None:
            self.parked_index_min = min(
                (parked.next_index - 1 for parked in self._parked.values()), default=INTEGER_MAX
            )
