"""One simulated process: the real ``Host`` under a loop that is the twin of the runtime's.

It takes what arrived, steps the host, begins a turn and carries it out; a turn's log commit comes
back later as an event. A crash stops all of that between any two steps; a pause lets arrivals
pile up and time pass.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any, Final, Protocol

import attrs

from shardraft.config import HostConfig
from shardraft.errors import StorageError
from shardraft.host.events import ConnectionClosed, LinkFrameReceived, RequestReceived
from shardraft.host.host import Host
from shardraft.host.messages import PeerMessage
from shardraft.host.ports import Codec
from shardraft.host.turn import Turn
from shardraft.sim.clock import Agenda, DriftingClock, drawing
from shardraft.sim.crash_points import CrashPoint, Point
from shardraft.sim.disk import SimDisk
from shardraft.sim.network import Stream, StreamEnd
from shardraft.sim.store import SimStore
from shardraft.types import HostId

_TURN_DELAY_US: Final = (20, 400)
"""From the first arrival to the turn that takes it: the loop was busy, and takes what came meanwhile along."""


@attrs.frozen(slots=True)
class LogCommitted:
    """The disk's word that the log batches of these turns are durable; the loop's own event, not the host's."""

    now_us: int
    numbers: tuple[int, ...]


class Surroundings(Protocol):
    """What a process needs of its world."""

    def peer_frame(self, source: HostId, target: HostId, messages: tuple[PeerMessage, ...]) -> None:
        """Send one frame to a voter host."""
        ...

    def process_started(self, process: Process) -> None:
        """It recovered and will take its first turn."""
        ...

    def connection_closed(self, process: Process, number: int) -> None:
        """A stream of the process is gone."""
        ...

    def process_stepped(self, process: Process, event: object) -> None:
        """Right before the host takes ``event`` in."""
        ...

    def turn_begun(self, process: Process, turn: Turn) -> None:
        """Right after ``begin_turn``, before anything of it is carried out."""
        ...

    def outcome_leaves(self, process: Process, messages: tuple[tuple[HostId, tuple[PeerMessage, ...]], ...]) -> None:
        """What ``finish_turn`` released, before it is sent."""
        ...

    def disk_failed(self, process: Process, error: StorageError) -> None:
        """Its disk broke: the process ends and says so (DESIGN promise 6)."""
        ...

    def crash_point_reached(self, process: Process, crash: CrashPoint) -> None:
        """It is where it is to crash: crash it."""
        ...


class Process:
    """A host's process, its disk and its clock. ``host`` is None while it is down.

    It ``impersonates`` its host while it has another disk than the newest one of that host.
    """

    def __init__(
        self,
        node: HostId,
        endpoint: str,
        agenda: Agenda,
        random: Random,
        clock: DriftingClock,
        disk: SimDisk,
        codec: Codec,
        config: HostConfig,
        surroundings: Surroundings,
        *,
        is_learner: bool = False,
    ) -> None:
        self.node = node
        self.endpoint = endpoint
        self.clock = clock
        self.disk = disk
        self.config = config
        self.is_learner = is_learner
        self.host: Host | None = None
        self.crash_point: CrashPoint | None = None
        self.impersonates = False
        self.parents: tuple[str, ...] = ()
        """The endpoints of the parents that a learner is given at each start."""
        self.boot = 0
        self.turns = 0
        self.streams: dict[int, tuple[Stream, int]] = {}
        """Open connections by number: the stream and which end of it is ours."""
        self._agenda = agenda
        self._random = random
        self._draw_turn_delay_us = drawing(random, _TURN_DELAY_US)
        self._codec = codec
        self._world = surroundings
        self._events_max = config.limits.turn_events_max
        self._inbox: list[Any] = []
        self._held: list[tuple[Any, tuple[Any, ...]]] = []
        self._paused = False
        self._turn_is_due = False
        self._wake_us: int | None = None
        self._wake_deadline_us = 0
        """The deadline for which it will wake then, on its own clock."""
        self._next_connection = 1
        self.newest_disk = disk.store
        """The host's newest disk, wherever it is."""
        disk.on_committed = partial(self.take, LogCommitted)
        disk.on_event = self.take
        disk.on_failure = self.disk_failed
        disk.at_point = self.reaches

    @property
    def is_up(self) -> bool:
        return self.host is not None

    @property
    def is_paused(self) -> bool:
        """Whether it runs nothing at the moment."""
        return self._paused

    # Life and death.

    def start(self) -> None:
        """Recover from the disk and begin."""
        assert self.host is None, "the process is running"
        self.boot += 1
        self.host = Host(
            recovered=self.disk.store.recover(),
            store=self.disk.store,
            codec=self._codec,
            config=self.config,
            random=Random(self._random.getrandbits(64)),
            now_us=self.clock.now_us(),
            endpoint=self.endpoint,
            is_learner=self.is_learner,
            parents=self.parents,
        )
        self._world.process_started(self)
        self._schedule_turn()

    def crash(self) -> None:
        """End at this moment, like kill -9 or a power cut. The world closes its streams."""
        assert self.host is not None, "the process is not running"
        self.host = None
        self.crash_point = None
        self.boot += 1
        self._inbox.clear()
        self._held.clear()
        self._paused = self._turn_is_due = False
        self._wake_us = None
        self.streams.clear()
        self.disk.crash()

    def put_disk(self, store: SimStore) -> None:
        """Put another disk in; the newest stays aside until ``put_back_disk``."""
        assert self.host is None, "the process is running"
        self.disk.store = store
        self.impersonates = True

    def put_back_disk(self) -> None:
        """The host's newest disk is in again."""
        assert self.host is None, "the process is running"
        self.disk.store = self.newest_disk
        self.impersonates = False

    def reaches(self, point: Point) -> bool:
        """Whether the process has just crashed, since this is the point where it was to."""
        crash = self.crash_point
        if crash is None or crash.point is not point:
            return False
        crash.times -= 1
        if crash.times:
            return False
        self._world.crash_point_reached(self, crash)
        return True

    def pause(self, pause_us: int) -> None:
        """Run nothing for a while; what arrives waits."""
        if self.host is not None and not self._paused:
            self._paused = True
            self._agenda.after(pause_us, self._resume, self.boot)

    def _resume(self, boot: int) -> None:
        if boot != self.boot:
            return
        self._paused = False
        held, self._held = self._held, []
        for kind, fields in held:
            self.take(kind, *fields)
        self._schedule_turn()

    # Arrivals.

    def disk_failed(self, error: StorageError) -> None:
        """A job of the disk met what is damaged."""
        self._world.disk_failed(self, error)

    def take(self, kind: Any, *fields: Any) -> None:
        """An event of class ``kind`` arrives; it is stamped with this host's time."""
        if self.host is None:
            return
        if self._paused:
            self._held.append((kind, fields))
            return
        self._inbox.append(kind(self.clock.now_us(), *fields))
        if not self._turn_is_due:
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        self._turn_is_due = True
        self._agenda.after(self._draw_turn_delay_us(), self._turn, self.boot)

    # The loop.

    def _turn(self, boot: int) -> None:
        if boot != self.boot or self._paused:
            return
        host, world = self.host, self._world
        assert host is not None
        self._turn_is_due = False
        self.turns += 1
        now_us = self.clock.now_us()  # No time passes within a turn.
        events, self._inbox = self._inbox, self._inbox[self._events_max :]
        if self._inbox:
            del events[self._events_max :]  # They came first, and are as much as one turn takes.
        try:
            for event in events:
                world.process_stepped(self, event)
                if type(event) is LogCommitted:
                    self._finish_turns(host, event.numbers, now_us)
                else:
                    host.step(event)
                if self.crash_point is not None:
                    self.reaches(Point.STEPPED)
                if boot != self.boot:
                    return
            self._carry_out(host.begin_turn(now_us))
            if boot == self.boot and not self._turn_is_due:
                self._look_ahead(host.next_deadline_us, now_us)
        except StorageError as error:
            self.disk_failed(error)

    def _finish_turns(self, host: Host, numbers: tuple[int, ...], now_us: int) -> None:
        for number in numbers:
            promised = host.finish_turn(number, now_us).messages
            if promised:
                self._world.outcome_leaves(self, promised)
            for target, messages in promised:
                self._world.peer_frame(self.node, target, messages)
                if self.crash_point is not None and self.reaches(Point.PROMISED):
                    return

    def _carry_out(self, turn: Turn) -> None:
        self._world.turn_begun(self, turn)
        for target, messages in turn.messages:
            self._world.peer_frame(self.node, target, messages)
            if self.crash_point is not None and self.reaches(Point.SENT):
                return
        if turn.log_batch is not None:
            self.disk.submit_log(turn.number, turn.log_batch)
            if self.crash_point is not None and self.reaches(Point.SUBMITTED):
                return
        if turn.replies or turn.link_messages:
            for number, link_messages in (*turn.replies, *turn.link_messages):
                self._send(number, link_messages)
                if self.crash_point is not None and self.reaches(Point.ANSWERED):
                    return
        if turn.state_batch is not None or turn.shard_map is not None or turn.copies or turn.replicas:
            self._ask_state_disk(turn)
        for number in turn.closes:
            self.close(number)

    def _ask_state_disk(self, turn: Turn) -> None:
        for job in (turn.state_batch, turn.shard_map, *turn.copies, *turn.replicas):
            if job is None:
                continue
            self.disk.submit_state(job)
            if self.crash_point is not None and self.reaches(Point.ASKED):
                return

    def _send(self, number: int, messages: object) -> None:
        if number in self.streams:
            stream, end = self.streams[number]
            stream.send(end, messages)

    def close(self, number: int) -> None:
        """Close a connection on our side. The host hears of it like of any other close."""
        if number in self.streams:
            stream, end = self.streams[number]
            stream.close(end)
            self._stream_closed(number)

    def _look_ahead(self, deadline_us: int, now_us: int) -> None:
        """Come back at the host's next deadline, or at once when work is left over."""
        if self._inbox or deadline_us <= now_us:
            self._schedule_turn()
            return
        if self._wake_us is not None and deadline_us >= self._wake_deadline_us:
            return
        world_us = self.clock.world_us(deadline_us)
        if self._wake_us is None or world_us < self._wake_us:
            self._wake_us, self._wake_deadline_us = world_us, deadline_us
            self._agenda.at(world_us, self._wake, self.boot, world_us)

    def _wake(self, boot: int, wake_us: int) -> None:
        if boot != self.boot or wake_us != self._wake_us:
            return
        self._wake_us = None
        if self._turn_is_due or self._paused:
            return
        assert self.host is not None
        deadline_us, now_us = self.host.next_deadline_us, self.clock.now_us()
        if deadline_us <= now_us:
            self._turn_is_due = True
            self._turn(boot)
        else:
            self._look_ahead(deadline_us, now_us)

    # Connections of clients, children and the parent.

    def new_connection(self) -> tuple[int, StreamEnd]:
        """A number and this process's end for a stream that is about to be opened, by it or to it."""
        number, boot = self._next_connection, self.boot
        self._next_connection += 1
        end = StreamEnd(self.node, partial(self._received, boot, number), partial(self._closed, boot, number))
        return number, end

    def opened(self, number: int, stream: Stream, end: int) -> None:
        """Connection ``number`` exists from now on."""
        self.streams[number] = (stream, end)

    def _received(self, boot: int, number: int, message: Any) -> None:
        """Something arrived on connection ``number``: one client request, or a tuple of link messages."""
        if boot != self.boot or number not in self.streams:
            return
        if isinstance(message, tuple):
            self.take(LinkFrameReceived, number, message)
        else:
            self.take(RequestReceived, number, message)

    def _closed(self, boot: int, number: int) -> None:
        """The other end of connection ``number`` is gone."""
        if boot == self.boot:
            self._stream_closed(number)

    def _stream_closed(self, number: int) -> None:
        if self.streams.pop(number, None) is not None:
            self.take(ConnectionClosed, number)
            self._world.connection_closed(self, number)
