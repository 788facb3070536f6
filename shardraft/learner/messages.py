"""The messages between a parent and a child of the read tree, one frozen class each.

A link is an ordered stream: what was sent before arrives before, or the link is closed.
Each message but the hellos and the heartbeat is about one shard. ``lineage`` is the cluster's life until forced
recovery: a child of another lineage is refused. Heartbeats never move a cursor.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import attrs

from shardraft.raft.entry import Entry
from shardraft.shards.shard_map import ShardMap
from shardraft.types import HostId, Index, ShardId, Term


@attrs.frozen(slots=True)
class DescendantPlace:
    """A learner somewhere below the sender: where it listens, its tier and its parent."""

    host: HostId
    endpoint: str
    tier: int
    parent: HostId


@attrs.frozen(slots=True)
class ChildHello:
    """The child's first message, and sent again whenever ``descendants`` changed. ``endpoint`` is "HOST:PORT"."""

    child: HostId
    endpoint: str
    descendants: tuple[DescendantPlace, ...]


@attrs.frozen(slots=True)
class ParentHello:
    """The parent's answer: its tier (the child's is one more) and the path of ancestors, itself last.

    A child that finds itself on the path leaves (a loop). ``shard_map`` tells a child which shards
    there are; it keeps the one with the higher epoch. Sent again whenever anything in it changed.
    """

    parent: HostId
    tier: int
    path: tuple[HostId, ...]
    shard_map: ShardMap | None = None


@attrs.frozen(slots=True)
class Attach:
    """Feed me ``shard`` from ``applied_index`` + 1; my entry at ``applied_index`` has ``applied_term``.

    ``applied_index`` is the last entry in the child's log: a learner's log holds committed entries only,
    all of which it will apply. ``applied_hash`` is the rolling hash of the entries up to there, or 0
    when the child has not applied its whole log (and at index 0). ``epoch`` is its shard map's.
    """

    shard: ShardId
    applied_index: Index
    applied_term: Term
    applied_hash: int
    epoch: int


class AttachOutcome(IntEnum):
    """What the parent makes of an Attach. Numbers are never reused."""

    STREAMING = 1
    """Entries from ``applied_index`` + 1 follow."""
    PARKED = 2
    """The child is ahead of its parent: normal; entries follow once the parent is further."""
    COPYING = 3
    """The parent no longer has the entries: a full copy follows."""
    DIVERGED = 4
    """The terms or hashes differ at that index: the child must stop serving the shard and be made anew."""
    UNKNOWN_SHARD = 5
    """The parent does not hold the shard (yet); ask again later or elsewhere."""


@attrs.frozen(slots=True)
class AttachReply:
    shard: ShardId
    outcome: AttachOutcome
    commit_index: Index


@attrs.frozen(slots=True)
class FeedEntries:
    """Committed entries in order, the first of them at the child's ``applied_index`` + 1 or the link is closed."""

    shard: ShardId
    commit_index: Index
    entries: tuple[Entry, ...]


@attrs.frozen(slots=True)
class FeedAck:
    """The child holds everything up to ``applied_index`` durably; opens the feed's window.

    It is sent at the child's log append, not at apply, so that slow applying ages only the child itself.
    """

    shard: ShardId
    applied_index: Index


@attrs.frozen(slots=True)
class FeedHeartbeat:
    """From parent to child: I am here. It moves no cursor.

    ``commit_indexes`` names, by shard, the parent's commit index where entries wait for the child's
    window or for a copy; of all other shards the child was sent everything.
    """

    commit_indexes: tuple[tuple[ShardId, Index], ...]


LearnerMessage: TypeAlias = ChildHello | ParentHello | Attach | AttachReply | FeedEntries | FeedAck | FeedHeartbeat
