"""The clients' door: every request is dispatched here, by type, to the replica it is for."""

from __future__ import annotations

from collections.abc import Callable

from shardraft import __version__
from shardraft.errors import NotLeader, Overloaded, ShardraftError, Unavailable, WrongShard
from shardraft.host.administration import Administration
from shardraft.host.events import RequestReceived
from shardraft.host.followers import followers_of
from shardraft.host.outbox import Outbox
from shardraft.host.pending import PendingRequests
from shardraft.host.places import Places
from shardraft.host.reads import AnswerableReads
from shardraft.host.replica import Replica
from shardraft.host.residence import Residence
from shardraft.host.tree import Tree
from shardraft.host.voter import Voter
from shardraft.kv.requests import (
    UNKNOWN_MEMBERSHIP,
    ChangeMembersRequest,
    Consistency,
    MapReply,
    MapRequest,
    PlaceRequest,
    ReadRequest,
    ScanRequest,
    ShardStatus,
    SnapshotRequest,
    StatusReply,
    StatusRequest,
    TransferRequest,
    WriteRequest,
)
from shardraft.shards.shard_map import ShardMap
from shardraft.types import HostId, ShardId


class Clients:
    """Answers what can be answered at once and lets the rest wait at its replica.

    ``shard_map`` is the one that this host knows (None on a learner that never heard one); while ``disk_is_low``
    writes are refused. The host sets both.
    """

    def __init__(
        self,
        host: HostId,
        voters: dict[ShardId, Voter],
        replicas: dict[ShardId, Replica],
        pending: PendingRequests,
        outbox: Outbox,
        answerable: AnswerableReads,
        tree: Tree,
        administration: Administration,
        places: Places,
        residence: Residence,
        touch: Callable[[Voter], None],
        shard_map: ShardMap | None,
        now_us: int,
    ) -> None:
        self.shard_map = shard_map
        self.disk_is_low = False
        self._host = host
        self._voters = voters
        self._replicas = replicas
        self._pending = pending
        self._outbox = outbox
        self._answerable = answerable
        self._tree = tree
        self._places = places
        self._residence = residence
        self._touch = touch
        self._started_us = now_us
        self._dispatch: dict[type, Callable[..., None]] = {
            WriteRequest: self._write,
            ReadRequest: self._read,
            ScanRequest: self._read,
            MapRequest: self._map,
            StatusRequest: self._status,
            TransferRequest: administration.transfer,
            SnapshotRequest: administration.snapshot,
            ChangeMembersRequest: administration.change_members,
            PlaceRequest: places.asked,
        }

    def requested(self, event: RequestReceived) -> None:
        self._dispatch[type(event.request)](event.connection, event.request, event.now_us)

    def _write(self, connection: int, request: WriteRequest, now_us: int) -> None:
        voter = self._voters.get(request.shard)
        if voter is None:
            self._pending.refuse(connection, request, self._no_voter(request.shard))
            return
        if self.disk_is_low:
            # Refused before the disk is full: a commit that fails for want of room would end the process.
            error = Overloaded("the disk of this host is nearly full", retry_after_ms=1000, shard=request.shard)
            self._pending.refuse(connection, request, error)
            return
        pending = self._pending.admit(connection, request, now_us)
        if pending is not None:
            voter.write(pending, request, now_us)
            self._touch(voter)

    def _no_voter(self, shard: int) -> ShardraftError:
        if shard in self._replicas:
            return NotLeader("a learner takes no writes", shard=shard)
        return self._unknown_shard(shard)

    def _unknown_shard(self, shard: int) -> ShardraftError:
        """A shard of the map that is not here is on other hosts, and its range is no other than the client believes."""
        shard_map = self.shard_map
        if shard_map is not None and any(known.shard == shard for known in shard_map.shards):
            leader = self._residence.leader_hint(shard)
            return NotLeader("this host does not hold the shard", leader=leader, shard=shard)
        return WrongShard("this host does not hold the shard", epoch=shard_map.epoch if shard_map else 0, shard=shard)

    def _read(self, connection: int, request: ReadRequest | ScanRequest, now_us: int) -> None:
        replica = self._replicas.get(request.shard)
        error = self._read_refusal(replica, request)
        if error is not None or replica is None:
            self._pending.refuse(connection, request, error or self._unknown_shard(request.shard))
            return
        pending = self._pending.admit(connection, request, now_us)
        if pending is None:
            return
        if request.consistency is Consistency.STALE:
            self._answerable.add(replica, pending)
            return
        assert isinstance(replica, Voter), "a linearizable read at a learner was refused"
        replica.read(pending)
        self._touch(replica)

    def _read_refusal(self, replica: Replica | None, request: ReadRequest | ScanRequest) -> ShardraftError | None:
        if replica is None:
            return self._unknown_shard(request.shard)
        if not replica.serving:
            return Unavailable("this replica diverged or is being replaced, and is not served", shard=request.shard)
        if request.consistency is not Consistency.STALE and not isinstance(replica, Voter):
            return NotLeader("a learner answers stale reads only", shard=request.shard)
        try:
            replica.check_read(request)
        except ShardraftError as error:
            return error
        return None

    def _map(self, connection: int, request: MapRequest, now_us: int) -> None:
        shard_map = self._places.present or self.shard_map
        if shard_map is None:
            error = Unavailable("this learner has not heard the shard map yet")
            self._pending.refuse(connection, request, error)
            return
        self._outbox.reply(connection, MapReply(request.request_id, shard_map, self._tree.learner_places()))

    def _status(self, connection: int, request: StatusRequest, now_us: int) -> None:
        tree, replicas = self._tree, self._replicas
        reply = StatusReply(
            request.request_id,
            self._host,
            __version__,
            tree.tier,
            tree.parent,
            (now_us - self._started_us) // 1000,
            tuple(_shard_status(replicas[shard], now_us) for shard in sorted(replicas)),
            tree.children(),
        )
        self._outbox.reply(connection, reply)


def _role_of(replica: Replica) -> str:
    if not isinstance(replica, Voter):
        return "learner"
    return "stopped" if replica.stopped else replica.raft.role.value


def _shard_status(replica: Replica, now_us: int) -> ShardStatus:
    machine, log = replica.machine, replica.log
    voter = replica if isinstance(replica, Voter) else None
    raft = voter.raft if voter else None
    return ShardStatus(
        shard=replica.shard,
        role=_role_of(replica),
        term=raft.term if raft else machine.last_applied_term,
        leader=raft.leader_host if raft else 0,
        replica=raft.replica if raft else 0,
        commit_index=replica.commit_index,
        applied_index=machine.last_applied,
        flushed_index=machine.flushed_index,
        first_index=log.first_index,
        last_index=log.last_index,
        log_bytes=log.log_bytes,
        revision=machine.revision,
        sessions=machine.session_count,
        membership=raft.membership if raft else UNKNOWN_MEMBERSHIP,
        membership_index=raft.membership_index if raft else 0,
        followers=followers_of(voter, now_us) if voter else (),
    )
