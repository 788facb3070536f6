"""What an operator asks of a shard's voters, as the change that Raft is asked for, or a refusal in words."""

from __future__ import annotations

from typing import Final

from shardraft.errors import Conflict, InvalidArgument, Overloaded
from shardraft.host.followers import live_followers
from shardraft.host.voter import Voter
from shardraft.kv.requests import ChangeMembersRequest
from shardraft.raft.membership import MembershipChange
from shardraft.types import NO_HOST, NO_REPLICA, HostId, Member, Membership, ReplicaId

_RETRY_MS: Final = 50


def change_members(voter: Voter, request: ChangeMembersRequest, now_us: int) -> None:
    """Propose the first step toward what is asked, unless it is so already or on its way.

    ``voter`` leads. Raises ``InvalidArgument`` for what makes no sense, ``Conflict`` for another change
    while one is under way and for one after which no majority would be alive, and ``Overloaded`` while the
    leader is too young, or is handing over, to begin any.
    """
    raft = voter.raft
    if request.add == request.remove:
        raise InvalidArgument("a change names a host to add or one to remove, or two different ones")
    if _is_under_way(raft.membership, request.add, request.remove):
        return
    leading = raft.leading
    assert leading is not None, "only a leader is asked"
    if not leading.committed_own_term or raft.transferee != NO_REPLICA:
        raise Overloaded("the leader has just been elected, or is handing over", retry_after_ms=_RETRY_MS)
    change = _change(voter, request)
    _check_quorum(voter, request, now_us)
    raft.propose_membership(change, now_us)
    voter.raft.has_ready = True


def _is_under_way(membership: Membership, add: HostId, remove: HostId) -> bool:
    """Whether the configuration is the one that is asked for, or a step toward it."""
    added, removed = membership.replica_on(add), membership.replica_on(remove)
    if added in membership.staging and added != NO_REPLICA:
        return removed == NO_REPLICA if remove == NO_HOST else removed in membership.leaving
    joins = add == NO_HOST or added in membership.voters
    goes = removed not in membership.voters and removed not in membership.staging
    return joins and goes


def _change(voter: Voter, request: ChangeMembersRequest) -> MembershipChange:
    membership = voter.raft.membership
    removed = membership.replica_on(request.remove)
    if request.remove != NO_HOST and removed == NO_REPLICA:
        raise InvalidArgument(f"host {request.remove} holds no replica of shard {voter.shard}")
    add = () if request.add == NO_HOST else (Member(next_replica(voter), request.add),)
    return MembershipChange(add, () if removed == NO_REPLICA else (removed,))


def next_replica(voter: Voter) -> ReplicaId:
    """A number that no replica of the shard ever had (PROTOCOL, members): above all that the log and the state know."""
    configurations = [voter.raft.membership, *voter.raft.configurations.since(0)]
    known = [member.replica for each in configurations for member in each.members]
    return max([*known, voter.machine.last_replica]) + 1


def _check_quorum(voter: Voter, request: ChangeMembersRequest, now_us: int) -> None:
    """Refuse a change after which the shard could not commit: more of its voters would be silent than it bears."""
    raft = voter.raft
    removed = raft.membership.replica_on(request.remove)
    voters = [replica for replica in raft.membership.voters if replica != removed]
    live = {raft.replica, *(progress.replica for progress in live_followers(voter, now_us))}
    silent = [replica for replica in voters if replica not in live]
    count = len(voters) + (request.add != NO_HOST)
    if voters and count - len(silent) <= count // 2:
        hosts = ", ".join(str(raft.membership.host_of(replica)) for replica in silent)
        raise Conflict(f"of {count} voters then, host {hosts} would be silent: the shard would lose its quorum")
