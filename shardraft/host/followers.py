"""How far the other replicas of a shard are, as its leader sees it."""

from __future__ import annotations

from shardraft.host.voter import Voter
from shardraft.kv.requests import FollowerStatus
from shardraft.raft.leader import Leader
from shardraft.raft.progress import Progress, ProgressState
from shardraft.types import NO_HOST, Index, ReplicaId


def followers_of(voter: Voter, now_us: int) -> tuple[FollowerStatus, ...]:
    """The other members of the configuration, ascending by replica number; none where the shard is not led."""
    leader = voter.raft.leading
    if leader is None:
        return ()
    members = {member.replica for member in voter.raft.membership.members}
    return tuple(
        FollowerStatus(
            progress.replica,
            progress.match_index,
            max(0, now_us - heard_us(leader, progress)) // 1000,
            progress.copying,
        )
        for progress in leader.followers
        if progress.replica in members
    )


def heard_us(leader: Leader, progress: Progress) -> int:
    """When a follower was heard last; of a group that rests, the rounds between hosts tell it (decision 0010)."""
    raft = leader.raft
    host = raft.host_of(progress.replica)
    if not leader.rest.resting or raft.contact_of is None or host == NO_HOST:
        return progress.active_us
    return max(progress.active_us, raft.contact_of(host).answered_us)


def live_followers(voter: Voter, now_us: int) -> list[Progress]:
    """The followers that were heard within an election timeout; none where the shard is not led."""
    leader = voter.raft.leading
    if leader is None:
        return []
    silence_us_max = voter.raft.election_timeout_us_max
    return [progress for progress in leader.followers if now_us - heard_us(leader, progress) <= silence_us_max]


def sources_of_copies(voter: Voter, target: ReplicaId, index_min: Index, now_us: int) -> list[Progress]:
    """The members that live and are fed from the log, and so can send ``target`` a copy at ``index_min`` or later."""
    members = {member.replica for member in voter.raft.membership.members} - {target}
    return [
        progress
        for progress in live_followers(voter, now_us)
        if progress.replica in members
        and progress.state is ProgressState.REPLICATE
        and progress.match_index >= index_min
    ]


def held_by_live_followers(voter: Voter, now_us: int) -> list[Index]:
    """Up to where each follower that lives, and gets entries, holds the log."""
    return [progress.match_index for progress in live_followers(voter, now_us) if not progress.copying]
