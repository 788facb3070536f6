"""Who the members of each group are, by what is committed, and whether enough of them hold an entry (section 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shardraft.host.voter import Voter
from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.membership import decode_membership
from shardraft.shards.shard_map import ShardMap
from shardraft.sim.store import SimStore
from shardraft.types import HostId, Index, Membership, ReplicaId, ShardId, Term


class Members:
    """The latest committed configuration of each shard, and what lies on the disks of its members."""

    def __init__(self, shard_map: ShardMap, stores: Mapping[HostId, SimStore]) -> None:
        self._committed = {shard.shard: shard.membership for shard in shard_map.shards}
        self._stores = stores
        self.changes = 0
        """How many configurations were committed."""

    def committed(self, shard: ShardId) -> Membership:
        """The configuration that the last committed entry about it brought."""
        return self._committed[shard]

    def apply(self, shard: ShardId, entry: Entry) -> None:
        """``entry`` is committed."""
        if entry.kind == EntryKind.MEMBERSHIP:
            self._committed[shard] = decode_membership(entry.payload)
            self.changes += 1

    def agree(self, voter: Voter, index: Index, term: Term | None) -> bool:
        """May ``voter`` count the entry at ``index`` as committed, by what lies on disks?

        An entry is counted under the configuration that the leader has by then: the one in effect at the entry
        or a later one, and a joint one takes a majority of each half.
        """
        configurations = voter.raft.configurations.since(index)
        return any(self._is_held(membership, voter.shard, index, term) for membership in configurations)

    def holders(self, voter: Voter, index: Index, term: Term | None) -> list[HostId]:
        """The hosts of members, present or former, whose disks hold the entry."""
        members = {member for each in voter.raft.configurations.since(index) for member in each.members}
        return sorted(
            member.host
            for member in members
            if _holds(self._stores[member.host], voter.shard, member.replica, index, term)
        )

    def _is_held(self, membership: Membership, shard: ShardId, index: Index, term: Term | None) -> bool:
        def is_majority(replicas: Iterable[ReplicaId]) -> bool:
            held = [
                _holds(self._stores[membership.host_of(replica)], shard, replica, index, term) for replica in replicas
            ]
            return 2 * sum(held) > len(held)

        outgoing = membership.voters_outgoing
        return is_majority(membership.voters) and (not outgoing or is_majority(outgoing))


def _holds(store: SimStore, shard: ShardId, replica: ReplicaId, index: Index, term: Term | None) -> bool:
    """Does the disk hold that entry, in that replica? A compacted one is held in the state."""
    if store.replicas.get(shard) != replica:
        return False
    log = store.logs[shard]
    return index < log.first_index or log.term_at(index) == term
