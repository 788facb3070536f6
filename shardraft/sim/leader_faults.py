"""What befalls whoever leads, and those who are about to: the constellations that Raft's rules are made for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shardraft.host.events import StopAsked
from shardraft.sim.disk import SimDisk
from shardraft.sim.disk_faults import Schedule
from shardraft.sim.network import LinkQuality, Node, both_ways
from shardraft.sim.process import Process
from shardraft.types import ShardId

_LONELY_AFTER_US_MAX: Final = (300, 2_500)
"""A new leader has reached nobody by then, or it may have reached one and not another, or opened its term."""


class LeaderFaults:
    """The kinds of faults that look for a leader, now or when one is elected; False when nobody leads.

    Whoever wants to hear of new leaders says so with ``await_leader``.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._world = schedule.world
        self._short_reigns = self._lonely_reigns = False
        self._alone: list[Node] = []
        self._awaiting: list[Callable[[Process], bool]] = []
        self._world.on_elected = self._elected
        self.kinds: tuple[Callable[[], bool | None], ...] = (
            self._crash_leader,
            self._depose_leader,
            self._silence_leader,
            self._shorten_reigns,
            self._cut_new_leaders,
            self._stop_leader,
            self._restart_followers,
            self._keep_one_follower,
            self._bring_back_leader,
        )

    def _hosts(self) -> list[Node]:
        return [process.node for process in self._world.voters()]

    def _others(self, host: Node) -> list[Node]:
        return [other for other in self._hosts() if other != host]

    def _leader(self) -> Process | None:
        leaders = [leader for shard in self._world.shard_map.shards if (leader := self._world.leader_of(shard.shard))]
        return self._schedule.random.choice(leaders) if leaders else None

    def await_leader(self, meets: Callable[[Process], bool], us_max: int) -> None:
        """Ask ``meets`` about each process that becomes leader of anything, until it says True or time is up."""
        self._awaiting.append(meets)
        self._schedule.later((us_max, us_max + 1), lambda: self._await_no_more(meets))

    def _await_no_more(self, meets: Callable[[Process], bool]) -> None:
        self._awaiting = [other for other in self._awaiting if other is not meets]

    def _elected(self, process: Process) -> None:
        """The world says that ``process`` has become a leader."""
        schedule = self._schedule
        if not schedule.is_running:
            return
        if self._short_reigns and schedule.random.random() < 0.7:
            schedule.later((50, 20_000), lambda: schedule.crash(process))
        if self._lonely_reigns:
            schedule.later((1, schedule.random.choice(_LONELY_AFTER_US_MAX)), lambda: self.leave_alone(process))
        self._awaiting = [meets for meets in self._awaiting if not meets(process)]

    # Leaders that end.

    def _crash_leader(self) -> bool:
        leader = self._leader()
        if leader is not None:
            self._schedule.crash(leader)
        return leader is not None

    def _shorten_reigns(self) -> None:
        """For a while, whoever becomes leader crashes soon after (Figure 8)."""
        self._world.note("short reigns")
        self._short_reigns = True
        self._schedule.later((500_000, 3_000_000), self._end_short_reigns)

    def _end_short_reigns(self) -> None:
        self._short_reigns = False

    def _stop_leader(self) -> bool:
        """A host hands over what it leads and ends a moment later, often before that is done.

        It may be cut off before it hears who took over.
        """
        schedule, leader = self._schedule, self._leader()
        if leader is not None:
            self._world.note(f"{leader.node} is asked to stop")
            leader.take(StopAsked)
            if schedule.random.random() < 0.5:
                schedule.later((200, 3_000), lambda: self.leave_alone(leader))
            schedule.later((100, 1_500_000), lambda: schedule.crash(leader))
        return leader is not None

    # Leaders that do not know that others lead.

    def _depose_leader(self) -> bool:
        """A leader is cut off from its peers alone, and they hear at once that their connections closed.

        They elect another while it still believes that it leads, and clients reach both. Sometimes it is
        heard no more but still hears, late, what they said before.
        """
        schedule, leader = self._schedule, self._leader()
        if leader is None:
            return False
        host, others = leader.node, self._others(leader.node)
        outward, inward = [(host, other) for other in others], [(other, host) for other in others]
        if schedule.random.random() < 0.5:
            self._depose(host, others, outward + inward)
            return True
        for direction in inward:
            quality = LinkQuality(delay_us=schedule.random.randrange(50_000, 500_000), jitter_us=1_000)
            self._world.network.special[direction] = quality
        schedule.later((100_000, 700_000), lambda: self._depose(host, others, outward))
        return True

    def _depose(self, host: Node, others: list[Node], directions: list[tuple[Node, Node]]) -> None:
        self._reset(host, others)
        self._schedule.cut(f"depose {host}", directions, (100_000, 2_500_000))
        self._schedule.later((500_000, 2_500_000), lambda: self._good_links(host))

    def _reset(self, host: Node, others: list[Node]) -> None:
        """The others hear at once that their connections to ``host`` closed; it hears that later."""
        for other in others:
            self._world.peers.reset(other, host)

    def _good_links(self, host: Node) -> None:
        for other in self._hosts():
            self._world.network.special.pop((other, host), None)

    def _silence_leader(self) -> bool:
        """A leader falls silent, and the others notice that its connections are dead when they have elected another.

        Its successor, who never heard of it in this office, begins with its log from the start; and clients gave
        it more to write meanwhile.
        """
        leader = self._leader()
        if leader is None or not self._others(leader.node):
            return False
        host, others = leader.node, self._others(leader.node)
        self._schedule.cut(f"silence {host}", both_ways([host], others), (1_100_000, 2_500_000))
        self._schedule.later((900_000, 1_100_000), lambda: self._reset(host, others))
        return True

    def _restart_followers(self) -> bool:
        """All hosts but a leader's lose their power for a moment, and that one is cut off from them meanwhile.

        Nothing that they promised before may be forgotten: its lease rests on them. The preferred leader
        stands for election first after its start, so it is to be one of them.
        """
        shard = self._schedule.random.choice(self._world.shard_map.shards).shard
        leader = self._world.leader_of(shard)
        if leader is None or leader.host is None or not self._others(leader.node):
            return False
        raft = leader.host.voters[shard].raft
        if raft.preferred != raft.replica:
            self._restart(shard)
            return True
        successor = self._schedule.random.choice(self._others(leader.node))
        self._world.note(f"shard {shard}: host {successor} is to lead, and the others are to start over")
        self._world.operator.transfer(shard, successor)
        self._schedule.later((50_000, 300_000), lambda: self._restart(shard))
        return True

    def _restart(self, shard: ShardId) -> None:
        leader = self._world.leader_of(shard)
        if leader is None:
            return
        others = [process for process in self._world.voters() if process is not leader]
        for process in others:
            self._schedule.crash(process, down_us=(500, 30_000))
        directions = both_ways([leader.node], [process.node for process in others])
        self._schedule.cut(f"cut {leader.node} off while its followers restart", directions, (400_000, 2_000_000))

    # Leaders whom few hear.

    def _bring_back_leader(self) -> bool:
        """A leader is cut off, then its successor as soon as it leads; so the first may lead again (Figure 8).

        The one has entries of its own by then, the other the one that opens its term, and nobody else has either.
        """
        leader = self._leader()
        if leader is None or not self._others(leader.node):
            return False
        host, others = leader.node, self._others(leader.node)
        if self._schedule.random.random() < 0.5:
            self._reset(host, others)
        directions = both_ways([host], others)
        self._schedule.cut(f"cut {host} off, until another leads", directions, (1_500_000, 3_000_000))
        self.await_leader(lambda successor: self._swap(host, successor), 1_500_000)
        return True

    def _swap(self, host: Node, successor: Process) -> bool:
        if successor.node == host:
            return False
        others = self._others(successor.node)
        self._reset(successor.node, others)
        self._schedule.cut(f"cut {successor.node} off", both_ways([successor.node], others), (1_500_000, 2_500_000))
        self._schedule.uncut(both_ways([host], [other for other in others if other != host]))
        return True

    def _keep_one_follower(self) -> bool:
        """A leader is cut off from all but one, whose log is slow.

        Where the others can elect another without that one, it is told to overwrite what it has not written yet;
        and, since its new leader hears nothing of it before that is written, once more after a short interruption.
        """
        schedule, leader = self._schedule, self._leader()
        if leader is None or not self._others(leader.node):
            return False
        others = self._others(leader.node)
        kept = schedule.random.choice(others)
        others.remove(kept)
        disk = self._world.processes[kept].disk
        disk.log_slowness = schedule.random.choice((200, 400, 1_000))
        schedule.cut(f"{leader.node} keeps {kept}", both_ways([leader.node], others), (800_000, 2_000_000))
        schedule.later((1_200_000, 2_500_000), lambda: self._hasten(disk))
        self.await_leader(lambda successor: self._interrupt(successor.node, kept), 1_500_000)
        return True

    def _interrupt(self, host: Node, other: Node) -> bool:
        for after_us in (50_000, 200_000) if host != other else ():
            self._schedule.later((after_us, 2 * after_us), lambda: self._interrupt_once(host, other))
        return host != other

    def _interrupt_once(self, host: Node, other: Node) -> None:
        self._reset(host, [other])
        self._schedule.cut(f"interrupt {host} and {other}", both_ways([host], [other]), (1_000, 10_000))

    def _hasten(self, disk: SimDisk) -> None:
        disk.log_slowness = 1

    def _cut_new_leaders(self) -> None:
        """For a while, whoever leads is soon cut off: logs end in entries of several terms (Figure 8)."""
        self._world.note("lonely reigns")
        self._lonely_reigns = True
        leader = self._leader()
        if leader is not None:
            self.leave_alone(leader)
        self._schedule.later((1_000_000, 5_000_000), self._end_lonely_reigns)

    def _end_lonely_reigns(self) -> None:
        self._lonely_reigns = False

    def leave_alone(self, process: Process) -> None:
        """Cut a host off from most others, and let those hear of it at once or not."""
        schedule, host = self._schedule, process.node
        others = [other for other in self._hosts() if other != host and schedule.random.random() < 0.8]
        if schedule.random.random() < 0.5:
            self._reset(host, others)
        self._world.note(f"leave {host} alone")
        self._world.cut(both_ways([host], others))
        self._alone.append(host)
        schedule.later((50_000, 1_500_000), lambda: self._end_alone(host))

    def _end_alone(self, host: Node) -> None:
        """It is connected again, but not to those that are alone themselves."""
        self._alone.remove(host)
        reached = [other for other in self._hosts() if other != host and other not in self._alone]
        self._schedule.uncut(both_ways([host], reached))
