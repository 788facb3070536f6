"""Who the members of each group are, by what is committed, and whether enough of them hold an entry (section 6).

An entry that counts as committed must be held by a majority, and no host that lacks it may be able to win an
election: that is *leader completeness*, foreseen (``electable``). Nothing else shows an entry of an earlier term
that was committed by counting, or a majority of a configuration that another one does not overlap, until
everything that has to go wrong afterwards has gone wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import attrs

from shardraft.host.voter import Voter
from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.membership import UNKNOWN, decode_membership
from shardraft.shards.shard_map import ShardMap
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.store import SimStore
from shardraft.types import NO_REPLICA, HostId, Index, Membership, ReplicaId, ShardId, Term

_Holder: TypeAlias = tuple[ReplicaId, HostId]
"""A replica and the host that it lies on: a number alone names nobody (``_is_quorum``)."""

_decode = lru_cache(maxsize=256)(decode_membership)
"""Every host keeps the same few configurations; equal bytes are an equal value, and nobody can change it."""


@attrs.frozen(slots=True)
class _Standing:
    """What a host would start from, if everything ended now: where its log ends, and whether the entry is in it."""

    holder: _Holder
    last: tuple[Term, Index]
    holds: bool


class Members:
    """The configurations of each shard, and what lies on the disks of its members."""

    def __init__(self, shard_map: ShardMap, stores: Mapping[HostId, SimStore]) -> None:
        self._committed: dict[ShardId, list[tuple[Index, Membership]]] = {
            shard.shard: [(0, shard.membership)] for shard in shard_map.shards
        }
        self._written: defaultdict[ShardId, list[tuple[Index, Term, Membership]]] = defaultdict(list)
        """Every configuration that ever lay on a disk, by the place of its entry."""
        self._stores = stores
        self.changes = 0
        """How many configurations were committed."""

    def committed(self, shard: ShardId) -> Membership:
        """The configuration that the last committed entry about it brought."""
        return self._committed[shard][-1][1]

    def written(self, shard: ShardId, entry: Entry) -> None:
        """``entry`` lies on a disk, for the first time."""
        if entry.kind == EntryKind.MEMBERSHIP:
            self._written[shard].append((entry.index, entry.term, _decode(entry.payload)))
            self._written[shard].sort(key=lambda written: written[0], reverse=True)

    def apply(self, shard: ShardId, entry: Entry) -> None:
        """``entry`` is committed."""
        if entry.kind == EntryKind.MEMBERSHIP:
            self._committed[shard].append((entry.index, _decode(entry.payload)))
            self.changes += 1

    # What a replica goes by.

    def check_configuration(self, host: HostId, voter: Voter, index: Index) -> None:
        """What ``voter`` takes for the configuration at its commit index is the one that is committed there.

        A new replica knows none before it gets the first entry, or a copy, that tells one.
        """
        history = self._committed[voter.shard]
        since, committed = history[-1]
        if since > index:
            since, committed = history[bisect_right(history, index, key=lambda change: change[0]) - 1]
        known = voter.raft.configurations.at(index)
        if known != committed and (since > 0 or known != UNKNOWN):
            raise SimulationFailure(
                f"configuration: host {host}, shard {voter.shard}: goes by {known} at {index}, and the configuration"
                f" that is committed there is {committed}"
            )

    # What counts as committed.

    def check_majority(self, host: HostId, voter: Voter, index: Index) -> None:
        """``voter`` may count the entry at ``index`` as committed, by what lies on disks.

        An entry is counted under the configuration that the leader has by then: the one in effect at the entry
        or a later one, and a joint one takes a majority of each half.
        """
        shard, term = voter.shard, voter.log.term_at(index)
        configurations = voter.raft.configurations.since(index)
        standings = self._standings(shard, index, term)
        held = {standing.holder for standing in standings if standing.holds}
        entry = f"host {host}, shard {shard}: entry {index} of term {term} counts as committed"
        if not any(_is_quorum(membership, held) for membership in configurations):
            hosts = sorted(host for _, host in held)
            raise SimulationFailure(f"{entry} but lies on the disks of hosts {hosts} only")
        for standing in standings:
            if not standing.holds and self._is_electable(standing, standings, shard):
                raise SimulationFailure(f"{entry}, and host {standing.holder[1]} could be elected without it")

    def _is_electable(self, candidate: _Standing, standings: list[_Standing], shard: ShardId) -> bool:
        """Whether enough logs of voters, by the candidate's own configuration, are no more up to date (5.4.1)."""
        backers = {standing.holder for standing in standings if standing.last <= candidate.last}
        return _is_quorum(self._configuration_on(candidate.holder[1], shard), backers)

    def _standings(self, shard: ShardId, index: Index, term: Term | None) -> list[_Standing]:
        """The standing of every host that holds a replica of the shard, member or not, by host."""
        return [
            _standing((replica, host), store, shard, index, term)
            for host, store in self._stores.items()
            if (replica := store.replicas.get(shard, NO_REPLICA))
        ]

    def _configuration_on(self, host: HostId, shard: ShardId) -> Membership:
        """The configuration that a host would go by, if it started from its disk now."""
        log, state = self._stores[host].logs[shard], self._stores[host].states[shard].state
        if log.term_at(state.last_applied) == state.last_applied_term:
            for index, term, membership in self._written[shard]:
                if index >= log.first_index and log.term_at(index) == term:
                    return membership
        if state.membership:
            return _decode(state.membership)
        initial = self._committed[shard][0][1]
        return initial if initial.replica_on(host) == self._stores[host].replicas[shard] else UNKNOWN


def _standing(holder: _Holder, store: SimStore, shard: ShardId, index: Index, term: Term | None) -> _Standing:
    """A compacted entry is held in the state, and so is every one that a copy holds whose log is not yet reset."""
    log, state = store.logs[shard], store.states[shard].state
    if log.term_at(state.last_applied) != state.last_applied_term:
        return _Standing(holder, (state.last_applied_term, state.last_applied), index <= state.last_applied)
    last = (log.terms[-1] if log.terms else log.previous_term, log.last_index)
    return _Standing(holder, last, index < log.first_index or log.term_at(index) == term)


def _is_quorum(membership: Membership, agreed: set[_Holder]) -> bool:
    """Whether those who ``agreed`` are a majority of each half. Deliberately none of the product's own arithmetic.

    A number alone names nobody: an addition that was truncated may have left a replica on another host.
    """
    agreeing = {member.replica for member in membership.members if (member.replica, member.host) in agreed}
    outgoing = membership.voters_outgoing
    return _is_majority(membership.voters, agreeing) and (not outgoing or _is_majority(outgoing, agreeing))


def _is_majority(voters: tuple[ReplicaId, ...], agreeing: set[ReplicaId]) -> bool:
    return 2 * len(agreeing.intersection(voters)) > len(voters)
