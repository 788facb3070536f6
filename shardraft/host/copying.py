"""Copies of whole shards, as the host sees them: who needs one, who is receiving one, and when it is installed.

``outbound_copies`` and ``copy`` hold the transfers; ``copy_orders``, ``ordered_copies`` and ``copy_admission`` are a
leader's, a source's and a target's side of those that a leader lets others send (decision 0016). This file ties them
to Raft, to the feed, to the flush of applied state and to the outbox.
"""

from __future__ import annotations

from collections.abc import Callable

from shardraft.config import Limits
from shardraft.host.copy import CopyReceiver, CopyTarget, Received
from shardraft.host.copy_admission import CopyAdmission
from shardraft.host.copy_orders import CopyOrders
from shardraft.host.events import CopyInstalled, CopyRejected, CopySpooled
from shardraft.host.flushing import Flushing
from shardraft.host.learning import LearnerReplica
from shardraft.host.messages import CopyChunk, CopyOrder, CopyReply, OrderedChunk
from shardraft.host.ordered_copies import OrderedCopies
from shardraft.host.outbound_copies import OutboundCopies
from shardraft.host.outbox import Outbox
from shardraft.host.replica import Replica
from shardraft.host.tree import Tree
from shardraft.host.turn import CopyNote, InstallCopy
from shardraft.host.voter import Voter
from shardraft.kv.machine import MachineState
from shardraft.raft.core import Raft
from shardraft.raft.membership import decode_membership
from shardraft.types import HostId, Index, Membership, ReplicaId, ShardId


class Copying:
    """Sends copies to followers and learners, and takes them in for the replicas of this host.

    ``touch`` lets a voter take part in the next turn.
    """

    def __init__(
        self,
        limits: Limits,
        first_order: int,
        outbound: OutboundCopies,
        outbox: Outbox,
        flushing: Flushing,
        tree: Tree,
        voters: dict[ShardId, Voter],
        touch: Callable[[Voter], None],
    ) -> None:
        self._limits = limits
        self._outbound = outbound
        self._outbox = outbox
        self._flushing = flushing
        self._tree = tree
        self._voters = voters
        self._touch = touch
        self.orders = CopyOrders(limits, first_order, voters, outbox, self._send_ourselves)
        self._ordered = OrderedCopies(limits, outbound, outbox, flushing, voters)
        self._admission = CopyAdmission()
        self._receivers: dict[ShardId, CopyReceiver] = {}
        self._sources: dict[ShardId, int] = {}
        self._held: list[tuple[Replica, InstallCopy]] = []
        self.deadline_us: int | None = None
        """When the next ``turn`` is due, as the last one saw it; None while there is nothing to copy."""

    # Sending.

    def wanted_by_follower(self, voter: Voter, replica: ReplicaId, now_us: int) -> None:
        """The follower's next entry is compacted here: let another send it a copy, or else do so."""
        if not self.orders.give(voter, replica, now_us):
            self._send_ourselves(voter, replica, now_us)

    def _send_ourselves(self, voter: Voter, replica: ReplicaId, now_us: int) -> None:
        raft = voter.raft
        target = CopyTarget(voter.shard, voter.host_of(replica), 0, raft.term, raft.replica, replica)
        self._outbound.want(target, now_us)

    def leadership_lost(self, shard: ShardId, now_us: int) -> None:
        self._outbound.forget_followers(shard, now_us)

    def leave(self, shard: ShardId, now_us: int) -> bool:
        """The replica of ``shard`` leaves this host: its copies end. False while the store works on one."""
        self._receivers.pop(shard, None)
        self._admission.forget(shard)
        return self.stop_sending(shard, now_us)

    def stop_sending(self, shard: ShardId, now_us: int) -> bool:
        """Nobody is sent a copy of ``shard`` any more, nor let send one. False while the store works on one."""
        self.orders.forget(shard)
        self._ordered.forget(shard)
        return self._outbound.leave(shard, now_us)

    def connection_closed(self, connection: int, now_us: int) -> None:
        self._outbound.forget_connection(connection, now_us)

    def reply_of_follower(self, host: HostId, message: CopyReply, now_us: int) -> None:
        self._outbound.reply_of_follower(host, message, now_us)

    def reply_of_child(self, connection: int, message: CopyReply, now_us: int) -> None:
        self._outbound.reply_of_child(connection, message, now_us)

    def spooled(self, event: CopySpooled) -> None:
        self._outbound.spooled(event)

    def needed_above(self, shard: ShardId) -> Index | None:
        """Entries above this index are or may be asked for by those who receive a copy of this host, or just did."""
        return self._outbound.needed_above(shard)

    def index_on_its_way_to(self, shard: ShardId, replica: ReplicaId) -> Index:
        """The index of the copy that is on its way to that follower; 0 while it is not known."""
        if self.orders.has_given(shard, replica):
            return self.orders.index_on_its_way_to(shard, replica)
        voter = self._voters[shard]
        return self._outbound.index_on_its_way_to(shard, voter.host_of(replica))

    def turn(self, now_us: int) -> None:
        """Send what may be sent, and tell Raft and the feed what was finished or failed."""
        for connection, shard in self._tree.take_copies_wanted():
            self._outbound.want(CopyTarget(shard, connection=connection), now_us)
        self.deadline_us = None
        if self.orders.idle and self._ordered.idle and self._outbound.idle:
            return  # The case of nearly every turn.
        self.orders.turn(now_us)
        self._ordered.turn(now_us)
        if not self._outbound.idle:
            self._send(now_us)
        due = (self._outbound.next_deadline_us, self.orders.deadline_us, self._ordered.deadline_us)
        self.deadline_us = min((deadline_us for deadline_us in due if deadline_us is not None), default=None)

    def _send(self, now_us: int) -> None:
        outbound = self._outbound
        deadline_us = outbound.next_deadline_us
        if deadline_us is not None and deadline_us <= now_us:
            outbound.tick(now_us)
        ready = outbound.take_ready(now_us)
        for target, chunk in ready.chunks:
            if target.host:
                self._outbox.to_host(target.host, chunk)
            else:
                self._outbox.to_link(target.connection, chunk)
        self._outbox.copies.extend(ready.commands)
        self._outbox.notes.extend(ready.notes)
        for target, index in ready.finished:
            self._sent(target, index)
        for target in ready.failed:
            self._sent(target, None)

    def _sent(self, target: CopyTarget, index: Index | None) -> None:
        if target.order:
            self._ordered.ended(target, index)
        elif target.host:
            voter = self._voters[target.shard]
            voter.raft.copy_finished(target.to_replica, index)
            self._touch(voter)
        elif index is None:
            self._outbox.closes.append(target.connection)
        else:
            self._tree.feed.copy_finished(target.connection, target.shard, index)

    # Receiving.

    def ordered(self, voter: Voter, host: HostId, order: CopyOrder, now_us: int) -> None:
        """The leader that is followed says who sends a copy to whom: this replica, to this replica, or neither."""
        raft = voter.raft
        if order.term < raft.term:
            return  # It is of a leader that was.
        if (order.term, order.from_replica) != (raft.term, raft.leader) or order.source == order.target:
            raft.refuse(f"replica {order.from_replica} orders a snapshot in term {order.term}")
        elif order.target == raft.replica:
            if self._admission.admit(voter, order):
                self._receiver(voter.shard).abandon()
        elif order.source == raft.replica:
            self._ordered.take(voter, host, order, now_us)
        else:
            self._ordered.withdraw(order, now_us)

    def installs_ordered(self, shard: ShardId) -> bool:
        """Whether the copy that is being installed here was sent by another than the leader."""
        receiver = self._receivers.get(shard)
        return receiver is not None and receiver.installs_ordered

    def chunk_for_follower(self, voter: Voter, host: HostId, chunk: CopyChunk, now_us: int) -> None:
        """A follower takes what its leader sends, or ordered another to send, unless it needs no copy (section 7)."""
        raft = voter.raft
        if isinstance(chunk, OrderedChunk):
            if not self._admission.admits(voter, chunk):
                return
        elif not raft.accept_copy(chunk.from_replica, chunk.term, now_us):
            return
        elif self._admission.withdraw(voter.shard):
            self._receiver(voter.shard).abandon()
        own_index = raft.commit_index
        if raft.log.term_at(chunk.index) == chunk.index_term:
            own_index = max(own_index, chunk.index)  # It holds that very entry: the log is enough.
        received = self._receiver(voter.shard).receive(host, chunk, own_index, now_us)
        if received.reply is not None:
            self._outbox.to_host(host, received.reply)
        self._take(voter, host, received)

    def chunk_from_parent(self, connection: int, chunk: CopyChunk, now_us: int) -> None:
        """A learner takes a chunk that its parent announced; others are not for its log."""
        learner = self._tree.learner
        replica = self._tree.replicas.get(chunk.shard)
        if learner is None or replica is None:
            return
        receiver = self._receiver(chunk.shard)
        if not (learner.wants_copy(chunk.shard) or receiver.installing):
            return
        received = receiver.receive(learner.parent, chunk, replica.last_index, now_us)
        if received.reply is not None:
            self._outbox.to_link(connection, received.reply)
        self._take(replica, connection, received)

    def _receiver(self, shard: ShardId) -> CopyReceiver:
        receiver = self._receivers.get(shard)
        if receiver is None:
            receiver = self._receivers[shard] = CopyReceiver(shard, self._limits)
        return receiver

    def _take(self, replica: Replica, source: int, received: Received) -> None:
        for command in received.commands:
            if isinstance(command, InstallCopy):
                self._sources[replica.shard] = source
                self._begin_install(replica, command)
            else:
                self._outbox.copies.append(command)

    def _begin_install(self, replica: Replica, command: InstallCopy) -> None:
        """From here on the replica takes no entries, applies nothing and serves nothing, until it is installed."""
        if isinstance(replica, Voter):
            allowed = replica.raft.begin_restore(command.index, command.term)
            assert allowed, "a copy of what is held or committed here was refused at its first chunk"
        else:
            assert isinstance(replica, LearnerReplica)
        replica.installing = True
        replica.serving = False
        self._note(replica.shard, f"installing a copy at index {command.index}")
        self._flushing.set_aside(replica)
        self._held.append((replica, command))

    def begin_installs(self, has_unsubmitted: Callable[[ShardId], bool]) -> None:
        """Hand out the installs that nothing may land behind any more; call it once a turn's log batch is made.

        A write of the shard that still waits for a place in flight would reach the log after it was reset,
        and an image on its way to the disk would overwrite the copy: the install waits for both.
        """
        if not self._held:
            return
        held, self._held = self._held, []
        for replica, command in held:
            if self._flushing.is_flushing(replica) or has_unsubmitted(command.shard):
                self._held.append((replica, command))
            else:
                self._outbox.copies.append(command)

    def installed(self, event: CopyInstalled) -> None:
        """State and log on disk are the copy's: go on from there, and say so to its source."""
        state = event.state
        replica = self._end_install(event.shard, self._receivers[event.shard].installed(event.number))
        self._flushing.replaced(replica)
        if isinstance(replica, Voter):
            raft = replica.raft
            replica.machine.restore(state)
            raft.restore(state.last_applied, state.last_applied_term, _membership_of(state, raft), state.time_us)
        else:
            assert isinstance(replica, LearnerReplica)
            replica.restore(state)
            self._tree.restored(replica)
        self._note(event.shard, f"installed a copy at index {state.last_applied}")

    def rejected(self, event: CopyRejected) -> None:
        """The chunks were no such snapshot: state and log are as they were, and the source makes another."""
        replica = self._end_install(event.shard, self._receivers[event.shard].rejected(event.number))
        self._flushing.take_back(replica, event.now_us)
        if isinstance(replica, Voter):
            replica.raft.abandon_restore()
        else:
            assert isinstance(replica, LearnerReplica)
            self._tree.restored(replica)
        self._note(event.shard, f"a copy was rejected: {event.reason}")

    def _end_install(self, shard: ShardId, reply: CopyReply | None) -> Replica:
        """The replica may take entries, apply and serve again, unless it stopped; its source hears how it went."""
        source = self._sources.pop(shard)
        voter = self._voters.get(shard)
        replica: Replica = voter if voter is not None else self._tree.replicas[shard]
        replica.installing = False
        replica.serving = voter is None or not voter.stopped
        if voter is not None:
            self._touch(voter)
            if reply is not None:
                self._outbox.to_host(source, reply)
        elif reply is not None:
            self._outbox.to_link(source, reply)
        return replica

    def _note(self, shard: ShardId, what: str) -> None:
        self._outbox.notes.append(CopyNote(shard, self._tree.feed.host, what))


def _membership_of(state: MachineState, raft: Raft) -> Membership:
    """The configuration as of a copy. One of an earlier program does not say; then nothing ever changed it."""
    return decode_membership(state.membership) if state.membership else raft.configurations.at(state.last_applied)
