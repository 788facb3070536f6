"""What a client asks of a host and what it is answered: one frozen class each.

``request_id`` is the client's own number, unique on its connection; the reply echoes it.
Deadlines travel as remaining milliseconds, never as a time of day. Keys are routing keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, TypeAlias

import attrs

from shardraft.errors import ShardraftError
from shardraft.kv.commands import BatchResult
from shardraft.shards.shard_map import ShardMap
from shardraft.types import HostId, Index, Membership, ReplicaId, Revision, ShardId, Term

UNKNOWN_MEMBERSHIP = Membership((), ())
"""What is told of a configuration that is not known, as on a learner."""


class Consistency(IntEnum):
    """How fresh a read must be. Numbers are never reused (2 and 3 are kept for Bounded and AtLeast)."""

    LINEARIZABLE = 0
    STALE = 1


STALE: Final = Consistency.STALE
"""Each read is compared with it, and a member that is looked up on its class costs five times a constant."""


@attrs.frozen(slots=True)
class WriteRequest:
    """``payload`` is an encoded ``Batch``; it becomes the log entry's payload as it is."""

    request_id: int
    shard: ShardId
    epoch: int
    timeout_ms: int
    payload: bytes


@attrs.frozen(slots=True)
class ReadRequest:
    """The values of ``keys``, all from one state of the shard."""

    request_id: int
    shard: ShardId
    epoch: int
    timeout_ms: int
    consistency: Consistency
    keys: Sequence[bytes]


@attrs.frozen(slots=True)
class ScanRequest:
    """Up to ``limit`` keys in [``start``, ``end``) in ascending order; an empty ``end`` means no end."""

    request_id: int
    shard: ShardId
    epoch: int
    timeout_ms: int
    consistency: Consistency
    start: bytes
    end: bytes
    limit: int
    keys_only: bool = False


@attrs.frozen(slots=True)
class MapRequest:
    """The shard map and the learners that this host knows of."""

    request_id: int


@attrs.frozen(slots=True)
class StatusRequest:
    """What this host is doing, shard by shard."""

    request_id: int


@attrs.frozen(slots=True)
class TransferRequest:
    """Let the voter on ``host`` lead the shard, whatever leader is preferred, until another leads or it restarts.

    Only the leader takes it. The answer is a ``TransferReply`` once another leads, or ``Conflict`` when
    ``host`` did not take over within an election timeout.
    """

    request_id: int
    shard: ShardId
    timeout_ms: int
    host: HostId


@attrs.frozen(slots=True)
class SnapshotRequest:
    """Flush what this host has applied of the shard, and compact its log behind that."""

    request_id: int
    shard: ShardId
    timeout_ms: int


@attrs.frozen(slots=True)
class ChangeMembersRequest:
    """Let a host join the voters of the shard (``add``), leave them (``remove``), or both; 0 means none.

    Only the leader takes it, and answers when the first step is committed: all others follow by themselves,
    whoever leads. What is so already, or on its way, is answered the same and begins nothing.
    """

    request_id: int
    shard: ShardId
    timeout_ms: int
    add: HostId
    remove: HostId


@attrs.frozen(slots=True)
class PlaceRequest:
    """Know that ``host`` listens at ``endpoint`` ("HOST:PORT"); an empty one forgets a host without replicas."""

    request_id: int
    host: HostId
    endpoint: str


ClientRequest: TypeAlias = (
    WriteRequest
    | ReadRequest
    | ScanRequest
    | MapRequest
    | StatusRequest
    | TransferRequest
    | SnapshotRequest
    | ChangeMembersRequest
    | PlaceRequest
)


@attrs.frozen(slots=True)
class WriteReply:
    request_id: int
    result: BatchResult


@attrs.frozen(slots=True)
class ReadReply:
    """``values[i]`` is None and ``revisions[i]`` 0 when key i is absent. ``age_us`` is None when unproved.

    A reply that would exceed ``page_bytes_max`` ends early: it then holds fewer values than keys
    were asked for, at least one, and the client asks again for the rest.
    """

    request_id: int
    applied_index: Index
    age_us: int | None
    tier: int
    values: Sequence[bytes | None]
    revisions: Sequence[Revision]


@attrs.frozen(slots=True)
class ScanReply:
    """``more``: the page ended before the range did; go on after the last key."""

    request_id: int
    applied_index: Index
    age_us: int | None
    tier: int
    keys: Sequence[bytes]
    values: Sequence[bytes]
    revisions: Sequence[Revision]
    more: bool


@attrs.frozen(slots=True)
class LearnerPlace:
    """A learner as its ancestors know it. ``endpoint`` is "HOST:PORT"; ``parent`` a host or learner."""

    host: HostId
    endpoint: str
    tier: int
    parent: HostId


@attrs.frozen(slots=True)
class MapReply:
    request_id: int
    shard_map: ShardMap
    learners: tuple[LearnerPlace, ...]


@attrs.frozen(slots=True)
class FollowerStatus:
    """A replica as its leader sees it: what is durable there, since when it is silent, whether it gets a copy."""

    replica: ReplicaId
    match_index: Index
    silent_ms: int
    copying: bool


@attrs.frozen(slots=True)
class ShardStatus:
    """One shard on one host. ``leader`` is a host id (0: none known).

    ``role`` is Raft's role, "learner", or "stopped" for a replica that differs from what the others applied.
    ``membership`` is the configuration in effect there, with no members where it is not known, and
    ``membership_index`` that of its entry. ``followers`` are the other replicas; only a leader knows them.
    """

    shard: ShardId
    role: str
    term: Term
    leader: HostId
    replica: ReplicaId
    commit_index: Index
    applied_index: Index
    flushed_index: Index
    first_index: Index
    last_index: Index
    log_bytes: int
    revision: Revision
    sessions: int
    membership: Membership = UNKNOWN_MEMBERSHIP
    membership_index: Index = 0
    followers: tuple[FollowerStatus, ...] = ()


@attrs.frozen(slots=True)
class ChildStatus:
    """A child as its parent sees it: ``lag_entries`` is commit minus acknowledged, summed over shards."""

    host: HostId
    endpoint: str
    tier: int
    lag_entries: int
    connected: bool


@attrs.frozen(slots=True)
class StatusReply:
    """``tier`` 0 is a voter host; ``parent`` is 0 there."""

    request_id: int
    host: HostId
    version: str
    tier: int
    parent: HostId
    uptime_ms: int
    shards: tuple[ShardStatus, ...]
    children: tuple[ChildStatus, ...]


@attrs.frozen(slots=True)
class TransferReply:
    """``leader`` leads the shard in ``term``; it may be another host than was asked for."""

    request_id: int
    leader: HostId
    term: Term


@attrs.frozen(slots=True)
class SnapshotReply:
    """The state on disk is that at ``index``, or a later one, and the log begins at ``first_index``."""

    request_id: int
    index: Index
    first_index: Index
    log_bytes_before: int
    log_bytes: int
    took_us: int


@attrs.frozen(slots=True)
class ChangeMembersReply:
    """``membership`` is in effect at the leader; the entry at ``index``, which is committed, brought it."""

    request_id: int
    index: Index
    membership: Membership


@attrs.frozen(slots=True)
class PlaceReply:
    """The place is kept, durably."""

    request_id: int


@attrs.frozen(slots=True)
class ErrorReply:
    """A typed refusal; ``error.applied`` says whether anything was applied."""

    request_id: int
    error: ShardraftError


ClientReply: TypeAlias = (
    WriteReply
    | ReadReply
    | ScanReply
    | MapReply
    | StatusReply
    | TransferReply
    | SnapshotReply
    | ChangeMembersReply
    | PlaceReply
    | ErrorReply
)
