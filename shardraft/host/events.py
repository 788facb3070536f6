"""What happens to a host. Every event carries ``now_us``, the host's monotonic time of its arrival.

A *connection* is a number the driver gives to each inbound or outbound link of a client, child
or parent; peers (voter hosts) are named by their host id, since there is one link per pair.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from shardraft.host.messages import LinkMessage, PeerMessage
from shardraft.kv.machine import MachineState
from shardraft.kv.requests import ClientRequest
from shardraft.shards.shard_map import ShardMap
from shardraft.types import HostId, Index, ShardId, Term


@attrs.frozen(slots=True)
class Tick:
    """``Host.next_deadline_us`` has passed."""

    now_us: int


@attrs.frozen(slots=True)
class PeerFrameReceived:
    """One frame of another voter host, already decoded and checked for shape."""

    now_us: int
    host: HostId
    messages: tuple[PeerMessage, ...]


@attrs.frozen(slots=True)
class PeerConnected:
    """A link with the peer exists again (either direction)."""

    now_us: int
    host: HostId


@attrs.frozen(slots=True)
class HostMet:
    """A host that may be none of the map said hello as a voter host of this cluster, and that it listens there."""

    now_us: int
    host: HostId
    endpoint: str


@attrs.frozen(slots=True)
class PeerDisconnected:
    """The peer's connection closed (a dying process closes its sockets): a hint, not a proof."""

    now_us: int
    host: HostId


@attrs.frozen(slots=True)
class RequestReceived:
    now_us: int
    connection: int
    request: ClientRequest


@attrs.frozen(slots=True)
class ConnectionClosed:
    """A client, child or parent connection is gone."""

    now_us: int
    connection: int


@attrs.frozen(slots=True)
class ParentConnected:
    """This learner's link to its parent is up."""

    now_us: int
    connection: int


@attrs.frozen(slots=True)
class LinkFrameReceived:
    """One frame of a child or of the parent."""

    now_us: int
    connection: int
    messages: tuple[LinkMessage, ...]


@attrs.frozen(slots=True)
class StateFlushed:
    """The state batch of that number is durable."""

    now_us: int
    number: int


@attrs.frozen(slots=True)
class CopySpooled:
    """The store made a snapshot of ``shard``; ``copy_id`` names it for ``Store.read_chunk``.

    ``chunks`` is how many there are; ``index`` and ``term`` are its flushed ``last_applied``.
    """

    now_us: int
    shard: ShardId
    copy_id: int
    index: Index
    term: Term
    chunks: int


@attrs.frozen(slots=True)
class CopyInstalled:
    """The received snapshot of ``shard`` is its ``state``, durably, and the log was reset; ``number`` as asked."""

    now_us: int
    shard: ShardId
    number: int
    state: MachineState


@attrs.frozen(slots=True)
class CopyRejected:
    """The store found that the staged chunks are no such snapshot, and dropped them; ``number`` as asked."""

    now_us: int
    shard: ShardId
    number: int
    reason: str


@attrs.frozen(slots=True)
class ReplicaCreated:
    """The replica of ``CreateReplica`` is durable."""

    now_us: int
    shard: ShardId


@attrs.frozen(slots=True)
class ReplicaRemoved:
    """The replica of ``RemoveReplica`` is gone, durably: its state, its log and its vote."""

    now_us: int
    shard: ShardId


@attrs.frozen(slots=True)
class ShardMapKept:
    """The map of ``Turn.shard_map`` is durable, and its shards exist in the store."""

    now_us: int
    shard_map: ShardMap


@attrs.frozen(slots=True)
class DiskSpace:
    """The disk has less room than is kept in reserve (``is_low``), or has it again."""

    now_us: int
    is_low: bool


@attrs.frozen(slots=True)
class StopAsked:
    """The process will end soon: the host hands over what it leads (``Host.departure``) and goes on until then."""

    now_us: int


Event: TypeAlias = (
    Tick
    | PeerFrameReceived
    | PeerConnected
    | HostMet
    | PeerDisconnected
    | RequestReceived
    | ConnectionClosed
    | ParentConnected
    | LinkFrameReceived
    | StateFlushed
    | CopySpooled
    | CopyInstalled
    | CopyRejected
    | ReplicaCreated
    | ReplicaRemoved
    | ShardMapKept
    | DiskSpace
    | StopAsked
)
