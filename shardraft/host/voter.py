"""One voter's replica of a shard: Raft around the log and the machine, and the clients that wait for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from typing import Final

from shardraft.config import HostConfig
from shardraft.errors import NotLeader, Overloaded, SessionExpired, ShardraftError
from shardraft.host.comparing import Comparing
from shardraft.host.messages import HashCheck
from shardraft.host.outbox import Outbox
from shardraft.host.pending import Pending, PendingRequests
from shardraft.host.reads import AnswerableReads
from shardraft.host.replica import Replica
from shardraft.host.roster import Roster
from shardraft.host.turn import ReplicaStopped
from shardraft.kv.commands import ApplyResult, Batch, BatchCodec, Refusal
from shardraft.kv.machine import Machine
from shardraft.kv.requests import WriteReply, WriteRequest
from shardraft.raft.core import Raft
from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.messages import RaftMessage
from shardraft.raft.ready import LogWrite, RaftNote, Ready, Reconfigured, Role, StateLost
from shardraft.types import INTEGER_MAX, NO_HOST, TERM_MAX, HostId, Index, ReplicaId, ShardId

_LEADER: Final = Role.LEADER
"""Every turn asks for it, and a member that is looked up on its class costs five times a constant."""

_EXPIRY_CHECKS: Final = 16
"""Idle sessions are looked for this often within one session timeout."""


class Voter(Replica):
    """One Raft group's member on this host, and the clients' requests that wait for it."""

    def __init__(
        self,
        raft: Raft,
        machine: Machine,
        codec: BatchCodec,
        config: HostConfig,
        pending: PendingRequests,
        outbox: Outbox,
        now_us: int,
        slot_bytes: int,
    ) -> None:
        super().__init__(raft.log.shard, raft.log, machine, codec, config.limits, pending)
        self.raft = raft
        self._writes: list[LogWrite] = []
        self._held_messages: list[RaftMessage] = []
        self._copies_wanted: list[ReplicaId] = []
        self._outbox = outbox
        self._slot_bytes = slot_bytes
        self._roster = Roster(raft)
        self._appended: dict[Index, Pending] = {}
        self._reads_arrived: list[Pending] = []
        self._reads_asked: dict[int, list[Pending]] = {}
        self._reads_ready: deque[tuple[Index, list[Pending]]] = deque()
        self._read_context = 0
        self._leads = False
        self.stopped = False
        """It differs from what was agreed on, or has left: it steps, votes, applies and answers nothing any more."""
        self.judged_membership: bytes | None = None
        """The applied configuration that this replica was last seen to be in."""
        self._comparing = Comparing()
        self._compared_index: Index = 0
        self._session_timeout_us = config.limits.session_timeout_ms * 1000
        self._expiry_check_us = now_us + self._session_timeout_us // _EXPIRY_CHECKS

    @property
    def commit_index(self) -> Index:
        return self.raft.commit_index

    @property
    def applied_behind(self) -> bool:
        return self.machine.last_applied < self.raft.commit_index

    @property
    def deadline_us(self) -> int:
        if self.stopped:
            return INTEGER_MAX
        deadline_us, expiry_us = self.raft.deadline_us, self._expiry_check_us
        return deadline_us if deadline_us < expiry_us else expiry_us

    def host_of(self, replica: ReplicaId) -> HostId:
        """The host of ``replica``, ``NO_HOST`` when nobody knows."""
        return self._roster[replica]

    def is_at(self, replica: ReplicaId, host: HostId) -> bool:
        """Whether ``host`` may speak for ``replica``, which may be one of a configuration not known here yet."""
        roster = self._roster
        return roster[replica] == host or (not self.has_removed(replica) and roster.meet(replica, host))

    def has_removed(self, replica: ReplicaId) -> bool:
        """Whether it is applied here that ``replica`` has left; of those that the kept log names, Raft takes care."""
        return replica <= self.machine.last_replica and self._roster[replica] == NO_HOST

    # What clients ask.

    def write(self, pending: Pending, request: WriteRequest, now_us: int) -> None:
        """Decode and validate at the door, then append: an invalid batch never reaches the log (PROTOCOL)."""
        try:
            if self.raft.role is not Role.LEADER:
                raise self._not_leader()
            batch = self._codec.decode_batch(request.payload)
            self.machine.check(batch, self._slot_bytes)
            entry = self.raft.propose(EntryKind.BATCH, request.payload, now_us)
        except ShardraftError as error:
            error.shard = self.shard
            self._pending.fail(pending, error)
            return
        pending.batch = batch
        pending.term = entry.term
        self._appended[entry.index] = pending

    def read(self, pending: Pending) -> None:
        """A linearizable read: it joins the round that this turn will send (thesis 6.4)."""
        if self.raft.role is not Role.LEADER:
            self._pending.fail(pending, self._not_leader())
        else:
            self._reads_arrived.append(pending)

    def _not_leader(self) -> NotLeader:
        return NotLeader(leader=self.raft.leader_host, shard=self.shard)

    # What a turn takes.

    def tick(self, now_us: int) -> None:
        if now_us >= self.raft.deadline_us:
            self.raft.tick(now_us)
        if now_us >= self._expiry_check_us:
            self._expiry_check_us = now_us + self._session_timeout_us // _EXPIRY_CHECKS
            self._propose_expiry(now_us)

    def _propose_expiry(self, now_us: int) -> None:
        if self.raft.leading is None:
            return
        before_us = self.machine.expirable_before(self.raft.leading.time_us)
        if before_us is not None:
            try:
                self.raft.propose(EntryKind.EXPIRY, before_us.to_bytes(8, "little"), now_us)
            except Overloaded:
                pass  # The next check proposes it again; nothing depends on when a session expires.

    def collect(self, now_us: int) -> bool:
        """Take what Raft has to say; True when this replica ceased to lead since the last time."""
        if self._reads_arrived:
            self._ask_read_index(now_us)
        if self.raft.has_ready:
            self._take(self.raft.take_ready())
        led, self._leads = self._leads, self.raft.role is _LEADER
        if self._leads:
            return False
        if self._appended or self._reads_arrived:
            self._fail_waiting()
        return led

    @property
    def has_untold(self) -> bool:
        """Whether this replica leads and followers are to learn the commit index soon."""
        leading = self.raft.leading
        return leading is not None and leading.push.is_pending

    def tell_commit(self, hosts: Container[HostId]) -> bool:
        """Let the commit index leave with the frames for ``hosts``; False when nobody is left to be told."""
        leading = self.raft.leading
        if leading is None or self.stopped:
            return False
        for message in leading.push.ride(hosts):
            self._outbox.to_host(self._roster[message.to_replica], message)
        return leading.push.is_pending

    def take_writes(self) -> Sequence[LogWrite]:
        """Log writes in order; they join the forming batch."""
        if not self._writes:
            return ()
        taken, self._writes = self._writes, []
        return taken

    def take_held_messages(self) -> Sequence[tuple[HostId, RaftMessage]]:
        """Messages that may leave once those writes are durable."""
        if not self._held_messages:
            return ()
        taken, self._held_messages = self._held_messages, []
        roster = self._roster
        return [(host, message) for message in taken if (host := roster[message.to_replica])]

    def take_copies_wanted(self) -> Sequence[ReplicaId]:
        """Followers whose next entry is compacted."""
        if not self._copies_wanted:
            return ()
        taken, self._copies_wanted = self._copies_wanted, []
        return taken

    def compact(self, index: Index) -> None:
        self.raft.compact(index)

    def pass_on_reads(self, answerable: AnswerableReads) -> None:
        """Hand on the reads whose index is applied by now."""
        while self._reads_ready and self._reads_ready[0][0] <= self.machine.last_applied:
            for pending in self._reads_ready.popleft()[1]:
                answerable.add(self, pending)

    def _ask_read_index(self, now_us: int) -> None:
        waiting, self._reads_arrived = self._reads_arrived, []
        self._read_context += 1
        try:
            self.raft.read_index(self._read_context, now_us)
        except ShardraftError as error:
            for pending in waiting:
                error.shard = self.shard
                self._pending.fail(pending, error)
            return
        self._reads_asked[self._read_context] = waiting

    def _take(self, ready: Ready) -> None:
        if ready.notes:
            self._heed(ready.notes)
            if self.stopped:
                return  # Nothing of this may leave: neither what it says nor what it would write.
        roster = self._roster
        for message in ready.messages:
            host = roster[message.to_replica]
            if host:
                self._outbox.to_host(host, message)
        if ready.messages_after_persist:
            self._held_messages.extend(ready.messages_after_persist)
        if ready.write is not None:
            self._writes.append(ready.write)
        for read_state in ready.read_states:
            self._reads_ready.append((read_state.index, self._reads_asked.pop(read_state.context)))
        for lost in ready.reads_lost:
            for pending in self._reads_asked.pop(lost.context):
                self._pending.fail(pending, self._not_leader())
        if ready.copies_wanted:
            self._copies_wanted.extend(ready.copies_wanted)

    def _heed(self, notes: tuple[RaftNote, ...]) -> None:
        self._outbox.notes.extend(notes)
        kinds = {type(note) for note in notes}
        if Reconfigured in kinds:
            self._roster.reconfigured()
        if StateLost in kinds:
            self._stop(self.raft.now_us)

    def _fail_waiting(self) -> None:
        """What was appended may still commit under the next leader: its outcome is unknown (PROTOCOL)."""
        appended, self._appended = self._appended, {}
        for pending in appended.values():
            error = NotLeader(leader=self.raft.leader_host, applied="unknown", shard=self.shard)
            self._pending.fail(pending, error)
        arrived, self._reads_arrived = self._reads_arrived, []
        for pending in arrived:
            self._pending.fail(pending, self._not_leader())

    # What replicas tell each other of what they applied.

    def check_hash(self, message: HashCheck, host: HostId) -> None:
        """``host`` leads, or led, and says what it applied; compared now or when this replica gets there."""
        if not 0 < message.index <= TERM_MAX:
            self.raft.refuse(f"replica {message.from_replica} tells its hash at entry {message.index}")
            return
        self._comparing.expect(message.index, message.applied_hash, host)

    def compare(self) -> None:
        """After something was applied: tell the others, if this replica leads, and compare what it was told."""
        machine, comparing = self.machine, self._comparing
        if machine.last_applied == self._compared_index and not comparing.expected:
            return
        self._compared_index = machine.last_applied
        reached = comparing.reached(machine.hash_checks)
        if reached is not None and self.raft.role is Role.LEADER:
            self._tell_hash(*reached)
        difference = comparing.difference(machine.hash_checks, machine.last_applied)
        if difference is not None:
            self._outbox.notes.append(ReplicaStopped(self.shard, *difference))
            self._stop(self.raft.now_us)

    def _tell_hash(self, index: Index, applied_hash: int) -> None:
        raft = self.raft
        for member in raft.membership.members:
            if member.replica != raft.replica:
                check = HashCheck(self.shard, raft.term, raft.replica, member.replica, index, applied_hash)
                self._outbox.to_host(member.host, check)

    def leave(self, now_us: int) -> None:
        """This replica has left its group: it is about to be removed, and nobody is to wait for it."""
        self._stop(now_us)

    def _stop(self, now_us: int) -> None:
        """Take part in nothing any more; those who wait for an answer, or for a sign of life, are told so."""
        raft = self.raft
        contact = raft.resting_on
        raft.wake(now_us)  # A leader's group rests on contacts, which would go on for it.
        if contact is not None:
            contact.left.add(self.shard)
        self.stopped = True
        self.serving = False
        self._fail_waiting()
        waiting = [each for _, several in self._reads_ready for each in several]
        waiting += [each for several in self._reads_asked.values() for each in several]
        self._reads_ready.clear()
        self._reads_asked.clear()
        for pending in waiting:
            self._pending.fail(pending, self._not_leader())

    # What applying calls.

    def batch_of(self, entry: Entry) -> Batch:
        pending = self._appended.get(entry.index)
        if pending is not None and pending.term == entry.term and pending.batch is not None:
            return pending.batch
        return self._codec.decode_batch(entry.payload)

    def applied_batch(self, entry: Entry, result: ApplyResult) -> None:
        pending = self._appended.pop(entry.index, None)
        if pending is None:
            return
        if pending.term != entry.term:
            # Another leader's entry took this place: what was appended here will never commit in this term,
            # yet an earlier attempt of the same batch may have, so the outcome stays unknown.
            self._pending.fail(pending, NotLeader(leader=self.raft.leader_host, applied="unknown", shard=self.shard))
        elif isinstance(result, Refusal):
            self._pending.fail(pending, _refusal_error(result, self.shard))
        else:
            self._pending.answer(pending, WriteReply(pending.request.request_id, result))


def _refusal_error(refusal: Refusal, shard: ShardId) -> ShardraftError:
    if refusal is Refusal.SESSION_EXPIRED:
        return SessionExpired(shard=shard)
    if refusal is Refusal.SESSIONS_FULL:
        return Overloaded("the shard holds as many sessions as it may, all in use", retry_after_ms=1000, shard=shard)
    assert refusal is Refusal.WINDOW_FULL
    return Overloaded("the session has too many unanswered batches", shard=shard)
