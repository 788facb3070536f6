"""A small world for Raft groups: replicas with disks of their own, and messages that wait to be delivered.

Nothing happens by itself. A test takes readies, finishes writes, delivers messages and lets time
pass, one by one or with ``stabilize``, which does all of it until nothing is left to do. A disk
keeps exactly the writes that were finished; a crash loses the others. Replica n is on host n.

Every message that leaves is checked against the disk it must rest on, every append and commit
against what all other replicas appended and committed (``Law``).
"""

from __future__ import annotations

import random
from collections import deque

import attrs

from shardraft.config import RaftConfig
from shardraft.raft.core import Raft
from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.log import RaftLog
from shardraft.raft.membership import UNKNOWN, MembershipChange, decode_membership
from shardraft.raft.messages import RaftMessage
from shardraft.raft.ready import BecameLeader, HardState, RaftNote, ReadLost, ReadState, Ready, Refused, Role
from shardraft.types import NO_REPLICA, HostId, Index, Member, Membership, ReplicaId, Term
from tests.raft.law import NOBODY, SHARD, Copy, CopyDone, Disk, Law, Lost, Message, is_quorum

ONE_SECOND_US = 1_000_000


class Node:
    """One replica, its disk, and the readies whose writes are not finished.

    ``drift_ppm``: how far the rate of its clock is off.
    """

    def __init__(self, cluster: Cluster, replica: ReplicaId, membership: Membership, drift_ppm: int = 0) -> None:
        self.cluster = cluster
        self.replica = replica
        self.drift_ppm = drift_ppm
        self.disk = Disk(membership)
        self.disk_paused = False
        self.pending: deque[Ready] = deque()
        self.notes: list[RaftNote] = []
        self.read_states: list[ReadState] = []
        self.reads_lost: list[ReadLost] = []
        self.copies_wanted: list[ReplicaId] = []
        self.checked_index: Index = 0
        self.raft = self._start()

    def _start(self) -> Raft:
        cluster, disk = self.cluster, self.disk
        config = cluster.config
        log = RaftLog(SHARD, disk, disk.summary(), cache_bytes_max=config.log_cache_bytes_max)
        return Raft(
            shard=SHARD,
            replica=self.replica,
            membership=disk.membership,
            log=log,
            hard_state=disk.hard_state,
            config=config,
            random=random.Random(cluster.random.getrandbits(32)),
            now_us=self.now_us,
            time_us=disk.time_us,
            preferred=cluster.preferred,
        )

    @property
    def now_us(self) -> int:
        """What this replica's own clock shows."""
        return self.cluster.now_us * (1_000_000 + self.drift_ppm) // 1_000_000

    def memberships(self) -> list[Membership]:
        """The configuration in effect here, as the law reads it from the log, and the one that was before this turn.

        A commit may have been counted by the one, and have led to the other at once.
        """
        log, index = self.raft.log, self.raft.log.last_index
        found = []
        while index >= log.first_index and (index, log.term_at(index)) not in self.cluster.law.appended:
            (entry,) = log.entries(index, index + 1, 0)  # It is not written yet.
            if entry.kind == EntryKind.MEMBERSHIP:
                found.append(decode_membership(entry.payload))
            index -= 1
        return [*found, self.membership_at(index)]

    @property
    def membership(self) -> Membership:
        return self.memberships()[0]

    def membership_at(self, index: Index) -> Membership:
        return self.cluster.law.membership_at(index, self.raft.log, self.disk.membership)[1]

    def restart(self) -> None:
        """Crash, losing every write that is not finished, and start from the disk."""
        self.pending.clear()
        self.copies_wanted.clear()
        self.checked_index = 0
        self.raft = self._start()

    def take(self) -> Ready:
        """Take what came of the inputs; its messages leave, its write begins."""
        before = self.raft.log.last_index
        ready = self.raft.take_ready()
        assert ready.write is not None or not ready.messages_after_persist
        if ready.write is not None:
            self.pending.append(ready)
            for entry in ready.write.entries:
                self.cluster.law.check_entry(entry, self.raft.log, self.disk.membership)
        self.notes += ready.notes
        self.read_states += ready.read_states
        self.reads_lost += ready.reads_lost
        self.copies_wanted += ready.copies_wanted
        for note in ready.notes:
            if isinstance(note, BecameLeader):
                self.cluster.law.check_leader(note, self.replica, self.membership)
            self.cluster.say(self.replica, note)
        for state in ready.read_states:
            self.cluster.say(self.replica, state)
        for lost in ready.reads_lost:
            self.cluster.say(self.replica, lost)
        self._send(ready.messages)
        self.check_commits()
        assert self.raft.log.last_index == before, "taking a ready appends nothing"
        return ready

    def persist(self) -> None:
        """Finish the oldest write; what rests on it leaves."""
        ready = self.pending.popleft()
        assert ready.write is not None
        self.disk.write(ready.write)
        self._send(ready.messages_after_persist)
        self.raft.persisted(ready.write)
        self.check_commits()

    def install(self, copy: Copy) -> None:
        """Install a snapshot: earlier writes finish first, then the log is reset, then the core is told."""
        while self.pending:
            self.persist()
        self.disk.reset(copy.index, copy.index_term, copy.time_us, copy.membership)
        self.raft.restore(copy.index, copy.index_term, copy.membership, copy.time_us)
        self.checked_index = copy.index

    def check_commits(self) -> None:
        raft, law = self.raft, self.cluster.law
        low = max(self.checked_index + 1, raft.log.first_index)
        for entry in raft.log.entries(low, raft.commit_index + 1, 1 << 30):
            law.check_commit(entry)
        if raft.role is Role.LEADER and raft.commit_index > self.checked_index:
            self._check_durable_on_majority(raft.commit_index)
        self.checked_index = max(self.checked_index, raft.commit_index)

    def _check_durable_on_majority(self, index: Index) -> None:
        entry = self.raft.log.entries(index, index + 1, 0)[0]
        held = {node.replica for node in self.cluster.nodes.values() if node.holds_durably(entry)}
        memberships = self.memberships()
        assert len(memberships) <= 2, "two changes of membership in one turn"
        assert any(is_quorum(each, held) for each in memberships), f"{entry!r} was committed with {held}: {memberships}"

    def holds_durably(self, entry: Entry) -> bool:
        return entry.index < self.disk.first_index or self.disk.entry(entry.index) == entry

    def _send(self, messages: tuple[RaftMessage, ...]) -> None:
        for message in messages:
            assert message.from_replica == self.replica
            self.cluster.law.check_message(message, self.disk)
            self.cluster.send(message)


def group(*replicas: ReplicaId) -> Membership:
    """The plain configuration of these voters; replica n is on host n."""
    return Membership.of({replica: replica for replica in replicas})


class Cluster:
    """Replicas 1..n of one group. ``messages`` are on their way; ``cuts`` are directed links that lose everything."""

    def __init__(
        self,
        voters: tuple[ReplicaId, ...] = (1, 2, 3),
        *,
        voters_outgoing: tuple[ReplicaId, ...] = (),
        config: RaftConfig | None = None,
        seed: int = 1,
        preferred: ReplicaId = NO_REPLICA,
    ) -> None:
        self.random = random.Random(seed)
        # Stories are told in messages: a commit index that waits for company would only blur them.
        self.config = RaftConfig(commit_push_ms=0) if config is None else config
        plain = Membership.of({replica: replica for replica in sorted({*voters, *voters_outgoing})})
        self.membership = attrs.evolve(plain, voters=voters, voters_outgoing=voters_outgoing)
        self.now_us = 0
        self.law = Law()
        self.messages: list[Message] = []
        self.cuts: set[tuple[ReplicaId, ReplicaId]] = set()
        self.trace: list[tuple[ReplicaId, object]] = []
        self.preferred = preferred
        self.destroyed: set[ReplicaId] = set()
        replicas = [member.replica for member in self.membership.members]
        self.nodes = {replica: Node(self, replica, self.membership) for replica in replicas}

    def raft(self, replica: ReplicaId) -> Raft:
        return self.nodes[replica].raft

    def node(self, replica: ReplicaId) -> Node:
        """A replica; one that nobody has met yet starts empty, as the host of a new member would make it."""
        if replica not in self.nodes:
            self.nodes[replica] = Node(self, replica, UNKNOWN)
        return self.nodes[replica]

    # Messages

    def say(self, replica: ReplicaId, what: object) -> None:
        self.trace.append((replica, what))

    def send(self, message: Message) -> None:
        self.messages.append(message)

    def deliver(self, message: Message) -> None:
        """Hand over a message, wherever it comes from; a cut link loses it."""
        if (message.from_replica, message.to_replica) in self.cuts:
            self.say(NOBODY, Lost(message))
            return
        if message.to_replica in self.destroyed:
            return
        node = self.node(message.to_replica)
        if isinstance(message, Copy):
            self.say(NOBODY, message)
            self._deliver_copy(node, message)
        elif isinstance(message, CopyDone):
            node.raft.copy_finished(message.from_replica, message.index)
        else:
            self.say(NOBODY, message)
            node.raft.step(message, node.now_us)
        node.check_commits()

    def _deliver_copy(self, node: Node, copy: Copy) -> None:
        if not node.raft.accept_copy(copy.from_replica, copy.term, node.now_us):
            self.send(CopyDone(node.replica, copy.from_replica, None))
            return
        if node.raft.begin_restore(copy.index, copy.index_term):
            node.install(copy)
        self.send(CopyDone(node.replica, copy.from_replica, copy.index))  # It is held, by this copy or before.

    def deliver_all(self) -> None:
        """Deliver what is on its way at this moment, in order."""
        waiting, self.messages = self.messages, []
        for message in waiting:
            self.deliver(message)

    def send_copies(self, node: Node) -> None:
        """Answer every wish for a snapshot with one of all that the node has committed."""
        raft = node.raft
        for replica in node.copies_wanted:
            index = raft.commit_index
            term = raft.log.term_at(index)
            assert term is not None
            membership = node.membership_at(index)
            self.send(Copy(raft.term, node.replica, replica, index, term, raft.last_time_us(), membership))
        node.copies_wanted.clear()

    def prepare(self, replica: ReplicaId, terms: tuple[Term, ...], *, current_term: Term = 0) -> None:
        """Start ``replica`` anew from a disk that holds one entry of each of ``terms``, in that order."""
        node = self.nodes[replica]
        node.disk.entries = [
            encode_entry(SHARD, index, term, EntryKind.BATCH, index, f"{index}/{term}".encode())
            for index, term in enumerate(terms, 1)
        ]
        node.disk.hard_state = HardState(max((current_term, *terms)))
        node.restart()

    # Running

    def turn(self) -> None:
        """Every replica takes its ready, and disks that are not paused finish their writes."""
        for node in list(self.nodes.values()):
            if node.raft.has_ready:
                node.take()
            while node.pending and not node.disk_paused:
                node.persist()
            self.send_copies(node)

    def stabilize(self, turns_max: int = 200) -> None:
        """Turns and deliveries until nothing is left to do; no time passes."""
        for _ in range(turns_max):
            self.turn()
            if not self.messages and not any(node.raft.has_ready for node in self.nodes.values()):
                return
            self.deliver_all()
        raise AssertionError(f"still busy after {turns_max} turns: {self.messages[:3]}")

    def run(self, seconds: float, *, paused: tuple[ReplicaId, ...] = (), tick_ms: int = 10) -> None:
        """Let time pass, tick by tick, delivering everything; ``paused`` replicas get no ticks."""
        end_us = self.now_us + round(seconds * ONE_SECOND_US)
        while self.now_us < end_us:
            self.now_us += tick_ms * 1000
            for node in self.nodes.values():
                if node.replica not in paused:
                    node.raft.tick(node.now_us)
            self.stabilize()

    def campaign(self, replica: ReplicaId) -> None:
        """Let time pass until ``replica``, and only it, notices that its election timer ran out."""
        raft = self.raft(replica)
        assert raft.role is not Role.LEADER
        self.now_us = max(self.now_us, raft.deadline_us)
        raft.tick(self.now_us)

    def elect(self, replica: ReplicaId) -> Raft:
        self.campaign(replica)
        self.stabilize()
        raft = self.raft(replica)
        assert raft.role is Role.LEADER, raft.role
        return raft

    def elect_without_stabilizing(self, replica: ReplicaId) -> Raft:
        """Elect ``replica``, and stop before anything of its term reaches a follower."""
        self.campaign(replica)
        while self.raft(replica).role is not Role.LEADER:
            self.turn()
            self.deliver_all()
        self.turn()
        self.messages.clear()
        return self.raft(replica)

    def heartbeat(self, replica: ReplicaId) -> None:
        """Let time pass until the leader's next heartbeat is due, and deliver all that follows."""
        raft = self.raft(replica)
        assert raft.role is Role.LEADER
        self.now_us = max(self.now_us, raft.deadline_us)
        raft.tick(self.now_us)
        self.stabilize()

    def propose(self, replica: ReplicaId, text: str) -> Entry:
        return self.raft(replica).propose(EntryKind.BATCH, text.encode(), self.now_us)

    def change(self, replica: ReplicaId, add: tuple[ReplicaId, ...] = (), remove: tuple[ReplicaId, ...] = ()) -> Entry:
        """Ask ``replica`` for a change of membership; replica n is on host n."""
        change = MembershipChange(tuple(Member(new, new) for new in add), remove)
        return self.raft(replica).propose_membership(change, self.now_us)

    def destroy(self, replica: ReplicaId) -> None:
        """The host of a replica that left destroys it, and remembers its number."""
        self.law.check_left(replica, self.membership)
        del self.nodes[replica]
        self.destroyed.add(replica)

    def settle(self, seconds: float = 1.0) -> None:
        """Let everything that is under way happen, and those that left hear of it."""
        self.stabilize()
        self.run(seconds)

    # Trouble

    def lose(self, replica: ReplicaId) -> None:
        """What ``replica`` has to say gets lost on its way; its write begins."""
        self.nodes[replica].take()
        self.messages.clear()

    def isolate(self, replica: ReplicaId) -> None:
        for other in self.nodes:
            if other != replica:
                self.cuts |= {(replica, other), (other, replica)}

    def heal(self) -> None:
        self.cuts.clear()

    def disconnect(self, replica: ReplicaId, host: HostId) -> None:
        self.raft(replica).peer_disconnected(host, self.now_us)

    # Looking

    def leaders(self) -> list[ReplicaId]:
        return [node.replica for node in self.nodes.values() if node.raft.role is Role.LEADER]

    def terms(self, replica: ReplicaId) -> list[Term]:
        log = self.raft(replica).log
        return [log.term_at(index) or 0 for index in range(log.first_index, log.last_index + 1)]

    def refusals(self, replica: ReplicaId) -> list[str]:
        return [note.reason for note in self.nodes[replica].notes if isinstance(note, Refused)]
