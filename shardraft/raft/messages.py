"""The messages of one Raft group, one frozen class each.

Every message names its shard, the sender's term and both replica numbers; the host routes by
``to_replica`` through the group's membership. Integrity: nothing here has been trusted yet;
``Raft.step`` checks terms and indexes before it believes them.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from shardraft.raft.entry import Entry
from shardraft.types import Index, ReplicaId, ShardId, Term


@attrs.frozen(slots=True)
class RequestPreVote:
    """Would you vote for me in ``term`` (the sender's term plus one)? Changes nobody's term (thesis 9.6).

    ``hint``: the sender asks early because its connection to the leader closed; a voter grants it
    only if its own connection to that leader closed too, or its election timer ran out.
    """

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    last_log_index: Index
    last_log_term: Term
    hint: bool = False


@attrs.frozen(slots=True)
class RequestPreVoteReply:
    """``term`` is the term asked about when granted, the voter's own term when refused."""

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    vote_granted: bool


@attrs.frozen(slots=True)
class RequestVote:
    """Section 5.2. Leaves only after the candidate's own term and vote are durable.

    ``transfer``: sent after TimeoutNow, so voters that still hear the old leader do not refuse it.
    """

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    last_log_index: Index
    last_log_term: Term
    transfer: bool = False


@attrs.frozen(slots=True)
class RequestVoteReply:
    """Leaves only after the voter's term and vote are durable."""

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    vote_granted: bool


@attrs.frozen(slots=True)
class AppendEntries:
    """Section 5.3. ``entries`` follow ``prev_log_index`` without a gap; empty ones probe."""

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    prev_log_index: Index
    prev_log_term: Term
    leader_commit: Index
    entries: tuple[Entry, ...] = ()


@attrs.frozen(slots=True)
class AppendEntriesReply:
    """Leaves only after what it acknowledges is durable.

    On success ``match_index`` is the last index known to match and to be persisted. On refusal
    ``conflict_index`` and ``conflict_term`` bound where the logs can agree (the fast back-off at
    the end of section 5.3): the follower's largest index whose term is at most the leader's
    ``prev_log_term``, and its term; and ``match_index`` echoes the refused ``prev_log_index``.
    """

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    success: bool
    match_index: Index
    conflict_index: Index = 0
    conflict_term: Term = 0


@attrs.frozen(slots=True)
class CommitAdvance:
    """The leader's commit index where no entries carry it, capped to what the receiver is known to match.

    It asks for no answer: the next heartbeat says the same.
    """

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    commit_index: Index


@attrs.frozen(slots=True)
class Heartbeat:
    """A numbered round. ``commit_index`` is capped to what the receiver is known to match."""

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    commit_index: Index
    round: int


@attrs.frozen(slots=True)
class HeartbeatReply:
    """``round`` echoes the heartbeat; it counts for check-quorum and read indexes of that round or earlier."""

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    round: int


@attrs.frozen(slots=True)
class TimeoutNow:
    """Leadership transfer (thesis 3.10): campaign at once.

    ``keep``: an operator asked for it, so the receiver does not hand the office on to the preferred replica.
    """

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    keep: bool = False


RaftMessage: TypeAlias = (
    RequestPreVote
    | RequestPreVoteReply
    | RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | CommitAdvance
    | Heartbeat
    | HeartbeatReply
    | TimeoutNow
)
