"""The messages of a full copy (a snapshot in checksummed chunks), and what may travel on each link.

The same copy serves a follower (over the peer link) and a learner (over the feed's link). Chunks
are numbered from 0; the receiver asks for the next it needs, so a broken link resumes.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from shardraft.learner.messages import LearnerMessage
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


PeerMessage: TypeAlias = RaftMessage | CopyChunk | CopyReply | HashCheck
"""What travels between voter hosts."""

LinkMessage: TypeAlias = LearnerMessage | CopyChunk | CopyReply
"""What travels between a parent and a child of the read tree."""
