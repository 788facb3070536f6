"""The simulated network: who can reach whom, how fast, and what gets lost.

Nodes are numbers: hosts, learners and clients. What travels between two of them is decided for
each direction alone, so a link can be cut one way. Two kinds of traffic:

*Frames* between voter hosts may be lost, doubled and reordered: their links drop frames when an
outbox is full, and a new connection may overtake an old one.

*Streams* (a client to a host, a learner to its parent) are ordered and lose nothing in the middle:
once something is lost, nothing that was sent after it arrives, and both ends hear that the stream
broke, though not at once and not at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, TypeAlias

import attrs

from shardraft.sim.clock import Agenda

Node: TypeAlias = int
Direction: TypeAlias = tuple[Node, Node]
"""From the first to the second."""

_BREAK_NOTICED_US = (20_000, 1_500_000)
"""An end of a stream that fell silent notices after this: keep-alives, or a reset that comes late."""


@attrs.define(slots=True)
class LinkQuality:
    """How one direction of one link behaves. Times in microseconds, chances from 0 to 1."""

    delay_us: int = 150
    jitter_us: int = 250
    loss: float = 0.0
    doubling: float = 0.0
    late: float = 0.0
    """The chance that a frame takes a detour of up to ``late_us``: the usual cause of reordering."""
    late_us: int = 20_000


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


def both_ways(some: Iterable[Node], others: Iterable[Node]) -> list[Direction]:
    """Every direction between one of ``some`` and one of ``others``."""
    return [direction for one in some for other in others for direction in ((one, other), (other, one))]


def show_directions(directions: Iterable[Direction]) -> str:
    """Directions as the trace tells them."""
    return " ".join(f"{source}>{target}" for source, target in directions)


class Network:
    """All links. ``quality`` is of every direction that has none of its own in ``special``."""

    def __init__(self, agenda: Agenda, random: Random) -> None:
        self.quality = LinkQuality()
        self.special: dict[Direction, LinkQuality] = {}
        self.cut: set[Direction] = set()
        """Directions in which nothing arrives. Only asked for membership, so its order never matters."""
        self.frames_sent = 0
        self.frames_lost = 0
        self.frames_doubled = 0
        self.frames_late = 0
        self._agenda = agenda
        self._random = random
        self._streams: dict[Stream, None] = {}

    def reaches(self, source: Node, target: Node) -> bool:
        """Whether what ``source`` sends can arrive at ``target``."""
        return (source, target) not in self.cut

    def reaches_both_ways(self, one: Node, other: Node) -> bool:
        """Whether the two can hold a connection."""
        return (one, other) not in self.cut and (other, one) not in self.cut

    def send_frame(self, source: Node, target: Node, deliver: Callable[..., None], *arguments: Any) -> None:
        """Let ``deliver(*arguments)`` happen after a while; or twice, or never."""
        self.frames_sent += 1
        direction = source, target
        quality = self.special.get(direction, self.quality)
        random = self._random.random
        if direction in self.cut or (quality.loss and random() < quality.loss):
            self.frames_lost += 1
            return
        delay_us = quality.delay_us + int(random() * quality.jitter_us)
        if quality.late and random() < quality.late:
            self.frames_late += 1
            delay_us += int(random() * quality.late_us)
        self._agenda.after(delay_us, self._arrive, direction, deliver, arguments)
        if quality.doubling and random() < quality.doubling:
            self.frames_doubled += 1
            delay_us += int(random() * quality.late_us)
            self._agenda.after(delay_us, self._arrive, direction, deliver, arguments)

    def _arrive(self, direction: Direction, deliver: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if direction in self.cut:
            self.frames_lost += 1  # It was on its way when the link was cut.
        else:
            deliver(*arguments)

    def delay_us(self, direction: Direction) -> int:
        """A draw of how long something takes in that direction."""
        quality = self.special.get(direction, self.quality)
        return quality.delay_us + int(self._random.random() * quality.jitter_us)

    def notice_us(self) -> int:
        """A draw of how long it takes until a silent break is noticed."""
        return self._random.randrange(*_BREAK_NOTICED_US)

    # Streams.

    def open_stream(self, opener: StreamEnd, acceptor: StreamEnd) -> Stream:
        """A stream between two ends that can reach each other at this moment."""
        stream = Stream(self, self._agenda, opener, acceptor)
        self._streams[stream] = None
        return stream

    def forget(self, stream: Stream) -> None:
        """Both ends are gone."""
        self._streams.pop(stream, None)

    def node_died(self, node: Node) -> None:
        """A process ended: its streams close under it, and their other ends hear of it."""
        for stream in tuple(self._streams):
            for end in (0, 1):
                if stream.ends[end].node == node:
                    stream.die(end)

    def links_changed(self) -> None:
        """After a cut: streams across it break."""
        for stream in tuple(self._streams):
            stream.break_if_cut()


@attrs.frozen(slots=True, eq=False)
class StreamEnd:
    """One end: its node, what takes a message that arrives, and what hears that the stream is closed."""

    node: Node
    received: Callable[[Any], None]
    closed: Callable[[], None]


class Stream:
    """One ordered connection. Ends are 0 (who opened it) and 1; an end that heard of the close hears nothing more."""

    __slots__ = ("_agenda", "_arrives_us", "_broken", "_directions", "_network", "_open", "_severed", "ends")

    def __init__(self, network: Network, agenda: Agenda, opener: StreamEnd, acceptor: StreamEnd) -> None:
        self.ends = (opener, acceptor)
        self._directions = ((opener.node, acceptor.node), (acceptor.node, opener.node))
        """In direction e, end e sends."""
        self._network = network
        self._agenda = agenda
        self._open = [True, True]
        self._severed = [False, False]
        """Severed at end e: nothing more that e sends arrives."""
        self._broken = False
        self._arrives_us = [0, 0]

    def send(self, end: int, message: object) -> None:
        """Send from ``end`` to the other; order is kept."""
        if not self._open[end] or self._severed[end]:
            return
        agenda = self._agenda
        arrives_us = agenda.now_us + self._network.delay_us(self._directions[end])
        if arrives_us < self._arrives_us[end]:
            arrives_us = self._arrives_us[end]
        self._arrives_us[end] = arrives_us
        agenda.at(arrives_us, self._deliver, end, message)

    def _deliver(self, end: int, message: object) -> None:
        if self._severed[end] or not self._open[1 - end]:
            return
        if self._directions[end] in self._network.cut:
            self.break_if_cut()
        else:
            self.ends[1 - end].received(message)

    def close(self, end: int) -> None:
        """``end`` closes the stream on purpose: what it sent before still arrives, then the other end hears."""
        if not self._open[end]:
            return
        self._open[end] = False
        delay_us = self._network.delay_us(self._directions[end])
        if self._directions[end] in self._network.cut:
            delay_us = self._network.notice_us()
        self._agenda.at(max(self._agenda.now_us + delay_us, self._arrives_us[end]), self._hear_close, 1 - end)

    def die(self, end: int) -> None:
        """The process at ``end`` is gone; its kernel closes the stream."""
        self.close(end)

    def break_if_cut(self) -> None:
        """Sever the directions that are cut; both ends will notice, each in its own time."""
        severed = [direction in self._network.cut for direction in self._directions]
        for end in (0, 1):
            self._severed[end] = self._severed[end] or severed[end]
        if any(severed) and not self._broken:
            self._broken = True
            for end in (0, 1):
                self._agenda.after(self._network.notice_us(), self._hear_close, end)

    def _hear_close(self, end: int) -> None:
        if self._open[end]:
            self._open[end] = False
            self.ends[end].closed()
        if not any(self._open):
            self._network.forget(self)
