"""What a turn asks of its driver. A driver carries these out and understands none of them."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from shardraft.host.messages import LinkMessage, PeerMessage
from shardraft.kv.machine import MachineImage, MachineState
from shardraft.kv.requests import ClientReply
from shardraft.learner.ready import LearnerNote as LearnerNote
from shardraft.raft.ready import LogWrite, RaftNote
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.types import HostId, Index, ReplicaId, ShardId, Term


@attrs.frozen(slots=True)
class LogBatch:
    """Everything all shards write to the log in one turn, with one sync.

    ``compactions``: delete the entries of that shard up to and including that index.
    """

    writes: tuple[LogWrite, ...] = ()
    compactions: tuple[tuple[ShardId, Index, Term], ...] = ()


@attrs.frozen(slots=True)
class StateBatch:
    """What one flush writes to the state environment: whole images only, all to be read from one moment on.

    Each image equals exactly the shard's state at its ``last_applied``: changed keys (None: deleted),
    sessions, revision, range. Answered with ``StateFlushed(number)``, in order.
    """

    number: int
    images: tuple[MachineImage, ...]


@attrs.frozen(slots=True)
class SpoolCopy:
    """Make a snapshot of the flushed state of ``shard`` under ``copy_id``; answered with ``CopySpooled``."""

    shard: ShardId
    copy_id: int


@attrs.frozen(slots=True)
class DropCopy:
    """The snapshot ``copy_id`` is no longer sent; its file may go."""

    copy_id: int


@attrs.frozen(slots=True)
class StageChunk:
    """Keep chunk ``number`` of the snapshot of ``shard`` being received; 0 starts anew."""

    shard: ShardId
    number: int
    data: bytes


@attrs.frozen(slots=True)
class InstallCopy:
    """Replace the state of ``shard`` by the staged chunks, then reset its log to (``index``, ``term``).

    State first, then the log, hard state kept (PROTOCOL); answered with ``CopyInstalled(shard, number)``.
    The store refuses (StorageError) chunks that do not make up the state at ``index``.
    """

    shard: ShardId
    number: int
    index: Index
    term: Term


CopyCommand: TypeAlias = SpoolCopy | DropCopy | StageChunk | InstallCopy


@attrs.frozen(slots=True)
class CreateReplica:
    """Make a new replica of a shard, with that ``state``; answered with ``ReplicaCreated``."""

    replica: ReplicaId
    state: MachineState


@attrs.frozen(slots=True)
class RemoveReplica:
    """Remove this host's replica of ``shard``: tombstone and state first, then the log.

    The log goes on its own thread, after every batch submitted before. Answered with ``ReplicaRemoved``.
    """

    shard: ShardId
    replica: ReplicaId


ReplicaCommand: TypeAlias = CreateReplica | RemoveReplica


@attrs.frozen(slots=True)
class CopyNote:
    """A copy began, finished or failed; ``what`` is a few words."""

    shard: ShardId
    host: HostId
    what: str


@attrs.frozen(slots=True)
class ReplicaStopped:
    """This host's replica of ``shard`` applied other entries up to ``index`` than ``host``, and does nothing more.

    One of the two holds what was never agreed on: a broken disk or memory, or a bug. An operator replaces it.
    """

    shard: ShardId
    index: Index
    host: HostId


@attrs.frozen(slots=True)
class ReplicaJoined:
    """A leader named a replica of ``shard`` on this host that was not here; it is by now, and empty."""

    shard: ShardId
    replica: ReplicaId


@attrs.frozen(slots=True)
class ReplicaLeft:
    """This host's replica of ``shard`` has no part in its group any more, and is being removed."""

    shard: ShardId
    replica: ReplicaId


HostNote: TypeAlias = RaftNote | LearnerNote | CopyNote | ReplicaStopped | ReplicaJoined | ReplicaLeft


@attrs.frozen(slots=True)
class Turn:
    """One turn of a host. All but the log batch's consequences may be carried out at once.

    ``messages`` go to voter hosts, one frame each; ``link_messages`` to children and the parent by
    connection; ``replies`` to clients by connection. ``log_batch`` is None when nothing is written;
    otherwise its commit is answered with ``Host.finish_turn(number)``, in order. ``shard_map`` is a map
    to keep (``Store.save_shard_map``), answered with ``ShardMapKept``. ``places`` are the voter hosts to be
    connected to from now on, all of them, or None while these stay as they are. ``closes`` names connections to close.
    """

    number: int
    messages: tuple[tuple[HostId, tuple[PeerMessage, ...]], ...] = ()
    link_messages: tuple[tuple[int, tuple[LinkMessage, ...]], ...] = ()
    replies: tuple[tuple[int, tuple[ClientReply, ...]], ...] = ()
    log_batch: LogBatch | None = None
    state_batch: StateBatch | None = None
    copies: tuple[CopyCommand, ...] = ()
    replicas: tuple[ReplicaCommand, ...] = ()
    shard_map: ShardMap | None = None
    places: tuple[HostPlace, ...] | None = None
    closes: tuple[int, ...] = ()
    notes: tuple[HostNote, ...] = ()


@attrs.frozen(slots=True)
class Outcome:
    """What may leave once a turn's log batch is durable."""

    messages: tuple[tuple[HostId, tuple[PeerMessage, ...]], ...] = ()
