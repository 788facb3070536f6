"""What breaks, and when: a schedule drawn from the seed.

Each world draws which kinds of faults it has at all, so that some worlds see many faults of one
kind and others a few of each, unless its options name them. Every fault ends by itself after a while,
and any number of hosts may be down at once: disks survive, so everything is recoverable once all is healed.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from shardraft.host.events import StopAsked
from shardraft.sim.crash_points import OF_A_COPY, CrashPoint, Point
from shardraft.sim.disk_faults import DiskFaults
from shardraft.sim.kinds import Fault, name_of, named
from shardraft.sim.member_faults import MemberFaults
from shardraft.sim.network import LinkQuality, Node
from shardraft.sim.process import Process
from shardraft.sim.world import World

_BETWEEN_US: Final = (50_000, 2_500_000)
"""The wait from one fault to the next; several may be under way."""
_KINDS_MIN: Final = 3
_LONELY_AFTER_US_MAX: Final = (300, 2_500)
"""A new leader has reached nobody by then, or it may have reached one and not another, or opened its term."""


class Faults:
    """Breaks things in a world until told to stop.

    Faults are numbered from 1, whether they are left out (``only_faults``) or not, and each draws from
    randomness of its own: the others are what they were without it. ``struck`` is the highest number so far;
    ``by_kind`` counts those that broke something. ``random`` is that of the last one.
    """

    def __init__(self, world: World) -> None:
        self.count = 0
        self.struck = 0
        self.by_kind: dict[str, int] = {}
        self.world = self._world = world
        self._only = world.options.only_faults
        self._when = Random(world.random.getrandbits(64))
        self._seed = world.random.getrandbits(64)
        self.random = world.random
        self._running = False
        self._short_reigns = self._lonely_reigns = False
        self._alone: list[Node] = []
        world.on_elected = self.leader_elected
        self._kinds = self._choose_kinds()

    def _choose_kinds(self) -> list[Fault]:
        kinds, names = self.kinds(), self._world.options.kinds
        if names is not None:
            return named(kinds, names)
        return self.random.sample(kinds, self.random.randint(_KINDS_MIN, len(kinds)))

    def kinds(self) -> list[Fault]:
        """Every kind of fault that this world can have."""
        kinds: list[Fault] = [
            self._crash_leader,
            self._depose_leader,
            self._shorten_reigns,
            self._cut_new_leaders,
            self._crash_any,
            self._stop_leader,
            self._restart_followers,
            self._crash_at_point,
            self._crash_in_copy,
            self._crash_all,
            self._isolate,
            self._split,
            self._cut_one_way,
            self._cut_between_two,
            self._flap,
            self._worsen_network,
            self._slow_link,
            self._pause,
            self._cut_client,
            *DiskFaults(self).kinds,
        ]
        if self._world.options.spares:
            kinds += MemberFaults(self).kinds
        if self._world.learners():
            kinds += [self._crash_learner, self._cut_learner]
        return kinds

    def start(self) -> None:
        """Break something soon, and go on."""
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """Begin nothing more."""
        self._running = False

    def _schedule(self) -> None:
        self._world.agenda.after(self._when.randrange(*_BETWEEN_US), self._strike)

    def _strike(self) -> None:
        if not self._running:
            return
        self.struck += 1
        if self._only is None or self.struck in self._only:
            self.count += 1
            self.random = Random(self._seed + self.struck)
            fault = self.random.choice(self._kinds)
            name = name_of(fault)
            self._world.note(f"fault {self.struck}: {name}")
            if fault() is not False:
                self.by_kind[name] = self.by_kind.get(name, 0) + 1
        self._schedule()

    def later(self, between_us: tuple[int, int], action: Callable[[], object]) -> None:
        """Do ``action``, the end of a fault, after a while; healing may have been faster."""
        self._world.agenda.after(self.random.randrange(*between_us), self._end, action)

    def _end(self, action: Callable[[], object]) -> None:
        if self._running:
            action()

    # Crashes.

    def crash(self, process: Process, down_us: tuple[int, int] = (20_000, 4_000_000)) -> None:
        """Kill a process, and start it again after a while."""
        if process.is_up:
            self._world.crash(process.node)
        self.later(down_us, lambda: self.start_again(process))

    def start_again(self, process: Process) -> None:
        """Start a process that is down."""
        if not process.is_up:
            self._world.start_process(process.node)

    def _crash_leader(self) -> bool:
        leader = self._leader()
        if leader is not None:
            self.crash(leader)
        return leader is not None

    def _leader(self) -> Process | None:
        leaders = [leader for shard in self._world.shard_map.shards if (leader := self._world.leader_of(shard.shard))]
        return self.random.choice(leaders) if leaders else None

    def _depose_leader(self) -> bool:
        """A leader is cut off from its peers alone, and they hear at once that their connections closed.

        They elect another while it still believes that it leads, and clients reach both. Sometimes it is
        heard no more but still hears, late, what they said before.
        """
        leader = self._leader()
        if leader is None:
            return False
        host = leader.node
        others = [other for other in self._hosts() if other != host]
        outward, inward = [(host, other) for other in others], [(other, host) for other in others]
        if self.random.random() < 0.5:
            self._depose(host, others, outward + inward)
            return True
        for direction in inward:
            quality = LinkQuality(delay_us=self.random.randrange(50_000, 500_000), jitter_us=1_000)
            self._world.network.special[direction] = quality
        self.later((100_000, 700_000), lambda: self._depose(host, others, outward))
        return True

    def _depose(self, host: Node, others: list[Node], directions: list[tuple[Node, Node]]) -> None:
        for other in others:
            self._world.peers.reset(other, host)
        self._cut(f"depose {host}", directions, (100_000, 2_500_000))
        self.later((500_000, 2_500_000), lambda: self._good_links(host))

    def _restart_followers(self) -> bool:
        """All hosts but a leader's lose their power for a moment, and that one is cut off from them meanwhile.

        Nothing that they promised before may be forgotten: its lease rests on them.
        """
        leader = self._leader()
        if leader is None:
            return False
        others = [process for process in self._world.voters() if process is not leader]
        for process in others:
            self.crash(process, down_us=(10_000, 100_000))
        directions = _both_ways([leader.node], [process.node for process in others])
        self._cut(f"cut {leader.node} off while its followers restart", directions, (400_000, 2_000_000))
        return True

    def _good_links(self, host: Node) -> None:
        for other in self._hosts():
            self._good_link(other, host)

    def _shorten_reigns(self) -> None:
        """For a while, whoever becomes leader crashes soon after (Figure 8)."""
        self._world.note("short reigns")
        self._short_reigns = True
        self.later((500_000, 3_000_000), self._end_short_reigns)

    def _end_short_reigns(self) -> None:
        self._short_reigns = False

    def leader_elected(self, process: Process) -> None:
        """The world says that ``process`` has become a leader."""
        if self._short_reigns and self._running and self.random.random() < 0.7:
            self._world.agenda.after(self.random.randrange(50, 20_000), self._end, lambda: self.crash(process))
        if self._lonely_reigns and self._running:
            self.later((1, self.random.choice(_LONELY_AFTER_US_MAX)), lambda: self.leave_alone(process))

    def _cut_new_leaders(self) -> None:
        """For a while, whoever leads is soon cut off: logs end in entries of several terms (Figure 8)."""
        self._world.note("lonely reigns")
        self._lonely_reigns = True
        leader = self._leader()
        if leader is not None:
            self.leave_alone(leader)
        self.later((1_000_000, 5_000_000), self._end_lonely_reigns)

    def _end_lonely_reigns(self) -> None:
        self._lonely_reigns = False

    def leave_alone(self, process: Process) -> None:
        """Cut a host off from most others, and let those hear of it at once or not."""
        host = process.node
        others = [other for other in self._hosts() if other != host and self.random.random() < 0.8]
        if self.random.random() < 0.5:
            for other in others:
                self._world.peers.reset(other, host)
        self._world.note(f"leave {host} alone")
        self._world.cut(_both_ways([host], others))
        self._alone.append(host)
        self.later((50_000, 1_500_000), lambda: self._end_alone(host))

    def _end_alone(self, host: Node) -> None:
        """It is connected again, but not to those that are alone themselves."""
        self._alone.remove(host)
        self._uncut(_both_ways([host], [other for other in self._hosts() if other not in (host, *self._alone)]))

    def _crash_any(self) -> None:
        self.crash(self.random.choice(self._world.voters()))

    def _stop_leader(self) -> bool:
        """A host hands over what it leads and ends a moment later, often before that is done.

        It may be cut off before it hears who took over.
        """
        leader = self._leader()
        if leader is not None:
            self._world.note(f"{leader.node} is asked to stop")
            leader.take(StopAsked)
            if self.random.random() < 0.5:
                self.later((200, 3_000), lambda: self.leave_alone(leader))
            self.later((100, 1_500_000), lambda: self.crash(leader))
        return leader is not None

    def _crash_learner(self) -> None:
        self.crash(self.random.choice(self._world.learners()))

    def _crash_all(self) -> None:
        for process in self._world.voters():
            self.crash(process)

    def _crash_at_point(self) -> None:
        """A process ends between two steps of its work, the next time it is there or a few times later."""
        process = self.random.choice(list(self._world.processes.values()))
        points = [point for point in Point if point not in OF_A_COPY]
        crash = CrashPoint(self.random.choice(points), self.random.randint(1, 4), self.random.randrange(4_000_000))
        self._world.note(f"{process.node} will crash when {crash.point.value}, {crash.times} times from now")
        process.crash_point = crash

    def _crash_in_copy(self) -> None:
        """For a while, every process that gets to a certain point of a copy ends there."""
        point, down_us = self.random.choice(OF_A_COPY), self.random.randrange(4_000_000)
        self._world.note(f"processes will crash when {point.value}")
        armed = [(process, CrashPoint(point, 1, down_us)) for process in self._world.processes.values()]
        for process, crash in armed:
            process.crash_point = crash
        self.later((1_000_000, 6_000_000), lambda: self._disarm(armed))

    def _disarm(self, armed: list[tuple[Process, CrashPoint]]) -> None:
        for process, crash in armed:
            if process.crash_point is crash:
                process.crash_point = None

    def _pause(self) -> None:
        process = self.random.choice(list(self._world.processes.values()))
        pause_us = self.random.randrange(5_000, 2_000_000)
        self._world.note(f"pause {process.node} for {pause_us // 1000} ms")
        process.pause(pause_us)

    # The network.

    def _cut(self, what: str, directions: list[tuple[Node, Node]], between_us: tuple[int, int]) -> None:
        self._world.note(what)
        self._world.cut(directions)
        self.later(between_us, lambda: self._uncut(directions))

    def _uncut(self, directions: list[tuple[Node, Node]]) -> None:
        self._world.note(f"uncut {_text(directions)}")
        self._world.uncut(directions)

    def _hosts(self) -> list[Node]:
        return [process.node for process in self._world.voters()]

    def _others(self) -> list[Node]:
        """Learners and clients: whoever may be on one side of a cut or the other."""
        learners = [process.node for process in self._world.learners()]
        return learners + [client.node for client in self._world.clients]

    def _isolate(self) -> None:
        host = self.random.choice(self._hosts())
        others = [other for other in self._hosts() if other != host]
        if self.random.random() < 0.5:
            others += self._others()
        self._cut(f"isolate {host}", _both_ways([host], others), (100_000, 4_000_000))

    def _split(self) -> None:
        nodes = self._hosts() + self._others()
        side = [node for node in nodes if self.random.random() < 0.5]
        rest = [node for node in nodes if node not in side]
        self._cut(f"split {side} from {rest}", _both_ways(side, rest), (100_000, 4_000_000))

    def _cut_one_way(self) -> None:
        """A host sends and is not heard, or hears and cannot send."""
        host = self.random.choice(self._hosts())
        others = [other for other in self._hosts() if other != host]
        if self.random.random() < 0.5:
            directions = [(host, other) for other in others]
        else:
            directions = [(other, host) for other in others]
        self._cut(f"cut one way {_text(directions)}", directions, (100_000, 4_000_000))

    def _cut_between_two(self) -> bool:
        """Everybody reaches a common neighbour, but not everybody each other (partial connectivity)."""
        if len(self._hosts()) > 1:
            one, other = self.random.sample(self._hosts(), 2)
            self._cut(f"cut between {one} and {other}", _both_ways([one], [other]), (100_000, 5_000_000))
        return len(self._hosts()) > 1

    def _cut_client(self) -> None:
        if self._world.clients:
            client = self.random.choice(self._world.clients).node
            self._cut(f"cut client {client}", _both_ways([client], self._hosts()), (50_000, 3_000_000))

    def _cut_learner(self) -> None:
        learner = self.random.choice(self._world.learners()).node
        nodes = [node for node in self._world.processes if node != learner]
        self._cut(f"cut learner {learner}", _both_ways([learner], nodes), (50_000, 3_000_000))

    def _flap(self) -> bool:
        """A link that comes and goes."""
        if len(self._hosts()) > 1:
            one, other = self.random.sample(self._hosts(), 2)
            for _ in range(self.random.randint(2, 6)):
                self.later((0, 1_500_000), lambda: self._flap_once(one, other))
        return len(self._hosts()) > 1

    def _flap_once(self, one: Node, other: Node) -> None:
        self._cut(f"flap between {one} and {other}", _both_ways([one], [other]), (10_000, 200_000))

    def _worsen_network(self) -> None:
        quality = bad_quality(self.random)
        self._world.note(f"the network: {quality}")
        self._world.network.quality = quality
        self.later((200_000, 4_000_000), self._better_network)

    def _better_network(self) -> None:
        self._world.note("the network is good")
        self._world.network.quality = LinkQuality()

    def _slow_link(self) -> bool:
        if len(self._hosts()) > 1:
            one, other = self.random.sample(self._hosts(), 2)
            quality = LinkQuality(delay_us=self.random.randrange(5_000, 300_000), jitter_us=50_000)
            self._world.note(f"slow link from {one} to {other}: {quality.delay_us} us")
            self._world.network.special[one, other] = quality
            self.later((200_000, 4_000_000), lambda: self._good_link(one, other))
        return len(self._hosts()) > 1

    def _good_link(self, one: Node, other: Node) -> None:
        self._world.network.special.pop((one, other), None)


def bad_quality(random: Random) -> LinkQuality:
    """A network that loses, doubles, delays and reorders, some of it or all."""
    return LinkQuality(
        delay_us=random.choice((150, 2_000, 20_000)),
        jitter_us=random.choice((250, 5_000, 40_000)),
        loss=random.choice((0.0, 0.02, 0.2)),
        doubling=random.choice((0.0, 0.05, 0.3)),
        late=random.choice((0.0, 0.05, 0.3)),
        late_us=random.choice((20_000, 200_000, 1_500_000)),
    )


def _both_ways(some: list[Node], others: list[Node]) -> list[tuple[Node, Node]]:
    return [direction for one in some for other in others for direction in ((one, other), (other, one))]


def _text(directions: list[tuple[Node, Node]]) -> str:
    return " ".join(f"{source}>{target}" for source, target in directions)
