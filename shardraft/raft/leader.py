"""The leader: replicates, commits by counting, proves that it still leads (sections 5.3, 5.4.2; thesis 6.2, 6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from shardraft.errors import Overloaded
from shardraft.raft.commit_push import CommitPush
from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.handover import Handover
from shardraft.raft.lease import Lease
from shardraft.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply
from shardraft.raft.progress import Progress
from shardraft.raft.pulse import Pulse
from shardraft.raft.quorum import quorum_index
from shardraft.raft.read_index import ReadIndex
from shardraft.raft.ready import ReadState, Role
from shardraft.raft.reconfiguration import Reconfiguration
from shardraft.raft.rest import Rest
from shardraft.raft.role import RoleState
from shardraft.types import NO_REPLICA, HostId, Index, ReplicaId

if TYPE_CHECKING:
    from shardraft.raft.core import Raft

_Batches = dict[Index, tuple[tuple[Entry, ...], int]]
"""Entries and their bytes by first index: followers that are equally far get the same tuple."""

HANDOVER_MS: Final = 10
"""What a client whose proposal meets a handover is asked to wait; most take a few milliseconds."""


class Leader(RoleState):
    """Its fields are what only a leader has: the followers' progress, rounds, reads, and the log's time."""

    role: ClassVar[Role] = Role.LEADER
    __slots__ = (
        "_last_time_us",
        "_time_offset_us",
        "_uncommitted_bytes",
        "_uncommitted_bytes_max",
        "committed_own_term",
        "engaged",
        "followers",
        "handover",
        "lease",
        "progress",
        "pulse",
        "push",
        "reads",
        "reconfiguration",
        "rest",
        "round",
    )

    def __init__(self, raft: Raft) -> None:
        super().__init__(raft)
        log, now_us = raft.log, raft.now_us
        self.followers: list[Progress] = []
        self.progress: dict[ReplicaId, Progress] = {}
        self.reads = ReadIndex()
        self.round = 0
        self.pulse = Pulse(self)
        self.push = CommitPush(self)
        self.committed_own_term = False
        self._uncommitted_bytes = log.bytes_between(raft.commit_index + 1, log.last_index + 1)
        # The log's time goes on from the last entry at the pace of this host's clock: it never goes
        # back, and a clock that is far ahead of the former leader's expires nothing early.
        self._last_time_us = raft.last_time_us()
        self._time_offset_us = self._last_time_us - now_us
        self.lease = Lease(raft.config)
        self.handover = Handover(self)
        self.rest = Rest(self)
        self.reconfiguration = Reconfiguration(self)
        self.reconfiguration.follow()
        self.update_engagement()
        self.pulse.start(now_us)

    def update_engagement(self) -> None:
        """Look anew whether proposals are taken, and whether a step may follow from an answer or a commit."""
        handing_over = self.handover.target != NO_REPLICA
        takes_proposals = self.raft.is_voter and not handing_over
        self._uncommitted_bytes_max = self.raft.config.uncommitted_bytes_max if takes_proposals else -1
        self.engaged = handing_over or self.reconfiguration.under_way

    def hears_leader(self) -> bool:
        """A leader in office is itself the live leader (check-quorum ends its office when it is not)."""
        return True

    # Proposals

    def propose(self, kind: EntryKind, payload: bytes) -> Entry:
        """Append an entry of this term; followers get it with the next ready, one message for all of a turn.

        Raises ``Overloaded`` when ``uncommitted_bytes_max`` would be passed (an entry alone always fits), and
        while the leadership is being handed over.
        """
        if self._uncommitted_bytes + len(payload) > self._uncommitted_bytes_max:
            self._check_room()
        return self.append_entry(kind, payload)

    def _check_room(self) -> None:
        raft = self.raft
        if self._uncommitted_bytes_max < 0:
            raise Overloaded("the leadership is being handed over", retry_after_ms=HANDOVER_MS, shard=raft.shard)
        if self._uncommitted_bytes:
            raise Overloaded(f"{self._uncommitted_bytes} bytes wait to be committed", shard=raft.shard)

    def open_term(self) -> None:
        """Append the empty entry whose commit commits everything before it (section 8; 5.4.2)."""
        self.append_entry(EntryKind.NOOP, b"")

    @property
    def time_us(self) -> int:
        """The leader's time at this moment; never below that of the last entry."""
        return max(self.raft.now_us + self._time_offset_us, self._last_time_us)

    def append_entry(self, kind: EntryKind, payload: bytes) -> Entry:
        """Append an entry of this term, whatever the limits say."""
        raft, log = self.raft, self.raft.log
        self.rest.end()
        self._last_time_us = time_us = self.time_us
        entry = encode_entry(raft.shard, log.last_index + 1, raft.term, kind, time_us, payload)
        log.append((entry,))
        self._uncommitted_bytes += len(entry.encoded)
        return entry

    # Reads

    def read_index(self, context: int) -> None:
        """Take a linearizable read; raises ``Overloaded`` at ``read_indexes_max`` unanswered ones."""
        raft = self.raft
        if self.reads.count >= raft.config.read_indexes_max:
            raise Overloaded(f"{self.reads.count} reads wait for a round", shard=raft.shard)
        self.rest.end()
        if self.committed_own_term:
            self._add_read(context)
        else:
            self.reads.wait(context)

    def _add_read(self, context: int) -> None:
        raft = self.raft
        if raft.is_sole_voter or self.lease.holds(raft.now_us):
            raft.outbox.read_states.append(ReadState(context, raft.commit_index))
        else:
            self.reads.add(context, raft.commit_index)

    # The commit rule

    def count_replicas(self) -> None:
        """Commit what a majority has durably, if its term is the current one (section 5.4.2, Figure 8).

        The leader counts itself by what its own disk has finished, no more.
        """
        raft = self.raft
        matched = {progress.replica: progress.match_index for progress in self.followers}
        matched[raft.replica] = raft.log.persisted_index
        index = quorum_index(raft.membership.voters, raft.membership.voters_outgoing, matched)
        if index <= raft.commit_index or raft.log.term_at(index) != raft.term:
            return
        self._uncommitted_bytes -= raft.log.bytes_between(raft.commit_index + 1, index + 1)
        raft.commit_index = index
        raft.has_ready = True
        self.push.soon()
        if not self.committed_own_term:
            self.committed_own_term = True
            for context in self.reads.take_waiting():
                self._add_read(context)
        if self.engaged:
            self.reconfiguration.advance()

    # What leaves with a ready

    def send(self) -> None:
        """Build the messages of this ready: a round if one is due, and at most one AppendEntries per follower.

        Entries carry the commit index along. Where none are sent for ``commit_push_ms``, it is sent alone.
        """
        if self.pulse.round_wanted or self.reads.forming:
            self._send_round()
        raft = self.raft
        last_index = raft.log.last_index
        batches: _Batches = {}
        for progress in self.followers:
            if progress.wants_append(last_index):
                self._send_append(progress, batches)
        self.push.send()

    def _send_round(self) -> None:
        raft = self.raft
        self.pulse.round_sent()
        self.round += 1
        self.reads.begin_round(self.round)
        self.lease.round_sent(self.round, raft.now_us)
        if self.engaged:
            self.reconfiguration.round_sent(self.round)
        for progress in self.followers:
            commit_index = min(raft.commit_index, progress.match_index)
            raft.outbox.messages.append(
                Heartbeat(raft.shard, raft.term, raft.replica, progress.replica, commit_index, self.round)
            )
        if raft.is_sole_voter:
            self._count_rounds()  # Its own acknowledgement is all there will be.

    def _send_append(self, progress: Progress, batches: _Batches) -> None:
        raft, log = self.raft, self.raft.log
        prev_log_index = progress.next_index - 1
        prev_log_term = log.term_at(prev_log_index)
        if prev_log_term is None:
            if self.reconfiguration.has_departed(progress.replica):
                self.reconfiguration.dismiss([progress.replica])  # It needs no snapshot to learn that it left.
                return
            progress.become_copy()
            raft.outbox.copies_wanted.append(progress.replica)
            return
        entries, entry_bytes = self._entries_for(progress, batches)
        target = progress.replica
        append = AppendEntries(
            raft.shard, raft.term, raft.replica, target, prev_log_index, prev_log_term, raft.commit_index, entries
        )
        raft.outbox.messages.append(append)
        progress.sent(prev_log_index + len(entries), entry_bytes, raft.commit_index, raft.now_us)
        if progress.wants_append(log.last_index):
            raft.has_ready = True  # More than one message holds: the rest follows with the next ready.

    def _entries_for(self, progress: Progress, batches: _Batches) -> tuple[tuple[Entry, ...], int]:
        low, last_index = progress.next_index, self.raft.log.last_index
        if low > last_index or progress.window_full:
            return (), 0
        known = batches.get(low)
        if known is None:
            config = self.raft.config
            high = min(last_index + 1, low + config.append_entries_max)
            entries = self.raft.log.entries(low, high, config.append_bytes_max)
            known = batches[low] = entries, self.raft.log.bytes_between(low, low + len(entries))
        return known

    # Answers

    def count_append(self, message: AppendEntriesReply) -> None:
        """A follower matched and persisted, or refused and says where the logs can agree (section 5.3)."""
        raft = self.raft
        progress = self.progress.get(message.from_replica)
        if progress is None:
            return  # It is not a member any more.
        if message.match_index > raft.log.last_index:
            raft.refuse(f"replica {message.from_replica} acknowledges entry {message.match_index}, never sent")
            return
        progress.active_us = raft.now_us
        if not message.success:
            self.rest.end()
            self._back_off(progress, message)
        elif progress.acknowledged(message.match_index):
            progress.resume_from_log(raft.log.first_index)
            self.count_replicas()
            if progress.commit_sent < raft.commit_index:
                self.push.soon()
        raft.has_ready = True
        if self.engaged:
            self._advance(progress)

    def _back_off(self, progress: Progress, message: AppendEntriesReply) -> None:
        """The logs agree at the latest where neither term is above the other's: skip the rest at once."""
        agree_index = self.raft.log.last_index_of_term_at_most(message.conflict_term, message.conflict_index)
        progress.refused(message.match_index, min(agree_index, message.conflict_index))

    def count_round(self, message: HeartbeatReply) -> None:
        """A follower still follows: this answers the reads of every round that a quorum has acknowledged."""
        raft = self.raft
        progress = self.progress.get(message.from_replica)
        if progress is None:
            return
        if message.round > self.round:
            raft.refuse(f"replica {message.from_replica} acknowledges round {message.round}, never sent")
            return
        progress.active_us = raft.now_us
        if message.round > progress.round:
            progress.round = message.round
            if self.reads.unacknowledged or raft.lease_us:
                self._count_rounds()
            if self.engaged:
                self._advance(progress)
        if progress.heartbeat_answered(raft.log.last_index, raft.heartbeat_us, raft.now_us):
            raft.has_ready = True

    def _advance(self, progress: Progress) -> None:
        """``progress`` answered while something is under way that may rest on it."""
        self.handover.advance()
        self.reconfiguration.acknowledged(progress)

    def _count_rounds(self) -> None:
        """A quorum acknowledged this round and every earlier one: their reads are answered, and the lease begins."""
        raft = self.raft
        rounds = {progress.replica: progress.round for progress in self.followers}
        rounds[raft.replica] = self.round
        number = quorum_index(raft.membership.voters, raft.membership.voters_outgoing, rounds)
        self.lease.acknowledged(number)
        answered = self.reads.acknowledged(number)
        if answered:
            raft.outbox.read_states += answered
            raft.has_ready = True

    # Time and office

    def on_deadline(self) -> None:
        """The commit index is to be told, or a heartbeat is due."""
        raft = self.raft
        raft.has_ready = True
        if raft.now_us >= self.pulse.due_us:
            self._on_beat()

    def _on_beat(self) -> None:
        """Begin a round if it takes one; but who heard no quorum, or whose disk hangs, steps down (thesis 6.2)."""
        raft = self.raft
        if raft.now_us - self._quorum_heard_us() > raft.election_timeout_us_max:
            raft.become_follower(raft.term, NO_REPLICA, "no quorum was heard for an election timeout")
        elif raft.disk_is_stalled:
            raft.become_follower(raft.term, NO_REPLICA, "a write is not durable after an election timeout")
        elif not self.rest.begin():
            self.pulse.beat()
            self.handover.on_deadline()
            if self.engaged:
                self.reconfiguration.on_deadline()

    def _quorum_heard_us(self) -> int:
        raft = self.raft
        heard = {progress.replica: progress.active_us for progress in self.followers}
        heard[raft.replica] = raft.now_us
        return quorum_index(raft.membership.voters, raft.membership.voters_outgoing, heard)

    # The configuration

    def membership_changed(self) -> None:
        """Another configuration is in effect: whom to send to, and what a majority is (section 6).

        What that commits is counted when the entry that brought it is durable here.
        """
        self.reconfiguration.follow()
        self.lease.renew()
        self.update_engagement()
        self._count_rounds()

    def asked_for_vote(self, replica: ReplicaId) -> None:
        """A replica that left and does not know it is told so; one that hears nothing is to hear something."""
        self.wake()
        self.reconfiguration.recall(replica)

    def retire(self) -> None:
        """The configuration without this leader is committed (thesis 4.2.2): say so, let another take over, and go."""
        raft = self.raft
        self.push.at_once()
        self.send()
        successor = self.handover.best_for_retirement()
        if successor != NO_REPLICA:
            self.handover.tell(successor)
        raft.become_follower(raft.term, NO_REPLICA, "it left the configuration")

    def step_down(self) -> None:
        """The office ends, and with it every read that was not answered."""
        self.rest.end()
        self.raft.outbox.reads_lost += self.reads.lose_all()

    def wake(self) -> None:
        """End a rest with a round at once."""
        if self.rest.resting:
            self.rest.end()
            self.pulse.round_wanted = True
            self.raft.has_ready = True

    def disconnected(self, host: HostId) -> None:
        """What was in flight to ``host`` is likely lost."""
        self.wake()
        progress = self.progress.get(self.raft.membership.replica_on(host))
        if progress is not None:
            progress.disconnected(self.raft.now_us)

    def connected(self, host: HostId) -> None:
        """Tell the replica on ``host`` at once who leads, and ask where its log ends."""
        self.wake()
        progress = self.progress.get(self.raft.membership.replica_on(host))
        if progress is not None:
            progress.connected()
            self.raft.has_ready = True

    def copy_finished(self, replica: ReplicaId, index: Index | None) -> None:
        """The snapshot for ``replica`` is installed at ``index``, or failed (None)."""
        progress = self.progress.get(replica)
        if progress is not None and progress.copying:
            progress.copy_finished(index, self.raft.log.last_index, self.raft.now_us)
            self.raft.has_ready = True
