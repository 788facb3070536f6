"""What an operator does while everything breaks: voters come, go and are replaced, and leaders are moved.

A group is never made smaller than three voters: with fewer, one host that lost its newest disk could be a
majority by itself, and no protocol knows better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shardraft.sim.disk_faults import Schedule
from shardraft.types import HostId, Membership, ShardId

_VOTERS_MIN: Final = 3
_STRANDED_AFTER_US_MAX: Final = 4_000


class MemberFaults:
    """The kinds of changes that an operator asks for; each returns False when there was nobody to ask or to change."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._world = schedule.world
        self.kinds: tuple[Callable[[], bool | None], ...] = (
            self._add_member,
            self._remove_member,
            self._remove_leading_member,
            self._replace_member,
            self._replace_dead_member,
            self._give_up_change,
            self._strand_change,
            self._transfer_leadership,
        )

    def _shard(self) -> ShardId:
        return self._schedule.random.choice(self._world.shard_map.shards).shard

    def _members(self, shard: ShardId) -> Membership:
        return self._world.invariants.members.committed(shard)

    def _voters(self, shard: ShardId) -> list[HostId]:
        membership = self._members(shard)
        return [membership.host_of(replica) for replica in membership.voters]

    def _outsiders(self, shard: ShardId) -> list[HostId]:
        membership = self._members(shard)
        return [process.node for process in self._world.voters() if not membership.replica_on(process.node)]

    def _change(self, shard: ShardId, add: list[HostId], remove: list[HostId]) -> bool:
        """Ask for one of ``add`` to come and one of ``remove`` to go, where there are any."""
        choice = self._schedule.random.choice
        joins, leaves = choice(add) if add else 0, choice(remove) if remove else 0
        self._world.note(f"shard {shard}: host {joins or 'none'} is to join, host {leaves or 'none'} to leave")
        return self._world.operator.change_members(shard, add=joins, remove=leaves) is not None

    def _add_member(self) -> bool:
        shard = self._shard()
        outsiders = self._outsiders(shard)
        return bool(outsiders) and self._change(shard, outsiders, [])

    def _remove_member(self) -> bool:
        shard = self._shard()
        voters = self._voters(shard)
        return len(voters) > _VOTERS_MIN and self._change(shard, [], voters)

    def _remove_leading_member(self) -> bool:
        shard = self._shard()
        leader = self._world.leader_of(shard)
        return leader is not None and len(self._voters(shard)) > _VOTERS_MIN and self._change(shard, [], [leader.node])

    def _replace_member(self) -> bool:
        shard = self._shard()
        outsiders = self._outsiders(shard)
        return bool(outsiders) and self._change(shard, outsiders, self._voters(shard))

    def _replace_dead_member(self) -> bool:
        """The usual reason for a change: a host died. Here it comes back some time, and must not disturb."""
        shard = self._shard()
        outsiders, processes = self._outsiders(shard), self._world.processes
        leader = self._world.leader_of(shard)
        voters = [host for host in self._voters(shard) if leader is None or host != leader.node]
        if not outsiders or not voters or leader is None:
            return False
        dead = self._schedule.random.choice(voters)
        self._schedule.crash(processes[dead])
        return self._change(shard, outsiders, [dead])

    def _give_up_change(self) -> bool:
        """Whoever is staging is to leave again."""
        for shard in self._world.shard_map.shards:
            membership = self._members(shard.shard)
            if membership.staging:
                hosts = [membership.host_of(replica) for replica in membership.staging]
                return self._change(shard.shard, [], hosts)
        return False

    def _strand_change(self) -> bool:
        """A leader is asked for a change and soon cut off: its entry may have reached some, or nobody."""
        shard = self._shard()
        leader, outsiders = self._world.leader_of(shard), self._outsiders(shard)
        if leader is None or not outsiders:
            return False
        asked = self._change(shard, outsiders, self._voters(shard))
        self._schedule.later((1, _STRANDED_AFTER_US_MAX), lambda: self._schedule.leave_alone(leader))
        return asked

    def _transfer_leadership(self) -> bool:
        shard = self._shard()
        host = self._schedule.random.choice(self._voters(shard))
        self._world.note(f"shard {shard}: host {host} is to lead")
        return self._world.operator.transfer(shard, host) is not None
