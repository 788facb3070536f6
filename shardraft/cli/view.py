"""What the processes of a cluster say of themselves, put together: who leads, who lags, who is silent."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from shardraft.kv.requests import ShardStatus, StatusReply
from shardraft.types import NO_HOST, HostId, Index, ReplicaId, ShardId, Term


@attrs.frozen(slots=True)
class StagingView:
    """A host whose replica catches up before it votes; ``lag_entries`` is None while no leader tells it.

    ``copying``: it is sent a full copy of the state.
    """

    host: HostId
    lag_entries: int | None
    copying: bool


@attrs.frozen(slots=True)
class ShardView:
    """One shard: ``leader`` is NO_HOST when no reachable host leads it; indexes are the leader's then 0.

    ``behind`` says of each follower, by host, how many committed entries it has not applied. The last four
    are hosts: who votes, who votes in the configuration that is being left (a joint one), who catches up, and who
    goes when they have.
    """

    shard: ShardId
    leader: HostId
    term: Term
    commit_index: Index
    applied_index: Index
    revision: int
    log_bytes: int
    behind: tuple[tuple[HostId, int], ...]
    voters: tuple[HostId, ...] = ()
    voters_outgoing: tuple[HostId, ...] = ()
    staging: tuple[StagingView, ...] = ()
    leaving: tuple[HostId, ...] = ()
    is_settled: bool = True
    """The configuration is committed, as the one who told it knows."""

    @property
    def is_changing(self) -> bool:
        """Whether a change of its voters is under way."""
        return bool(self.voters_outgoing or self.staging)


@attrs.frozen(slots=True)
class LearnerView:
    """One learner; ``lag_entries`` is None while a shard's leader is unknown or a shard is not followed at all."""

    host: HostId
    tier: int
    parent: HostId
    lag_entries: int | None


@attrs.frozen(slots=True)
class ClusterView:
    """A cluster as its reachable processes see it, about now."""

    hosts: tuple[StatusReply, ...]
    shards: tuple[ShardView, ...]
    learners: tuple[LearnerView, ...]

    @property
    def all_led(self) -> bool:
        return bool(self.shards) and all(shard.leader != NO_HOST for shard in self.shards)


def view_of(replies: Sequence[StatusReply]) -> ClusterView:
    """Put the answers of all reachable processes together."""
    ordered = sorted(replies, key=lambda reply: (reply.tier, reply.host))
    hosts = tuple(reply for reply in ordered if reply.tier == 0)
    numbers = sorted({status.shard for reply in hosts for status in reply.shards})
    shards = tuple(_shard_view(number, hosts) for number in numbers)
    learners = tuple(_learner_view(reply, shards) for reply in ordered if reply.tier > 0)
    return ClusterView(hosts, shards, learners)


def _shard_view(number: ShardId, hosts: Sequence[StatusReply]) -> ShardView:
    replicas = [(host.host, status) for host in hosts for status in host.shards if status.shard == number]
    leading = [(status.term, host, status) for host, status in replicas if status.role == "leader"]
    if not leading:
        latest = max((status for _, status in replicas), key=lambda status: status.membership_index)
        term = max(status.term for _, status in replicas)
        return _with_members(ShardView(number, NO_HOST, term, 0, 0, 0, 0, ()), latest)
    # A deposed leader that does not know it yet is of an older term.
    term, leader, status = max(leading, key=lambda item: item[0])
    behind = tuple((host, _behind(status, other)) for host, other in replicas if host != leader)
    led = ShardView(
        number,
        leader,
        term,
        status.commit_index,
        status.applied_index,
        status.revision,
        status.log_bytes,
        behind,
    )
    return _with_members(led, status)


def _with_members(view: ShardView, status: ShardStatus) -> ShardView:
    """``view`` with the configuration that ``status`` knows, its replicas named by their hosts."""
    membership = status.membership
    followers = {follower.replica: follower for follower in status.followers}

    def staging_view(replica: ReplicaId) -> StagingView:
        follower = followers.get(replica)
        lag_entries = None if follower is None else max(0, status.last_index - follower.match_index)
        return StagingView(membership.host_of(replica), lag_entries, follower is not None and follower.copying)

    return attrs.evolve(
        view,
        voters=tuple(sorted(map(membership.host_of, membership.voters))),
        voters_outgoing=tuple(sorted(map(membership.host_of, membership.voters_outgoing))),
        staging=tuple(map(staging_view, membership.staging)),
        leaving=tuple(sorted(map(membership.host_of, membership.leaving))),
        is_settled=status.membership_index <= status.commit_index,
    )


def _behind(leader: ShardStatus, follower: ShardStatus) -> int:
    return max(0, leader.commit_index - follower.applied_index)


def _learner_view(reply: StatusReply, shards: Sequence[ShardView]) -> LearnerView:
    applied = {status.shard: status.applied_index for status in reply.shards}
    known = all(shard.leader != NO_HOST and shard.shard in applied for shard in shards)
    lag = sum(max(0, shard.commit_index - applied[shard.shard]) for shard in shards) if known else None
    return LearnerView(reply.host, reply.tier, reply.parent, lag)
