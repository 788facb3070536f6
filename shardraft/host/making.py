"""Replicas are made from what the store holds of them, at start and later on."""

from __future__ import annotations

from random import Random

import attrs

from shardraft.config import HostConfig
from shardraft.host.learning import LearnerReplica
from shardraft.host.outbox import Outbox
from shardraft.host.pending import PendingRequests
from shardraft.host.ports import Codec, RecoveredShard, Store
from shardraft.host.rounds import Rounds
from shardraft.host.voter import Voter
from shardraft.kv.machine import Machine, MachineState
from shardraft.raft.core import Raft
from shardraft.raft.log import RaftLog
from shardraft.raft.membership import UNKNOWN, decode_membership, encode_membership
from shardraft.raft.ready import HardState
from shardraft.shards.shard_map import Shard, ShardMap
from shardraft.types import HostId


def first_state(shard: Shard, epoch: int) -> MachineState:
    """The state of a shard of the map before anything is applied; its configuration is the map's."""
    return _with_membership(MachineState(shard.shard, shard.key_range, epoch), shard)


def shards_kept_on(shard_map: ShardMap, host: HostId) -> tuple[Shard, ...]:
    """The shards of the map that belong on a host: on a voter host those it is a member of, on a learner all."""
    if all(place.host != host for place in shard_map.hosts):
        return shard_map.shards
    return shard_map.shards_on(host)


def _with_membership(state: MachineState, shard: Shard) -> MachineState:
    """``state`` with the configuration that the shard began with, if it knows none (an earlier program wrote it)."""
    if state.membership:
        return state
    members = shard.membership.members
    return attrs.evolve(
        state,
        membership=encode_membership(shard.membership),
        last_replica=max(state.last_replica, members[-1].replica),
    )


class ReplicaMaker:
    """Makes the replicas of one host. ``random`` is the host's; every voter gets randomness of its own from it."""

    def __init__(
        self,
        host: HostId,
        config: HostConfig,
        store: Store,
        codec: Codec,
        random: Random,
        rounds: Rounds,
        pending: PendingRequests,
        outbox: Outbox,
    ) -> None:
        self._host = host
        self._config = config
        self._store = store
        self._codec = codec
        self._random = random
        self._rounds = rounds
        self._pending = pending
        self._outbox = outbox

    def voter(self, shard: Shard, stored: RecoveredShard, now_us: int, slot_bytes: int) -> Voter:
        """A member of the group of ``shard``, which is as the map says.

        The configuration is the applied state's: the map may be older, and the entry that brought it compacted.
        A replica that came to a running group knows none until its leader tells it.
        """
        config = self._config
        state = stored.state if stored.replica else _with_membership(stored.state, shard)
        membership = decode_membership(state.membership) if state.membership else UNKNOWN
        raft = Raft(
            shard=shard.shard,
            replica=stored.replica or shard.membership.replica_on(self._host),
            membership=membership,
            membership_index=state.last_applied,
            log=self._log_of(stored),
            hard_state=_hard_state_of(stored),
            config=config.raft,
            random=Random(self._random.getrandbits(64)),
            now_us=now_us,
            time_us=state.time_us,
            preferred=shard.membership.voters[0],  # The map's first voters take turns, so leaders spread evenly.
            contact_of=self._rounds.contact_of,
        )
        machine = Machine(state, self._store, config.limits)
        return Voter(raft, machine, self._codec, config, self._pending, self._outbox, now_us, slot_bytes)

    def learner(self, stored: RecoveredShard) -> LearnerReplica:
        """A replica outside the group, which follows a parent."""
        limits = self._config.limits
        machine = Machine(stored.state, self._store, limits)
        return LearnerReplica(stored.shard, self._log_of(stored), machine, self._codec, limits, self._pending)

    def _log_of(self, stored: RecoveredShard) -> RaftLog:
        cache_bytes_max = self._config.raft.log_cache_bytes_max
        return RaftLog(stored.shard, self._store, stored.log, cache_bytes_max=cache_bytes_max)


def _hard_state_of(stored: RecoveredShard) -> HardState:
    """The recovered hard state; what was flushed was committed, even where the commit index was not yet written."""
    commit_index = max(stored.hard_state.commit_index, stored.state.last_applied)
    return attrs.evolve(stored.hard_state, commit_index=commit_index)
