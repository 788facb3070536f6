"""Hosts joined in memory: every message arrives, every commit finishes, time moves when it is told to.

The simplest driver a host can have, for tests of the host alone; faults are the simulator's business.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from shardraft.config import HostConfig
from shardraft.errors import CopyRefused
from shardraft.host.events import (
    ConnectionClosed,
    CopyInstalled,
    CopyRejected,
    CopySpooled,
    Event,
    LinkFrameReceived,
    ParentConnected,
    PeerFrameReceived,
    ReplicaCreated,
    ReplicaRemoved,
    RequestReceived,
    ShardMapKept,
    StateFlushed,
)
from shardraft.host.host import Host
from shardraft.host.turn import (
    CopyCommand,
    CreateReplica,
    DropCopy,
    HostNote,
    InstallCopy,
    ReplicaCommand,
    SpoolCopy,
    StageChunk,
    Turn,
)
from shardraft.kv.commands import PUT, Batch
from shardraft.kv.requests import ClientReply, ClientRequest, WriteRequest
from shardraft.shards.shard_map import HostPlace, Partitioning, ShardMap
from shardraft.sim.codec import PlainCodec
from shardraft.sim.store import SimStore

CLUSTER_ID = b"c" * 16
CLIENT = 1
"""The one client's connection, on every host."""


class Process:
    """One host with its disk and what it handed out."""

    def __init__(self, host: int, store: SimStore, config: HostConfig, now_us: int, is_learner: bool) -> None:
        self.store = store
        self.is_learner = is_learner
        self.config = config
        self.replies: list[ClientReply] = []
        self.notes: list[HostNote] = []
        self.links: dict[int, tuple[Process, int]] = {}
        self.is_syncing = True
        self.unsynced: list[Turn] = []
        self.start(now_us)
        assert self.host.host == host

    def start(self, now_us: int) -> None:
        """Start from what the disk holds."""
        recovered = self.store.recover()
        self.host = Host(
            recovered=recovered,
            store=self.store,
            codec=PlainCodec(),
            config=self.config,
            random=Random(recovered.identity.host),
            now_us=now_us,
            endpoint=f"host{recovered.identity.host}:1",
            is_learner=self.is_learner,
        )


class Cluster:
    """``hosts`` voter hosts with ids from 1, ``shards`` shards."""

    def __init__(self, hosts: int = 3, shards: int = 2, config: HostConfig | None = None) -> None:
        self.config = config or HostConfig()
        self.now_us = 1_000_000
        self.loses: Callable[[int, int, object], bool] = lambda source, target, message: False
        """Whether a message between voter hosts is lost; asked of each, in the order in which they are sent."""
        places = tuple(HostPlace(host, f"host{host}:1") for host in range(1, hosts + 1))
        self.shard_map = ShardMap.bootstrap(CLUSTER_ID, places, shards, Partitioning.HASH)
        self.processes: dict[int, Process] = {}
        self._connection = 100
        for place in places:
            store = SimStore(CLUSTER_ID, place.host, self.shard_map)
            self.processes[place.host] = Process(place.host, store, self.config, self.now_us, False)

    def add_learner(self, host: int, parent: int) -> Process:
        """A fresh learner, attached to ``parent``."""
        process = Process(host, SimStore(CLUSTER_ID, host), self.config, self.now_us, True)
        self.processes[host] = process
        self.attach(host, parent)
        return process

    def attach(self, child: int, parent: int) -> None:
        """Join the two by a link, one connection number on each side."""
        below, above = self.processes[child], self.processes[parent]
        self._connection += 2
        to_parent, to_child = self._connection, self._connection + 1
        below.links[to_parent] = above, to_child
        above.links[to_child] = below, to_parent
        below.host.step(ParentConnected(self.now_us, to_parent))

    def cut(self, process: Process, connection: int) -> None:
        """Close a link on both sides."""
        other = process.links.pop(connection, None)
        if other is not None:
            process.host.step(ConnectionClosed(self.now_us, connection))
            self.cut(*other)

    # Running.

    def run(self, seconds: float) -> None:
        """Let that much time pass, turn by turn."""
        end_us = self.now_us + int(seconds * 1e6)
        while True:
            self.settle()
            due_us = min(process.host.next_deadline_us for process in self.processes.values())
            if due_us > end_us:
                self.now_us = end_us
                return
            self.now_us = max(self.now_us, due_us)

    def settle(self) -> None:
        """Take turns until nobody has anything to do at this moment."""
        busy = True
        while busy:
            busy = False
            for host in sorted(self.processes):
                busy |= self.turn(self.processes[host])

    def turn(self, process: Process) -> bool:
        """One turn of one host, carried out at once; whether anything came of it."""
        turn = process.host.begin_turn(self.now_us)
        self._send(process, turn.messages)
        for connection, messages in turn.link_messages:
            other = process.links.get(connection)
            if other is not None:
                other[0].host.step(LinkFrameReceived(self.now_us, other[1], messages))
        for _, replies in turn.replies:
            process.replies.extend(replies)
        process.notes.extend(turn.notes)
        if turn.state_batch is not None:
            process.store.commit_state(turn.state_batch)
            process.host.step(StateFlushed(self.now_us, turn.state_batch.number))
        if turn.shard_map is not None:
            process.store.save_shard_map(turn.shard_map)
            process.host.step(ShardMapKept(self.now_us, turn.shard_map))
        for command in turn.copies:
            self._copy(process, command)
        for connection in turn.closes:
            self.cut(process, connection)
        changes = turn.replicas
        if turn.log_batch is not None:
            process.unsynced.append(turn)
        if process.is_syncing:
            self.sync(process)
        for change in changes:
            self._change_replica(process, change)
        writes = turn.log_batch or turn.state_batch or turn.copies or changes
        return bool(turn.messages or turn.link_messages or writes)

    def sync(self, process: Process) -> None:
        """Finish every log commit that waits."""
        unsynced, process.unsynced = process.unsynced, []
        for turn in unsynced:
            assert turn.log_batch is not None
            process.store.commit_log([turn.log_batch])
            self._send(process, process.host.finish_turn(turn.number, self.now_us).messages)

    def _send(self, process: Process, messages: tuple[tuple[int, tuple[object, ...]], ...]) -> None:
        for host, of_host in messages:
            receiver, source = self.processes.get(host), process.host.host
            if receiver is not None:
                arriving = tuple(message for message in of_host if not self.loses(source, host, message))
                event: Event = PeerFrameReceived(self.now_us, source, arriving)  # type: ignore[arg-type]
                receiver.host.step(event)

    def _change_replica(self, process: Process, command: ReplicaCommand) -> None:
        store = process.store
        if isinstance(command, CreateReplica):
            store.create_replica(command.replica, command.state)
            process.host.step(ReplicaCreated(self.now_us, command.state.shard))
        else:
            self.sync(process)
            store.remove_replica(command.shard, command.replica)
            store.remove_log(command.shard)
            process.host.step(ReplicaRemoved(self.now_us, command.shard))

    def _copy(self, process: Process, command: CopyCommand) -> None:
        store, host = process.store, process.host
        if isinstance(command, SpoolCopy):
            index, term, chunks = store.spool_copy(command.shard, command.copy_id)
            host.step(CopySpooled(self.now_us, command.shard, command.copy_id, index, term, chunks))
        elif isinstance(command, DropCopy):
            store.drop_copy(command.copy_id)
        elif isinstance(command, StageChunk):
            store.stage_chunk(command.shard, command.number, command.data)
        else:
            assert isinstance(command, InstallCopy)
            self.sync(process)
            try:
                state = store.install_copy(command.shard, command.index, command.term)
            except CopyRefused as refused:
                host.step(CopyRejected(self.now_us, command.shard, command.number, str(refused)))
                return
            store.reset_log(command.shard, command.index, command.term)
            host.step(CopyInstalled(self.now_us, command.shard, command.number, state))

    # What clients do.

    def leader_of(self, shard: int) -> Process:
        """The host that leads ``shard`` in the latest term."""
        leaders = [p for p in self.processes.values() if shard in p.host.leads()]
        assert leaders, f"nobody leads shard {shard}"
        return max(leaders, key=lambda process: process.host.voters[shard].raft.term)

    def ask(self, process: Process, request: ClientRequest) -> None:
        process.host.step(RequestReceived(self.now_us, CLIENT, request))

    def reply_to(self, process: Process, request_id: int) -> ClientReply | None:
        """The one answer to a request, if there is one yet."""
        found = [reply for reply in process.replies if reply.request_id == request_id]
        assert len(found) <= 1, "a request is answered once"
        return found[0] if found else None


def put_batch(sequence: int, items: dict[bytes, bytes], *, session: bytes = b"s" * 16) -> Batch:
    """A batch of unconditional puts of routing keys."""
    return Batch(session, sequence, 0, True, False, 1, bytes([PUT]) * len(items), tuple(items), tuple(items.values()))


def write_request(request_id: int, shard: int, batch: Batch) -> WriteRequest:
    return WriteRequest(request_id, shard, batch.epoch, 5_000, PlainCodec().encode_batch(batch))
