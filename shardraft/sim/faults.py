"""What breaks, and when: a schedule drawn from the seed.

Each world draws which kinds of faults it has at all, so that some worlds see many faults of one
kind and others a few of each, unless its options name them. Every fault ends by itself after a while,
and any number of hosts may be down at once: disks survive, so everything is recoverable once all is healed.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from shardraft.sim.crash_points import OF_A_COPY, CrashPoint, Point
from shardraft.sim.disk_faults import DOWN_US, DiskFaults
from shardraft.sim.kinds import Fault, name_of, named
from shardraft.sim.leader_faults import LeaderFaults
from shardraft.sim.member_faults import MemberFaults
from shardraft.sim.network import LinkQuality, Node, bad_quality, both_ways, show_directions
from shardraft.sim.process import Process
from shardraft.sim.world import World

_BETWEEN_US: Final = (50_000, 2_500_000)
"""The wait from one fault to the next; several may be under way."""
_KINDS_MIN: Final = 3


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
        self.is_running = False
        self.leaders = LeaderFaults(self)
        self._kinds = self._choose_kinds()

    def _choose_kinds(self) -> list[Fault]:
        kinds, names = self.kinds(), self._world.options.kinds
        if names is not None:
            return named(kinds, names)
        return self.random.sample(kinds, self.random.randint(_KINDS_MIN, len(kinds)))

    def kinds(self) -> list[Fault]:
        """Every kind of fault that this world can have."""
        kinds: list[Fault] = [
            *self.leaders.kinds,
            self._crash_any,
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
            kinds += MemberFaults(self, self.leaders).kinds
        if self._world.learners():
            kinds += [self._crash_learner, self._cut_learner]
        return kinds

    def start(self) -> None:
        """Break something soon, and go on."""
        self.is_running = True
        self._schedule()

    def stop(self) -> None:
        """Begin nothing more."""
        self.is_running = False

    def _schedule(self) -> None:
        self._world.agenda.after(self._when.randrange(*_BETWEEN_US), self._strike)

    def _strike(self) -> None:
        if not self.is_running:
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
        if self.is_running:
            action()

    # Crashes.

    def crash(self, process: Process, down_us: tuple[int, int] = DOWN_US) -> None:
        """Kill a process, and start it again after a while."""
        if process.is_up:
            self._world.crash(process.node)
        self.later(down_us, lambda: self.start_again(process))

    def start_again(self, process: Process) -> None:
        """Start a process that is down."""
        if not process.is_up:
            self._world.start_process(process.node)

    def _crash_any(self) -> None:
        self.crash(self.random.choice(self._world.voters()))

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

    def cut(self, what: str, directions: list[tuple[Node, Node]], between_us: tuple[int, int]) -> None:
        """Let nothing arrive in these directions for a while; ``what`` tells the trace why."""
        self._world.note(what)
        self._world.cut(directions)
        self.later(between_us, lambda: self.uncut(directions))

    def uncut(self, directions: list[tuple[Node, Node]]) -> None:
        """Let everything arrive in these directions again."""
        self._world.note(f"uncut {show_directions(directions)}")
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
        self.cut(f"isolate {host}", both_ways([host], others), (100_000, 4_000_000))

    def _split(self) -> None:
        nodes = self._hosts() + self._others()
        side = [node for node in nodes if self.random.random() < 0.5]
        rest = [node for node in nodes if node not in side]
        self.cut(f"split {side} from {rest}", both_ways(side, rest), (100_000, 4_000_000))

    def _cut_one_way(self) -> None:
        """A host sends and is not heard, or hears and cannot send."""
        host = self.random.choice(self._hosts())
        others = [other for other in self._hosts() if other != host]
        if self.random.random() < 0.5:
            directions = [(host, other) for other in others]
        else:
            directions = [(other, host) for other in others]
        self.cut(f"cut one way {show_directions(directions)}", directions, (100_000, 4_000_000))

    def _cut_between_two(self) -> bool:
        """Everybody reaches a common neighbour, but not everybody each other (partial connectivity)."""
        if len(self._hosts()) > 1:
            one, other = self.random.sample(self._hosts(), 2)
            self.cut(f"cut between {one} and {other}", both_ways([one], [other]), (100_000, 5_000_000))
        return len(self._hosts()) > 1

    def _cut_client(self) -> None:
        if self._world.clients:
            client = self.random.choice(self._world.clients).node
            self.cut(f"cut client {client}", both_ways([client], self._hosts()), (50_000, 3_000_000))

    def _cut_learner(self) -> None:
        learner = self.random.choice(self._world.learners()).node
        nodes = [node for node in self._world.processes if node != learner]
        self.cut(f"cut learner {learner}", both_ways([learner], nodes), (50_000, 3_000_000))

    def _flap(self) -> bool:
        """A link that comes and goes."""
        if len(self._hosts()) > 1:
            one, other = self.random.sample(self._hosts(), 2)
            for _ in range(self.random.randint(2, 6)):
                self.later((0, 1_500_000), lambda: self._flap_once(one, other))
        return len(self._hosts()) > 1

    def _flap_once(self, one: Node, other: Node) -> None:
        self.cut(f"flap between {one} and {other}", both_ways([one], [other]), (10_000, 200_000))

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
