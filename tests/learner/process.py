"""One process of a read tree in memory: real feed, learner, logs and copies; simulated disk and links.

A ``Process`` is a host reduced to what the read tree needs: it owns logs and applied state, drives
the pure parts turn by turn, and can lose everything its disk does not hold. State is the list of
checksums of the applied entries, so "is a prefix of what was committed" is one comparison.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from random import Random
from typing import Protocol

import attrs

from shardraft.config import Limits
from shardraft.errors import ProtocolError
from shardraft.host.copy import CopyReceiver, CopyTarget
from shardraft.host.events import CopySpooled
from shardraft.host.messages import CopyChunk, CopyReply, LinkMessage
from shardraft.host.outbound_copies import OutboundCopies
from shardraft.host.turn import InstallCopy, SpoolCopy, StageChunk
from shardraft.learner.feed import Feed
from shardraft.learner.learner import Learner
from shardraft.learner.messages import Attach, ChildHello, FeedAck, ParentHello
from shardraft.raft.entry import Entry
from shardraft.raft.log import RaftLog
from shardraft.raft.ready import LogSummary, LogWrite
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.types import HostId, Index, ShardId, Term

SHARDS: tuple[ShardId, ...] = (1, 2)
SHARD_MAP = ShardMap.bootstrap(b"c" * 16, (HostPlace(1, "one:1"),), shards=len(SHARDS))
LIMITS = Limits(
    children_max=4,
    feed_bytes_in_flight_max=400,
    feed_message_bytes_max=200,
    feed_link_bytes_in_flight_max=600,
    feed_turn_bytes_max=500,
    copy_chunks_in_flight_max=2,
)
_CHUNK_ENTRIES = 4


class World(Protocol):
    """What a process sees of the tree it is in."""

    now_us: int


@attrs.define
class Stored:
    """One shard on a disk: flushed state up to ``applied`` and a log that starts at ``first_index``."""

    applied: list[int] = attrs.field(factory=list)
    applied_term: Term = 0
    first_index: Index = 1
    previous_term: Term = 0
    log: list[Entry] = attrs.field(factory=list)

    @property
    def last_index(self) -> Index:
        return self.first_index + len(self.log) - 1

    def reset_log(self) -> None:
        self.first_index, self.previous_term = len(self.applied) + 1, self.applied_term
        self.log = []

    def compact_to(self, index: Index) -> None:
        if index >= self.first_index:
            dropped = index - self.first_index + 1
            self.previous_term = self.log[dropped - 1].term
            del self.log[:dropped]
            self.first_index = index + 1


class Replica:
    """One shard in a process: the ``LearnerShard`` of learners, and the source of the voter's feed."""

    def __init__(self, process: Process, shard: ShardId) -> None:
        stored = process.disk[shard]
        if stored.last_index < len(stored.applied):
            stored.reset_log()  # A crash between the two halves of an installation; the store reconciles it.
        terms = tuple(item.term for item in stored.log)
        sizes = tuple(len(item.encoded) for item in stored.log)
        summary = LogSummary(stored.first_index, stored.previous_term, terms, sizes)
        self.shard = shard
        self.process = process
        self.log = RaftLog(shard, process, summary, cache_bytes_max=300)
        self.applied = list(stored.applied)
        self.receiver = CopyReceiver(shard, LIMITS)
        self.staged: list[bytes] = []
        self.install: InstallCopy | None = None

    @property
    def last_index(self) -> Index:
        return self.log.last_index

    @property
    def last_term(self) -> Term:
        return self.log.last_term

    @property
    def last_applied(self) -> Index:
        return len(self.applied)

    @property
    def applied_hash(self) -> int:
        return zlib.crc32(struct.pack(f"<{len(self.applied)}I", *self.applied)) if self.applied else 0

    @property
    def installing(self) -> bool:
        return self.receiver.installing

    def hash_at(self, index: Index) -> int | None:
        return self.applied_hash if index == len(self.applied) else None

    def accept(self, entries: tuple[Entry, ...], commit_index: Index) -> None:
        self.log.append(entries)
        self.process.feed.committed(self.shard, self.log.last_index)

    def apply(self, up_to: Index) -> None:
        low = len(self.applied) + 1
        if low <= up_to and not self.installing:
            self.applied += [item.checksum for item in self.log.entries(low, up_to + 1, 1 << 30)]


class Link:
    """One connection: ordered frames both ways, until it breaks. Each end learns of that in its own time."""

    def __init__(self, connection: int, child: Process, parent: Process) -> None:
        self.connection = connection
        self.child = child
        self.parent = parent
        self.up: deque[tuple[LinkMessage, ...]] = deque()
        self.down: deque[tuple[LinkMessage, ...]] = deque()
        self.is_open = True
        self.is_stuck = False

    def close(self) -> None:
        self.is_open = False
        self.up.clear()
        self.down.clear()


class Process:
    """A voter (``host`` 1) or a learner, around its disk. ``crash`` begins anew from the disk."""

    def __init__(self, host: HostId, tree: World) -> None:
        self.host = host
        self.tree = tree
        self.is_voter = host == 1
        self.incarnation = 0
        self.disk: dict[ShardId, Stored] = {shard: Stored() for shard in SHARDS} if self.is_voter else {}
        self.shard_map: ShardMap | None = SHARD_MAP if self.is_voter else None
        self.commit: dict[ShardId, Index] = dict.fromkeys(SHARDS, 0)
        self.start()

    def start(self) -> None:
        self.incarnation += 1
        self.writes: deque[LogWrite] = deque()
        self.spools: list[SpoolCopy] = []
        self.snapshots: dict[int, list[bytes]] = {}
        self.links: dict[int, Link] = {}
        self.feed = Feed(self.host, LIMITS, heartbeat_ms=50)
        self.learner = Learner(self.host, f"host{self.host}:1", LIMITS, self.shard_map)
        self.copies = OutboundCopies(
            LIMITS,
            self.incarnation << 32,
            lambda copy_id, number: self.snapshots[copy_id][number],
            lambda shard: self.replicas[shard].log.first_index,
        )
        self.replicas: dict[ShardId, Replica] = {}
        for shard in sorted(self.disk):
            self.open_shard(shard)
        if self.is_voter:
            self.feed.set_hello(ParentHello(self.host, 0, (self.host,), SHARD_MAP))

    def open_shard(self, shard: ShardId) -> None:
        replica = self.replicas[shard] = Replica(self, shard)
        commit_index = self.commit[shard] if self.is_voter else replica.last_index
        self.feed.add_shard(shard, replica.log, commit_index, replica.hash_at)
        if not self.is_voter:
            self.learner.add_shard(replica)

    def read_entries(self, shard: ShardId, low: Index, high: Index, bytes_max: int) -> list[bytes]:
        stored = self.disk[shard]
        return [item.encoded for item in stored.log[low - stored.first_index : high - stored.first_index]]

    @property
    def link_up(self) -> int:
        """The connection of the link to the parent; 0 without one."""
        return next((n for n, link in self.links.items() if link.child is self and link.is_open), 0)

    # What arrives.

    def received(self, link: Link, frame: tuple[LinkMessage, ...]) -> None:
        for message in frame:
            if link.connection not in self.links:
                return
            try:
                self.dispatch(link.connection, message, link.parent is self)
            except ProtocolError:
                self.closed(link.connection)
                link.close()

    def dispatch(self, connection: int, message: LinkMessage, from_child: bool) -> None:
        now_us = self.tree.now_us
        if isinstance(message, CopyChunk):
            self.chunk(connection, message)
        elif isinstance(message, CopyReply):
            self.copies.reply_of_child(connection, message, now_us)
        elif not from_child:
            self.learner.received(connection, message, now_us)
        elif isinstance(message, ChildHello):
            self.feed.greet(connection, message)
        elif isinstance(message, Attach):
            self.feed.attach(connection, message)
        else:
            assert isinstance(message, FeedAck)
            self.feed.acknowledged(connection, message)

    def chunk(self, connection: int, chunk: CopyChunk) -> None:
        replica = self.replicas[chunk.shard]
        if not self.learner.wants_copy(chunk.shard) and not replica.installing:
            return
        received = replica.receiver.receive(self.learner.parent, chunk, replica.last_index, self.tree.now_us)
        for command in received.commands:
            if isinstance(command, StageChunk):
                if command.number == 0:
                    replica.staged = []
                replica.staged.append(command.data)
            else:
                replica.install = command
        if received.reply is not None:
            self.send(connection, (received.reply,))

    def closed(self, connection: int) -> None:
        if self.links.pop(connection, None) is not None:
            self.learner.disconnected(connection)
            self.feed.detach(connection)
            self.copies.forget_connection(connection, self.tree.now_us)

    # What a turn does.

    def turn(self) -> None:
        now_us = self.tree.now_us
        if not self.is_voter:
            self.learner_turn(now_us)
        self.feed.tick(now_us)
        self.copies.tick(now_us)
        ready = self.feed.take_ready()
        for connection, messages in ready.messages:
            self.send(connection, messages)
        for connection, shard in ready.copies_wanted:
            self.copies.want(CopyTarget(shard, connection=connection), now_us)
        copies = self.copies.take_ready(now_us)
        self.spools += [command for command in copies.commands if isinstance(command, SpoolCopy)]
        for target, chunk in copies.chunks:
            self.send(target.connection, (chunk,))
        for target, index in copies.finished:
            self.feed.copy_finished(target.connection, target.shard, index)
        for connection in (*ready.closes, *(target.connection for target in copies.failed)):
            self.hang_up(connection)

    def learner_turn(self, now_us: int) -> None:
        self.learner.set_descendants(self.feed.descendants)
        self.learner.tick(now_us)
        for replica in self.replicas.values():
            write = replica.log.take_write()
            if write is not None:
                self.writes.append(write)
        ready = self.learner.take_ready()
        if ready.shard_map is not None:
            self.shard_map = ready.shard_map
            for item in ready.shard_map.shards:
                self.disk[item.shard] = Stored()
                self.open_shard(item.shard)
        if ready.messages:
            self.send(ready.connection, ready.messages)
        for connection in ready.closes:
            self.hang_up(connection)
        self.feed.set_hello(self.learner.hello)

    def send(self, connection: int, messages: tuple[LinkMessage, ...]) -> None:
        link = self.links.get(connection)
        if link is not None and link.is_open:
            (link.down if link.parent is self else link.up).append(messages)

    def hang_up(self, connection: int) -> None:
        link = self.links.get(connection)
        if link is not None:
            link.close()
            self.closed(connection)

    # What the disk does.

    def persist_one(self) -> None:
        """The oldest write is durable."""
        if not self.writes:
            return
        write = self.writes.popleft()
        replica = self.replicas[write.shard]
        assert self.disk[write.shard].last_index + 1 == write.entries[0].index
        self.disk[write.shard].log += write.entries
        replica.log.persisted(write)
        self.learner.persisted(write.shard, replica.log.persisted_index)

    def flush(self, shard: ShardId) -> None:
        """State up to what is applied and persisted is durable."""
        replica, stored = self.replicas[shard], self.disk[shard]
        index = min(len(replica.applied), replica.log.persisted_index)
        if index > len(stored.applied) and not replica.installing:
            stored.applied_term = replica.log.term_at(index) or 0
            stored.applied = replica.applied[:index]

    def compact(self, shard: ShardId, index: Index) -> None:
        index = min(index, len(self.disk[shard].applied))
        self.replicas[shard].log.compact_to(index)
        self.disk[shard].compact_to(index)

    def spool_one(self) -> None:
        """The oldest snapshot that was asked for is there: the flushed state, in chunks."""
        if not self.spools:
            return
        command = self.spools.pop(0)
        stored = self.disk[command.shard]
        index = len(stored.applied)
        chunks = [
            struct.pack(f"<{len(part)}I", *part)
            for part in (stored.applied[at : at + _CHUNK_ENTRIES] for at in range(0, index, _CHUNK_ENTRIES))
        ] or [b""]
        self.snapshots[command.copy_id] = chunks
        spooled = CopySpooled(self.tree.now_us, command.shard, command.copy_id, index, stored.applied_term, len(chunks))
        self.copies.spooled(spooled)

    def install_one(self, shard: ShardId) -> None:
        """A staged copy takes the place of state and log; writes that were submitted before go first."""
        replica = self.replicas[shard]
        command, replica.install = replica.install, None
        if command is None:
            return
        while self.writes:
            self.persist_one()
        self.store_copy(replica, command)
        self.disk[shard].reset_log()
        replica.applied = list(self.disk[shard].applied)
        replica.log.reset(command.index, command.term)
        reply = replica.receiver.installed(command.number)
        assert reply is not None
        self.learner.copy_installed(shard)
        self.feed.committed(shard, command.index)
        if self.learner.is_attached:
            self.send(self.link_up, (reply,))

    def store_copy(self, replica: Replica, command: InstallCopy) -> None:
        data = b"".join(replica.staged)
        state = list(struct.unpack(f"<{len(data) // 4}I", data))
        assert len(state) == command.index, "the staged chunks are the state at the copy's index"
        stored = self.disk[replica.shard]
        stored.applied, stored.applied_term = state, command.term

    def crash(self, random: Random) -> None:
        """Lose what is not on disk: some of the writes under way, and perhaps half of an installation."""
        for _ in range(random.randint(0, len(self.writes))):
            self.persist_one()
        for replica in self.replicas.values():
            if replica.install is not None and not self.writes and random.random() < 0.5:
                self.store_copy(replica, replica.install)
        for link in self.links.values():
            link.close()
        if self.is_voter:
            for shard, replica in self.replicas.items():
                self.commit[shard] = random.randint(max(replica.log.first_index - 1, 0), self.commit[shard])
        self.start()
