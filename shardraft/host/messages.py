"""The messages of a full copy (a snapshot in checksummed chunks), of rounds, and what may travel on each link.

The same copy serves a follower (over the peer link) and a learner (over the feed's link). Chunks
are numbered from 0; the receiver asks for the next it needs, so a broken link resumes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeAlias

import attrs

from shardraft.learner.messages import LearnerMessage
from shardraft.raft.contact import Place
from shardraft.raft.messages import RaftMessage
from shardraft.types import Index, ReplicaId, ShardId, Term


@attrs.frozen(slots=True)
class CopyChunk:
    """Chunk ``number`` of ``chunks`` of the snapshot of ``shard`` at ``index``, whose entry has ``index_term``.

    ``term`` and ``from_replica`` are the sending leader's (0 on a learner's link); ``to_replica`` is the
    receiver's (0 there). ``checksum`` is CRC-32 of ``data``; ``copy_id`` is the sender's name for it.
    """

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    copy_id: int
    index: Index
    index_term: Term
    number: int
    chunks: int
    checksum: int
    data: bytes


@attrs.frozen(slots=True)
class OrderedChunk(CopyChunk):
    """A chunk from a replica that the leader of ``term`` ordered to send the copy, by the ``CopyOrder`` of that number.

    ``from_replica`` is that replica's, which is not the leader.
    """

    order: int


@attrs.frozen(slots=True)
class CopyOrder:
    """The leader of ``term`` lets replica ``source`` send ``target`` a copy at ``index_min`` or later (decision 0016).

    It goes to both of them. ``order`` is above every number that the leader's host used before, so of two orders
    for one target in one term the higher counts. An order that names the leader as its source withdraws the former.
    """

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    order: int
    index_min: Index
    source: ReplicaId
    target: ReplicaId


class CopyOrderOutcome(IntEnum):
    """What has come of an order."""

    SENDING = 1
    """The copy is being made, is being sent or waits for its turn."""
    INSTALLED = 2
    FAILED = 3
    """The source cannot send one, or the target fell silent or refused it."""


@attrs.frozen(slots=True)
class CopyOrderReply:
    """What has come of ``order`` so far; the copy is at ``index``, 0 while that is not known."""

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    order: int
    index: Index
    outcome: CopyOrderOutcome


@attrs.frozen(slots=True)
class CopyReply:
    """The receiver holds chunks below ``next_number``; equal to ``chunks`` once installed durably.

    ``refused``: it will not have this copy (older than its state, wrong checksum twice, stale term).
    """

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    copy_id: int
    next_number: int
    refused: bool = False


@attrs.frozen(slots=True)
class HashCheck:
    """The leader's rolling hash of everything applied up to ``index``; the receiver's must be the same there."""

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    index: Index
    applied_hash: int


@attrs.frozen(slots=True)
class RemovalNotice:
    """An answer to a replica that asks for votes: it is committed that ``to_replica`` has left the group for good.

    The one that asks may have missed it, and nobody else's log may tell it any more (PROTOCOL: "a replica known
    removed is told so").
    """

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId


@attrs.frozen(slots=True)
class Round:
    """The heartbeat of all groups that rest, from the host of their leaders to a host of their followers.

    ``number`` rises with every round of the sender, over its restarts too. The list of these groups has
    a ``version``; ``places`` and ``removed`` are what changed in it after version ``since``, as it is now,
    and 0 means that they are all there is. A round that does not bring the receiver up to ``version``, since
    it holds an earlier one than ``since``, is answered with the version that it holds.
    """

    number: int
    version: int
    since: int
    places: tuple[Place, ...] = ()
    removed: tuple[ShardId, ...] = ()


@attrs.frozen(slots=True)
class RoundReply:
    """Round ``number`` arrived, and the receiver holds the list as of ``version``.

    ``excepted``: shards on that list for which it does not count, since the replica there is not, or no
    more, that leader's follower in that term.
    """

    number: int
    version: int
    excepted: tuple[ShardId, ...] = ()


ROUND_CHANGES_MAX: Final = 4_096
"""Changes in one Round, and exceptions in one RoundReply; further ones follow with the next. More are refused."""

CopyMessage: TypeAlias = CopyChunk | OrderedChunk | CopyReply | CopyOrder | CopyOrderReply
"""What replicas of a shard tell each other of full copies."""

ShardMessage: TypeAlias = RaftMessage | CopyMessage | HashCheck | RemovalNotice
"""What one replica of a shard tells another."""

PeerMessage: TypeAlias = ShardMessage | Round | RoundReply
"""What travels between voter hosts."""

LinkMessage: TypeAlias = LearnerMessage | CopyChunk | CopyReply
"""What travels between a parent and a child of the read tree."""
