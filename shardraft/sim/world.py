"""The simulated world: hosts, learners and clients on one agenda, and everything that may be done to them.

``World`` holds the parts together and offers what tests and the fault schedule need: crash, start,
cut, heal, run. It breaks nothing by itself. Every event is put into the trace, and the invariants
are checked as it happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

import attrs

from shardraft.config import HostConfig
from shardraft.errors import StorageError
from shardraft.host.events import CopyInstalled, DiskSpace, PeerFrameReceived, ReplicaCreated, RequestReceived
from shardraft.host.messages import PeerMessage
from shardraft.host.turn import Turn
from shardraft.raft.ready import BecameLeader, Role
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.sim.client import SimClient
from shardraft.sim.clock import Agenda, DriftingClock
from shardraft.sim.codec import PlainCodec
from shardraft.sim.crash_points import CrashPoint
from shardraft.sim.disk import SimDisk
from shardraft.sim.failure import TRAIL_LINES, SimulationFailure
from shardraft.sim.invariants import Invariants
from shardraft.sim.judge import Judge
from shardraft.sim.leases import Leases
from shardraft.sim.narration import Standings, show
from shardraft.sim.network import LinkQuality, Network, Node
from shardraft.sim.operator import Operator
from shardraft.sim.options import SimulationOptions, vary_config, vary_router, vary_workload
from shardraft.sim.peers import ParentLink, PeerLinks
from shardraft.sim.process import Process
from shardraft.sim.report import REFUSED, SENT_BY_FOLLOWER, STOPPED, TORN
from shardraft.sim.settled import is_caught_up, is_settled
from shardraft.sim.store import SimStore
from shardraft.sim.trace import Listener, Trace
from shardraft.sim.workload import Workload
from shardraft.types import HostId, ShardId
from shardraft_router.core import RouterCore, RouterLimits

LEARNERS_FROM: Final[HostId] = 101
CLIENTS_FROM: Final[Node] = 1001
"""Voter hosts are numbered from 1, learners and clients from here."""


class World:
    """One simulated cluster. The same options give the same world, event by event."""

    def __init__(self, options: SimulationOptions, listener: Listener | None = None) -> None:
        self.options = options
        self.random = Random(options.seed)
        self.agenda = Agenda()
        self.trace = Trace(listener)
        self.network = Network(self.agenda, self.random)
        self.config: HostConfig = options.config or vary_config(self.random)
        self.codec = PlainCodec()
        self.trail: deque[str] = deque(maxlen=TRAIL_LINES)
        self.happened: dict[str, int] = {}
        """How often each of the ``HAPPENINGS`` came to pass."""
        self.on_elected: Callable[[Process], None] = lambda process: None
        self.copies_installed = 0
        self._standings = Standings()
        self.processes: dict[HostId, Process] = {}
        self.leases = Leases(self.processes)
        self.parents: dict[HostId, ParentLink] = {}
        self.shard_map = self._make_map()
        self.invariants = Invariants(self.shard_map, self.codec, self.config)
        for place in self.shard_map.hosts:
            self._make_process(place.host, is_learner=False)
        voters = dict(self.processes)
        self.operator = Operator(self.leader_of)
        self.peers = PeerLinks(self.agenda, self.random, self.network, voters, self.refused)
        self._make_learners()
        workload = options.workload or vary_workload(self.random)
        self.judge = Judge(self.shard_map, self.invariants)
        self.workload = Workload(self.agenda, self.random, workload, self.judge)
        self.clients: list[SimClient] = []
        for _ in range(workload.clients):
            self.add_client(vary_router(self.random, self.config))

    # Making it.

    def _make_map(self) -> ShardMap:
        options, cluster_id = self.options, self.random.randbytes(16)
        hosts = tuple(HostPlace(host, _endpoint(host)) for host in range(1, options.hosts + options.spares + 1))
        return attrs.evolve(ShardMap.bootstrap(cluster_id, hosts[: options.hosts], options.shards), hosts=hosts)

    def _make_process(self, node: HostId, *, is_learner: bool) -> Process:
        shard_map = None if is_learner else self.shard_map
        chunk_bytes = self.random.choice((500, 4_000))
        store = SimStore(self.shard_map.cluster_id, node, shard_map, chunk_bytes=chunk_bytes)
        store.on_written = lambda write: self.invariants.check_written(node, write, is_learner=is_learner)
        store.on_flushed = lambda image: self.invariants.check_flushed(node, image)
        self.invariants.stores[node] = store
        disk = SimDisk(self.agenda, self.random, store)
        process = self.processes[node] = Process(
            node,
            _endpoint(node),
            self.agenda,
            self.random,
            self._make_clock(),
            disk,
            self.codec,
            self.config,
            self,
            is_learner=is_learner,
        )
        return process

    def _make_clock(self) -> DriftingClock:
        origin_us = self.random.randrange(10**12)
        rho_ppm = self.config.raft.rho_ppm
        return DriftingClock(self.agenda, origin_us, self.random.randint(-rho_ppm, rho_ppm))

    def _make_learners(self) -> None:
        node = LEARNERS_FROM
        tier_above = tuple(self.processes.values())
        for count in self.options.learners:
            tier = tuple(self._make_process(node + number, is_learner=True) for number in range(count))
            for child in tier:
                parents = list(tier_above)
                self.random.shuffle(parents)
                child.parents = tuple(parent.endpoint for parent in parents)
                self.parents[child.node] = ParentLink(self.agenda, self.random, self.network, child, self.process_at)
            node, tier_above = node + count, tier or tier_above

    def add_client(self, limits: RouterLimits) -> SimClient:
        """One more client, numbered after those that are there; it begins when it is asked for something."""
        core = RouterCore(
            session=self.random.randbytes(16),
            random=Random(self.random.getrandbits(64)),
            limits=limits,
            codec=self.codec,
            endpoints=tuple(_endpoint(host) for host in range(1, self.options.hosts + 1)),
        )
        client = SimClient(
            CLIENTS_FROM + len(self.clients),
            core,
            self.agenda,
            self.random,
            self._make_clock(),
            self.network,
            self,
            self.workload.completed,
            lambda node, thing: self.trace.event(self.agenda.now_us, node, thing),
        )
        self.clients.append(client)
        return client

    # Running it.

    def start(self) -> None:
        """Start every process and every client."""
        for node in sorted(self.processes):
            self.start_process(node)
        for client in self.clients:
            self.workload.start(client)

    def run(self, seconds: float) -> None:
        """Let that much virtual time pass. Raises ``SimulationFailure`` when a promise is broken."""
        self.run_until(self.agenda.now_us + int(seconds * 1e6))

    def run_until(self, time_us: int) -> None:
        """Let time pass until ``time_us``."""
        try:
            self.agenda.run_until(time_us)
        except SimulationFailure as failure:
            raise self.failure(failure.reason) from failure
        except Exception as error:
            raise self.failure(f"{type(error).__name__}: {error}") from error

    def failure(self, reason: str) -> SimulationFailure:
        """The failure of this world at this moment, with how to replay it."""
        now_us, trail = self.agenda.now_us, tuple(self.trail)
        return SimulationFailure(reason, time_us=now_us, replay=self.options.replay, trail=trail)

    def note(self, text: str) -> None:
        """Something worth telling happened."""
        self.trace.note(self.agenda.now_us, text)
        self.trail.append(f"{self.agenda.now_us / 1e6:10.6f} {text}")

    def count(self, what: str) -> None:
        """It happened once more."""
        self.happened[what] = self.happened.get(what, 0) + 1

    # Doing things to it.

    def start_process(self, node: HostId) -> None:
        """Start a process that is down, from its disk; it stays down when that hangs, is damaged or not its newest."""
        process = self.processes[node]
        if process.disk.is_hung or process.impersonates:
            self.note(f"{node} cannot start from the disk that it has now")
        else:
            self._start(process)

    def _start(self, process: Process) -> None:
        self.note(f"start {process.node}")
        self.invariants.check_recovered(process.node, is_learner=process.is_learner)
        try:
            process.start()
        except StorageError as error:
            self._stopped(process, error)

    def impersonate(self, node: HostId, store: SimStore) -> None:
        """Kill a voter host, and start it once from a disk that is not its newest."""
        process = self.processes[node]
        if process.is_up:
            self.crash(node)
        process.put_disk(store)
        self._start(process)

    def put_back_disk(self, node: HostId) -> None:
        """A host gets its newest disk back; it is down then."""
        process = self.processes[node]
        if process.impersonates:
            if process.is_up:
                self.crash(node)
            process.put_back_disk()

    def refused(self, process: Process, reason: str) -> None:
        """Others know a later start of this host: it ends, and no process ever starts from that disk again."""
        if not process.impersonates:
            raise SimulationFailure(f"host {process.node} runs from its newest disk and is refused: {reason}")
        self.note(f"{process.node} is refused: {reason}")
        self.count(REFUSED)
        process.disk.store.superseded = reason
        self.crash(process.node)

    def crash(self, node: HostId) -> None:
        """Kill a process that is up."""
        self.note(f"crash {node}")
        process = self.processes[node]
        torn = process.disk.torn
        process.crash()
        if process.disk.torn > torn:
            self.note(f"{node} lost a part of what would have been one commit")
            self.count(TORN)
        self.network.node_died(node)
        if not process.is_learner:
            self.peers.process_died(process)

    def cut(self, directions: Iterable[tuple[Node, Node]]) -> None:
        """Let nothing arrive in these directions."""
        self.network.cut.update(directions)
        self.network.links_changed()
        self.peers.links_changed()

    def uncut(self, directions: Iterable[tuple[Node, Node]]) -> None:
        """Let everything arrive in these directions again."""
        self.network.cut.difference_update(directions)
        self.peers.links_changed()

    def heal(self) -> None:
        """Start what is down, connect what is cut, and let network and disks be good."""
        self.note("heal")
        self.network.quality = LinkQuality()
        self.network.special.clear()
        self.network.cut.clear()
        for node in sorted(self.processes):
            process = self.processes[node]
            process.crash_point = None
            self.put_back_disk(node)
            process.disk.release()
            process.disk.store.heal()
            if process.is_up:
                self.make_room(process)
            else:
                self.start_process(node)
        self.peers.links_changed()

    def make_room(self, process: Process) -> None:
        """The disk of a process has enough room again."""
        process.take(DiskSpace, False)

    # Looking at it.

    def process_at(self, endpoint: str) -> Process:
        """The process that listens at ``endpoint`` while it is up."""
        return self.processes[int(endpoint.removeprefix("node").partition(":")[0])]

    def voters(self) -> list[Process]:
        """The voter hosts' processes, whether up or not."""
        return [process for process in self.processes.values() if not process.is_learner]

    def learners(self) -> list[Process]:
        """The learners' processes, whether up or not."""
        return [process for process in self.processes.values() if process.is_learner]

    def leader_of(self, shard: ShardId) -> Process | None:
        """The process that leads ``shard`` in the latest term, as far as anybody says so."""
        best: tuple[int, Process] | None = None
        for process in self.voters():
            voter = process.host.voters.get(shard) if process.host is not None else None
            if voter is not None and voter.raft.role is Role.LEADER and (best is None or voter.raft.term > best[0]):
                best = (voter.raft.term, process)
        return best[1] if best else None

    def is_caught_up(self, process: Process) -> bool:
        """Has every replica of the process applied everything that is committed?"""
        return is_caught_up(process, self.shard_map, self.invariants)

    def has_settled(self) -> bool:
        """Has every shard a leader and settled members, and has every process applied all that is committed?"""
        return all(is_settled(self.leader_of(shard.shard), shard.shard) for shard in self.shard_map.shards) and all(
            self.is_caught_up(process) for process in self.processes.values()
        )

    # What processes tell (``Surroundings``).

    def peer_frame(self, source: HostId, target: HostId, messages: tuple[PeerMessage, ...]) -> None:
        """One frame between voter hosts; it is dropped when they have no connection."""
        if self.peers.are_connected(source, target):
            self.network.send_frame(source, target, self.processes[target].take, PeerFrameReceived, source, messages)

    def process_started(self, process: Process) -> None:
        """It looks for its peers or its parent."""
        if process.is_learner:
            self.parents[process.node].process_started()
        else:
            self.peers.process_started(process)

    def connection_closed(self, process: Process, number: int) -> None:
        """A stream of the process is gone."""
        if process.is_learner:
            self.parents[process.node].connection_closed(number)

    def process_stepped(self, process: Process, event: Any) -> None:
        """The trace holds all that hosts take in."""
        kind = type(event)
        assert process.host is not None
        if kind is RequestReceived:
            self.invariants.note_request(process.node, event)
        elif kind is PeerFrameReceived:
            self.invariants.pre_votes.taken(process.host, event)
        elif kind is CopyInstalled:
            self.copies_installed += 1
            if process.host.copying.installs_ordered(event.shard):
                self.count(SENT_BY_FOLLOWER)
            self.invariants.flushed.check_all(process.node, event.shard)
        elif kind is ReplicaCreated:
            self.invariants.replica_created(process.node, event.shard)
        self.trace.event(self.agenda.now_us, process.node, event)

    def turn_begun(self, process: Process, turn: Turn) -> None:
        """Check what the host knows and what leaves at once, before any of it does."""
        for note in turn.notes:
            if type(note) is BecameLeader:
                self.note(f"{process.node} leads shard {note.shard} in term {note.term}")
                self.leases.check_elected(process, note)
                self.on_elected(process)
            else:
                self.trace.note(self.agenda.now_us, f"{process.node} {show(note)}")
        if turn.replies:
            self.operator.hear(turn.replies)
        self.invariants.check_replicas(process)
        if not process.impersonates:  # Nobody hears what such a one promises.
            self.invariants.check_turn(process, turn)
            if process.disk.is_hung:
                self.invariants.check_hung(process, turn, self.agenda.now_us)
        if self.trace.is_heard and process.host is not None:
            for line in self._standings.changes(process.node, process.host):
                self.trace.say(self.agenda.now_us, line)

    def outcome_leaves(self, process: Process, messages: tuple[tuple[HostId, tuple[PeerMessage, ...]], ...]) -> None:
        """Check what leaves after a commit."""
        for _, of_host in () if process.impersonates else messages:
            self.invariants.check_promises(process.node, of_host)

    def crash_point_reached(self, process: Process, crash: CrashPoint) -> None:
        """Crash it there; it is started again a while later."""
        self.note(f"crash point of {process.node}: {crash.point.value}")
        self.count(crash.point.crash)
        self.crash(process.node)
        self.agenda.after(crash.down_us, self._start_again, process)

    def _start_again(self, process: Process) -> None:
        if not process.is_up:
            self.start_process(process.node)

    def disk_failed(self, process: Process, error: StorageError) -> None:
        """It stops and says so; an error for which the world gave no reason is one of the program."""
        if process.is_up:
            self._stopped(process, error)
            self.crash(process.node)

    def _stopped(self, process: Process, error: StorageError) -> None:
        if process.disk.store.flipped is None:
            raise SimulationFailure(f"{process.node} stopped: {error}") from error
        self.note(f"{process.node} stops: {error}")
        self.count(STOPPED)


def _endpoint(node: Node) -> str:
    return f"node{node}:7000"
