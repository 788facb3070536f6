"""What a group asks of its caller: one value that holds the whole contract."""

from __future__ import annotations

from enum import Enum
from typing import Protocol, TypeAlias

import attrs

from shardraft.raft.entry import Entry
from shardraft.raft.messages import RaftMessage
from shardraft.types import NO_REPLICA, Index, Membership, ReplicaId, ShardId, Term


class Role(Enum):
    """Raft's roles; a pre-candidate asks before it raises its term."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@attrs.frozen(slots=True)
class HardState:
    """Durable before anything that rests on it leaves (Figure 2, persistent state). Never goes back.

    ``commit_index`` is written along with other writes only; it is a lower bound after a restart.
    """

    current_term: Term = 0
    voted_for: ReplicaId = NO_REPLICA
    commit_index: Index = 0


@attrs.frozen(slots=True)
class LogWrite:
    """What one group writes in one commit: truncate, then append, then hard state.

    ``truncate_from``: delete all entries from that index up. ``generation`` is the log's when the
    write was taken; the caller hands the write back to ``Raft.persisted`` unchanged.
    """

    shard: ShardId
    generation: int
    truncate_from: Index | None = None
    entries: tuple[Entry, ...] = ()
    hard_state: HardState | None = None


@attrs.frozen(slots=True)
class ReadState:
    """The read of ``context`` may be answered once ``index`` is applied."""

    context: int
    index: Index


@attrs.frozen(slots=True)
class ReadLost:
    """The read of ``context`` lost its leader before its round was acknowledged; nothing was answered."""

    context: int


@attrs.frozen(slots=True)
class BecameLeader:
    shard: ShardId
    term: Term


@attrs.frozen(slots=True)
class BecameFollower:
    """``leader`` is the leader of ``term`` as far as known; ``reason`` is a few words for a person."""

    shard: ShardId
    term: Term
    leader: ReplicaId
    reason: str


@attrs.frozen(slots=True)
class Campaigned:
    """An election began (``pre_vote``: a question that raises no term)."""

    shard: ShardId
    term: Term
    pre_vote: bool


@attrs.frozen(slots=True)
class Truncated:
    """Uncommitted entries from ``index`` up were overwritten by the leader of ``term``."""

    shard: ShardId
    term: Term
    index: Index


@attrs.frozen(slots=True)
class Refused:
    """A message that no correct replica sends was refused and counted; nothing changed."""

    shard: ShardId
    reason: str


@attrs.frozen(slots=True)
class StateLost:
    """This replica's disk lost something: the leader of ``term`` was told, durably, of more than it holds.

    It acknowledged the entries up to ``index`` in that term. Either its log ends before, at ``last_index``, or it
    started from a state of an earlier term. Whatever else is missing, a vote may be, so it takes part in nothing
    any more, and an operator replaces it (PROTOCOL, "Log, state, snapshots").
    """

    shard: ShardId
    term: Term
    index: Index
    last_index: Index


@attrs.frozen(slots=True)
class Reconfigured:
    """``membership`` is in effect here: its entry at ``index`` was appended, or a later one was truncated."""

    shard: ShardId
    index: Index
    membership: Membership


@attrs.frozen(slots=True)
class TransferBegan:
    """The leader of ``term`` takes no proposals until ``target`` leads, or an election timeout has passed."""

    shard: ShardId
    term: Term
    target: ReplicaId


@attrs.frozen(slots=True)
class TransferGivenUp:
    """``target`` did not take over in time; the leader of ``term`` takes proposals again."""

    shard: ShardId
    term: Term
    target: ReplicaId


RaftNote: TypeAlias = (
    BecameLeader
    | BecameFollower
    | Campaigned
    | Truncated
    | Refused
    | StateLost
    | Reconfigured
    | TransferBegan
    | TransferGivenUp
)


@attrs.frozen(slots=True)
class Ready:
    """Everything that came of the inputs since the last one was taken. See the package's contract.

    ``copies_wanted``: followers whose next entry is compacted; the caller sends each a snapshot and
    says ``Raft.copy_finished``. Each is named once per need.
    """

    messages: tuple[RaftMessage, ...] = ()
    messages_after_persist: tuple[RaftMessage, ...] = ()
    write: LogWrite | None = None
    read_states: tuple[ReadState, ...] = ()
    reads_lost: tuple[ReadLost, ...] = ()
    copies_wanted: tuple[ReplicaId, ...] = ()
    notes: tuple[RaftNote, ...] = ()


class LogReader(Protocol):
    """Where entries are read from that the in-memory tail no longer holds. Synchronous."""

    def read_entries(self, shard: ShardId, low: Index, high: Index, bytes_max: int) -> list[bytes]:
        """Encoded entries from ``low`` up to and without ``high``, at least one, at most ``bytes_max`` bytes."""
        ...


@attrs.frozen(slots=True)
class LogSummary:
    """What a log is known by at start, without its payloads.

    Entries run from ``first_index``; ``terms`` and ``sizes`` (encoded bytes) name each of them in
    order. ``previous_term`` is the term at ``first_index - 1`` (0 at the very start).
    """

    first_index: Index = 1
    previous_term: Term = 0
    terms: tuple[Term, ...] = ()
    sizes: tuple[int, ...] = ()
