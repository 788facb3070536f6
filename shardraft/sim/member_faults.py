"""What an operator does while everything breaks: voters come, go and are replaced, and leaders are moved.

A group is never made smaller than three voters: with fewer, one host that lost its newest disk could be a
majority by itself, and no protocol knows better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shardraft.sim.disk_faults import Schedule
from shardraft.sim.leader_faults import LeaderFaults
from shardraft.sim.network import both_ways
from shardraft.sim.process import Process
from shardraft.types import HostId, Membership, ShardId

_VOTERS_MIN: Final = 3
_AT_ONCE_MAX: Final = 2
"""So many voters join or leave with one change, at the most."""
_STRANDED_AFTER_US_MAX: Final = 4_000
_UNHEARD_AFTER_US_MAX: Final = 500
"""An entry has reached nobody by then, or not yet all."""
_EVEN_AFTER_US: Final = (300_000, 1_000_000)
_HEIR_WITHIN_US: Final = 3_000_000


class MemberFaults:
    """The kinds of changes that an operator asks for; each returns False when there was nobody to ask or to change."""

    def __init__(self, schedule: Schedule, leaders: LeaderFaults) -> None:
        self._schedule = schedule
        self._leaders = leaders
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
            self._change_several_members,
            self._remove_twice,
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
        self._schedule.later((1, _STRANDED_AFTER_US_MAX), lambda: self._leaders.leave_alone(leader))
        return asked

    def _transfer_leadership(self) -> bool:
        shard = self._shard()
        host = self._schedule.random.choice(self._voters(shard))
        self._world.note(f"shard {shard}: host {host} is to lead")
        return self._world.operator.transfer(shard, host) is not None

    def _change_several_members(self) -> bool:
        """Two voters or more change at once, whatever mixture: that takes a joint configuration."""
        random, shard = self._schedule.random, self._shard()
        outsiders, voters = self._outsiders(shard), self._voters(shard)
        counts = [
            (join, leave)
            for join in range(min(_AT_ONCE_MAX, len(outsiders)) + 1)
            for leave in range(min(_AT_ONCE_MAX, len(voters) + join - _VOTERS_MIN) + 1)
            if join + leave > 1
        ]
        if not counts:
            return False
        join, leave = random.choice(counts)
        joins, leaves = random.sample(outsiders, join), random.sample(voters, leave)
        self._world.note(f"shard {shard}: hosts {joins} are to join, hosts {leaves} to leave")
        return self._world.operator.change_several(shard, joins, leaves)

    def _remove_twice(self) -> bool:
        """A leader is asked to remove a voter and cut off at once, and its successor is asked to remove another.

        Of an even number of voters, majorities without the one and without the other need not overlap. So an
        odd number is made even before.
        """
        shard = self._shard()
        voters, outsiders = self._voters(shard), self._outsiders(shard)
        if len(voters) % 2 == 0:
            return self._begin_removals(shard)
        if len(voters) > _VOTERS_MIN:
            asked = self._change(shard, [], voters)
        else:
            asked = bool(outsiders) and self._change(shard, outsiders, [])
        self._schedule.later(_EVEN_AFTER_US, lambda: self._begin_removals(shard))
        return asked

    def _begin_removals(self, shard: ShardId) -> bool:
        leader = self._world.leader_of(shard)
        if leader is None or not self._may_shrink(leader, shard):
            return False
        asked = self._change(shard, [], [host for host in self._voters(shard) if host != leader.node])
        self._schedule.later((1, _UNHEARD_AFTER_US_MAX), lambda: self._strand(leader))
        self._leaders.await_leader(lambda heir: self._heir_removes(heir, shard), _HEIR_WITHIN_US)
        return asked

    def _may_shrink(self, process: Process, shard: ShardId) -> bool:
        """Whether enough voters would be left in the configuration that ``process`` goes by."""
        assert process.host is not None
        return len(process.host.voters[shard].raft.membership.voters) > _VOTERS_MIN

    def _strand(self, process: Process) -> None:
        others = [other.node for other in self._world.voters() if other is not process]
        for other in others:
            self._world.peers.reset(other, process.node)
        self._schedule.cut(f"strand {process.node}", both_ways([process.node], others), (500_000, 2_000_000))

    def _heir_removes(self, heir: Process, shard: ShardId) -> bool:
        """The successor is told as soon as it leads, and somebody who may have elected it hears no more of it."""
        if self._world.leader_of(shard) is not heir:
            return False  # It has become leader of another shard.
        others = [host for host in self._voters(shard) if host != heir.node]
        if self._may_shrink(heir, shard):
            self._change(shard, [], others)
            missed = self._schedule.random.choice(others)
            directions = both_ways([heir.node], [missed])
            self._schedule.cut(f"{missed} does not hear {heir.node}", directions, (100_000, 1_000_000))
        return True
