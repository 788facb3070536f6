"""What the processes of a cluster say of themselves, put together: who leads, who lags, who is silent."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from shardraft.kv.requests import ShardStatus, StatusReply
from shardraft.types import NO_HOST, HostId, Index, ShardId, Term


@attrs.frozen(slots=True)
class ShardView:
    """One shard: ``leader`` is NO_HOST when no reachable host leads it; indexes are the leader's then 0.

    ``behind`` says of each follower, by host, how many committed entries it has not applied.
    """

    shard: ShardId
    leader: HostId
    term: Term
    commit_index: Index
    applied_index: Index
    revision: int
    log_bytes: int
    behind: tuple[tuple[HostId, int], ...]


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
        return ShardView(number, NO_HOST, max(status.term for _, status in replicas), 0, 0, 0, 0, ())
    # A deposed leader that does not know it yet is of an older term.
    term, leader, status = max(leading, key=lambda item: item[0])
    behind = tuple((host, _behind(status, other)) for host, other in replicas if host != leader)
    return ShardView(
        number,
        leader,
        term,
        status.commit_index,
        status.applied_index,
        status.revision,
        status.log_bytes,
        behind,
    )


def _behind(leader: ShardStatus, follower: ShardStatus) -> int:
    return max(0, leader.commit_index - follower.applied_index)


def _learner_view(reply: StatusReply, shards: Sequence[ShardView]) -> LearnerView:
    applied = {status.shard: status.applied_index for status in reply.shards}
    known = all(shard.leader != NO_HOST and shard.shard in applied for shard in shards)
    lag = sum(max(0, shard.commit_index - applied[shard.shard]) for shard in shards) if known else None
    return LearnerView(reply.host, reply.tier, reply.parent, lag)
