"""What an operator asks of a running host: another leader, a flush now, other voters; answered when that came about."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from shardraft.config import RaftConfig
from shardraft.errors import Conflict, InvalidArgument, NotLeader, ShardraftError, Unavailable, WrongShard
from shardraft.host.changing import change_members
from shardraft.host.cutting import Cutting
from shardraft.host.flushing import Flushing
from shardraft.host.pending import Pending, PendingRequests
from shardraft.host.replica import Replica
from shardraft.host.voter import Voter
from shardraft.kv.requests import (
    ChangeMembersReply,
    ChangeMembersRequest,
    SnapshotReply,
    SnapshotRequest,
    TransferReply,
    TransferRequest,
)
from shardraft.raft.ready import Role
from shardraft.types import NO_HOST, NO_REPLICA, HostId, Index, ShardId, Term


@attrs.frozen(slots=True)
class _Transfer:
    """A handover under way, and who waits to hear of its end."""

    pending: Pending
    voter: Voter
    host: HostId


@attrs.frozen(slots=True)
class _Change:
    """A change of voters whose first step the leader of ``term`` has appended; answered once that is committed."""

    pending: Pending
    voter: Voter
    term: Term


@attrs.frozen(slots=True)
class _Snapshot:
    """A flush under way: it is over when the state at ``index`` is on disk."""

    pending: Pending
    replica: Replica
    index: Index
    log_bytes_before: int
    began_us: int


class Administration:
    """Takes the requests and answers them in the turn in which what they asked for came about.

    Each request counts as one that is in flight; one whose deadline passes first is answered by ``pending``,
    and what it began goes on.
    """

    def __init__(
        self,
        host: HostId,
        voters: dict[ShardId, Voter],
        replicas: dict[ShardId, Replica],
        pending: PendingRequests,
        flushing: Flushing,
        cutting: Cutting,
        config: RaftConfig,
        touch: Callable[[Voter], None],
    ) -> None:
        self._host = host
        self._voters = voters
        self._replicas = replicas
        self._pending = pending
        self._flushing = flushing
        self._cutting = cutting
        self._election_timeout_ms_max = 2 * config.election_timeout_ms
        self._touch = touch
        self._transfers: list[_Transfer] = []
        self._snapshots: list[_Snapshot] = []
        self._changes: list[_Change] = []

    def turn(self, now_us: int) -> None:
        """Answer what is done by now. Free while nobody waits."""
        if self._transfers:
            self._transfers = [each for each in self._transfers if not self._transfer_is_over(each)]
        if self._changes:
            self._changes = [each for each in self._changes if not self._change_has_begun(each)]
        if self._snapshots:
            self._snapshots = [each for each in self._snapshots if not self._snapshot_is_over(each, now_us)]

    # Transfers.

    def transfer(self, connection: int, request: TransferRequest, now_us: int) -> None:
        """Begin to hand the shard over, unless the host asked for leads it already."""
        pending = self._pending.admit(connection, request, now_us)
        if pending is None:
            return
        try:
            voter = self._leader_of(request.shard)
            if request.host == self._host:
                voter.raft.keep_office()
            else:
                voter.raft.transfer(_voter_on(voter, request.host), now_us, keep=True)
        except ShardraftError as error:
            error.shard = request.shard
            self._pending.fail(pending, error)
            return
        self._touch(voter)
        self._transfers.append(_Transfer(pending, voter, request.host))

    def _leader_of(self, shard: ShardId) -> Voter:
        voter = self._voters.get(shard)
        if voter is None:
            if shard in self._replicas:
                raise NotLeader("a learner leads nothing")
            raise WrongShard("this host does not hold the shard")
        if voter.raft.role is not Role.LEADER:
            raise NotLeader(leader=voter.raft.leader_host)
        return voter

    def _transfer_is_over(self, transfer: _Transfer) -> bool:
        pending, raft = transfer.pending, transfer.voter.raft
        if pending.answered:
            return True
        leader = raft.leader_host
        if raft.role is Role.LEADER and leader != transfer.host:
            if raft.transferee != NO_REPLICA:
                return False
            text = (
                f"host {transfer.host} did not take over within {self._election_timeout_ms_max} ms: it is down, cut "
                f"off or far behind; host {self._host} leads on"
            )
            self._pending.fail(pending, Conflict(text, shard=raft.shard))
        elif leader == NO_HOST:
            return False  # The successor was told to stand for election, and is about to be heard.
        else:
            self._pending.answer(pending, TransferReply(pending.request.request_id, leader, raft.term))
        return True

    # Members.

    def change_members(self, connection: int, request: ChangeMembersRequest, now_us: int) -> None:
        """Begin a change of the shard's voters; what follows shows in the status."""
        pending = self._pending.admit(connection, request, now_us)
        if pending is None:
            return
        try:
            voter = self._leader_of(request.shard)
            change_members(voter, request, now_us)
        except ShardraftError as error:
            error.shard = request.shard
            self._pending.fail(pending, error)
            return
        self._touch(voter)
        self._changes.append(_Change(pending, voter, voter.raft.term))

    def _change_has_begun(self, change: _Change) -> bool:
        pending, raft = change.pending, change.voter.raft
        if pending.answered:
            return True
        if raft.role is not Role.LEADER or raft.term != change.term:
            error = NotLeader(leader=raft.leader_host, applied="unknown", shard=raft.shard)
            self._pending.fail(pending, error)
        elif raft.membership_index > raft.commit_index:
            return False
        else:
            reply = ChangeMembersReply(pending.request.request_id, raft.membership_index, raft.membership)
            self._pending.answer(pending, reply)
        return True

    # Snapshots.

    def snapshot(self, connection: int, request: SnapshotRequest, now_us: int) -> None:
        """Begin a flush of what is applied of the shard."""
        pending = self._pending.admit(connection, request, now_us)
        if pending is None:
            return
        replica = self._replicas.get(request.shard)
        if replica is None or not replica.serving or replica.installing:
            error: ShardraftError = WrongShard("this host does not hold the shard", shard=request.shard)
            if replica is not None:
                error = Unavailable("this replica diverged or is being replaced", shard=request.shard)
            self._pending.fail(pending, error)
            return
        self._flushing.want()
        index = replica.machine.last_applied
        self._snapshots.append(_Snapshot(pending, replica, index, replica.log.log_bytes, now_us))

    def _snapshot_is_over(self, snapshot: _Snapshot, now_us: int) -> bool:
        pending, replica = snapshot.pending, snapshot.replica
        if pending.answered:
            return True
        index = replica.machine.flushed_index
        if index < snapshot.index:
            if not self._flushing.is_flushing(replica):
                self._flushing.want()  # The flush that was under way when the request came ended too early.
            return False
        if not replica.installing:
            self._cutting.cut(replica, now_us)
        log = replica.log
        reply = SnapshotReply(
            pending.request.request_id,
            index,
            log.first_index,
            snapshot.log_bytes_before,
            log.log_bytes,
            now_us - snapshot.began_us,
        )
        self._pending.answer(pending, reply)
        return True


def _voter_on(voter: Voter, host: HostId) -> int:
    """The replica that ``host`` votes with; ``InvalidArgument`` when it does not."""
    membership = voter.raft.membership
    replica = membership.replica_on(host)
    if replica == NO_REPLICA:
        holders = ", ".join(str(member.host) for member in membership.members)
        raise InvalidArgument(f"host {host} holds no replica of shard {voter.shard}; hosts {holders} do")
    if replica not in membership.voters:
        raise InvalidArgument(f"host {host} has no vote in shard {voter.shard}: it is still catching up, or leaving")
    return replica
