"""Whether a simulated cluster has come to rest: leaders everywhere, and everybody up to date who should be."""

from __future__ import annotations

from shardraft.host.voter import Voter
from shardraft.shards.shard_map import ShardMap
from shardraft.sim.invariants import Invariants
from shardraft.sim.process import Process
from shardraft.types import ShardId


def is_caught_up(process: Process, shard_map: ShardMap, invariants: Invariants) -> bool:
    """Has the process exactly the replicas that it should, and have they applied everything that is committed?

    One that was made in vain, and never became a voter, may stay: it is in nobody's way.
    """
    host = process.host
    if host is None:
        return False
    for shard in shard_map.shards:
        replica = host.replicas.get(shard.shard)
        if not _belongs(process, shard.shard, invariants):
            if isinstance(replica, Voter) and replica.raft.may_stand():
                return False
        elif replica is None or replica.machine.last_applied != invariants.commit_index(shard.shard):
            return False
    return True


def _belongs(process: Process, shard: ShardId, invariants: Invariants) -> bool:
    return process.is_learner or invariants.members.committed(shard).replica_on(process.node) != 0


def is_settled(leader: Process | None, shard: ShardId) -> bool:
    """Has the shard a leader, and is no change of its members under way?"""
    return leader is not None and leader.host is not None and leader.host.voters[shard].raft.membership_settled
