"""The follower: appends what its leader sends, votes, and waits for silence (sections 5.2, 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from shardraft.raft.contact import Contact, Place
from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CommitAdvance,
    Heartbeat,
    HeartbeatReply,
    TimeoutNow,
)
from shardraft.raft.ready import BecameFollower, Role, StateLost, Truncated
from shardraft.raft.role import RoleState
from shardraft.types import INTEGER_MAX, NO_REPLICA, Index, ReplicaId

if TYPE_CHECKING:
    from shardraft.raft.core import Raft


class Follower(RoleState):
    """Its fields are about the leader: when it was last heard and whether its connection is open."""

    role: ClassVar[Role] = Role.FOLLOWER
    __slots__ = ("_connected", "_election_us", "_heard_us", "_hint_us", "_timeout_us")

    def __init__(self, raft: Raft) -> None:
        super().__init__(raft)
        self._timeout_us = raft.draw_election_timeout_us()
        self._heard_us = raft.now_us
        self._connected = True
        self._hint_us: int | None = None
        self._election_us = 0
        self.restart_timer()

    # The election timer

    def restart_timer(self) -> None:
        """Wait a whole election timeout from this moment on; a replica that cannot be needed waits for ever."""
        self._hint_us = None
        self._start_timer(self.raft.now_us)
        self.raft.deadline_us = self._election_us

    def _start_timer(self, heard_us: int) -> None:
        raft = self.raft
        self._election_us = heard_us + self._timeout_us if raft.is_voter or raft.may_stand() else INTEGER_MAX

    def on_deadline(self) -> None:
        """Silence for an election timeout, or a closed connection to the leader: ask whether an election would win."""
        raft = self.raft
        self._catch_up()
        hint = self._hint_us is not None and raft.now_us < self._election_us
        if raft.resting_on is not None and not hint and raft.now_us < self._election_us:
            raft.deadline_us = INTEGER_MAX  # The contact is heard; its silence sets the deadline again.
            return
        if raft.has_promised:
            raft.deadline_us = raft.promised_until_us  # The leader may hold a lease, and one's own vote counts too.
        elif raft.may_campaign():
            raft.become_pre_candidate(hint=hint)
        else:
            self.restart_timer()

    def start_early(self, deadline_us: int) -> None:
        """Ask at ``deadline_us`` for the first time, ahead of the others."""
        self._election_us = self.raft.deadline_us = deadline_us

    def membership_changed(self) -> None:
        """It may be a voter since then, or a voter no more."""
        self.restart_timer()

    def hears_leader(self) -> bool:
        """Heard within the shortest election timeout, over a connection that is still open."""
        raft = self.raft
        self._catch_up()
        recent = raft.now_us - self._heard_us < raft.election_timeout_us
        return raft.leader != NO_REPLICA and self._connected and recent

    def leader_disconnected(self) -> None:
        """The leader's connection closed: ask early, after a short random wait so that not all ask at once."""
        self._catch_up()
        self._connected = False
        self.ask_early(NO_REPLICA)

    def ask_early(self, voter: ReplicaId) -> None:
        """Ask after a short random wait, unless that is planned already."""
        raft = self.raft
        if raft.is_voter and self._hint_us is None:
            self._hint_us = raft.now_us + raft.random.randrange(raft.config.pre_vote_hint_ms_max * 1000 + 1)
            raft.deadline_us = min(self._election_us, self._hint_us)

    def leader_connected(self) -> None:
        """The leader's connection is open again: there is no reason to ask early any more."""
        self._catch_up()
        self._connected = True
        self._hint_us = None
        self.raft.deadline_us = self._election_us

    def granted_vote(self) -> None:
        """A candidate that got this vote may win: give it an election timeout."""
        self.restart_timer()

    def granted_pre_vote(self) -> None:
        """Another asks early too: let it, rather than split the vote."""
        self._catch_up()
        self._hint_us = None
        self.raft.deadline_us = self._election_us

    # Rest

    def rest_on(self, contact: Contact, place: Place) -> bool:
        """The leader's host was heard a moment ago, and is to be as long as the group rests."""
        raft = self.raft
        follows = (place.term, place.from_replica, place.to_replica) == (raft.term, raft.leader, raft.replica)
        if not follows or not raft.term_is_persisted or raft.restoring is not None:
            return False
        raft.resting_on = contact
        self._heard_us = raft.now_us
        self._connected = True
        self.restart_timer()
        raft.deadline_us = INTEGER_MAX
        return True

    def wake(self) -> None:
        """The leader sends rounds of the group's own again."""
        if self.raft.resting_on is not None:
            self.contact_silent()
            self.raft.resting_on = None

    def contact_silent(self) -> None:
        """The timer runs from when the contact was last heard."""
        self._catch_up()
        if self.raft.resting_on is not None and self._hint_us is None:
            self.raft.deadline_us = self._election_us

    def _catch_up(self) -> None:
        """Learn what came through the contact since this replica last looked."""
        contact = self.raft.resting_on
        if contact is not None and contact.heard_us > self._heard_us:
            self._heard_us = contact.heard_us
            self._connected = True
            self._hint_us = None
            self._start_timer(self._heard_us)

    def hear(self, sender: ReplicaId) -> bool:
        """A message of the current term's leader arrived. False, and refused, when another leads this term."""
        raft = self.raft
        if raft.leader != sender:
            if raft.leader != NO_REPLICA:
                raft.refuse(f"replica {sender} claims term {raft.term}, which replica {raft.leader} leads")
                return False
            raft.leader = sender
            raft.keeps_office = False
            raft.note(BecameFollower(raft.shard, raft.term, sender, "heard from the leader"))
        self._heard_us = raft.now_us
        self._connected = True
        self.restart_timer()
        return True

    # Messages

    def append_entries(self, message: AppendEntries) -> None:
        """Section 5.3: append what follows a matching entry, refuse what does not, and learn the commit index.

        The acknowledgement is fixed here, with the term that accepted the entries, and leaves when
        they are durable.
        """
        if not self.hear(message.from_replica):
            return
        raft = self.raft
        if raft.restoring is not None:
            return  # The log is about to be replaced by a snapshot; what is not acknowledged is sent again.
        log = raft.log
        prev_log_index = message.prev_log_index
        entries = message.entries
        if prev_log_index == log.last_index and message.prev_log_term == log.last_term:
            if entries:
                raft.append(entries)
        elif prev_log_index > raft.commit_index and log.term_at(prev_log_index) != message.prev_log_term:
            self._refuse_entries(message)
            return
        elif not self._merge(message):
            return
        last_new_index = prev_log_index + len(entries)
        commit_index = min(message.leader_commit, last_new_index)
        if commit_index > raft.commit_index:
            raft.commit_index = commit_index
        # What is committed matches every leader's log (section 5.4), even where this message ends earlier.
        match_index = max(last_new_index, raft.commit_index)
        raft.acknowledge(message.from_replica, match_index)

    def _refuse_entries(self, message: AppendEntries) -> None:
        """Tell the leader where the logs can agree at the latest, so that it skips whole terms (end of 5.3)."""
        raft = self.raft
        prev_log_index = message.prev_log_index
        conflict_index = raft.log.last_index_of_term_at_most(message.prev_log_term, prev_log_index)
        conflict_term = raft.log.term_at(conflict_index) or 0
        raft.send_after_persist(
            AppendEntriesReply(
                raft.shard,
                raft.term,
                raft.replica,
                message.from_replica,
                False,
                prev_log_index,
                conflict_index,
                conflict_term,
            )
        )

    def _merge(self, message: AppendEntries) -> bool:
        """Entries that overlap this log: skip the equal ones, overwrite from the first that differs.

        False, and refused, when that would overwrite a committed entry: no leader asks for that.
        """
        raft = self.raft
        log = raft.log
        own_term = log.term_at(message.prev_log_index)
        if own_term is not None and own_term != message.prev_log_term:
            self._refuse_disagreement(message.prev_log_index, message.from_replica)
            return False
        for position, entry in enumerate(message.entries):
            own_term = log.term_at(entry.index)
            if own_term == entry.term:
                continue
            if entry.index < log.first_index:
                if own_term is None:
                    continue
                self._refuse_disagreement(entry.index, message.from_replica)
                return False
            if own_term is not None and not self._truncate_from(entry.index, message.from_replica):
                return False
            raft.append(message.entries[position:])
            return True
        return True

    def _refuse_disagreement(self, index: Index, sender: ReplicaId) -> None:
        self.raft.refuse(f"replica {sender} disagrees about committed entry {index}")

    def _truncate_from(self, index: Index, sender: ReplicaId) -> bool:
        raft = self.raft
        if index <= raft.commit_index:
            raft.refuse(f"replica {sender} would overwrite committed entry {index}")
            return False
        raft.note(Truncated(raft.shard, raft.term, index))
        raft.truncate_from(index)
        return True

    def commit_advance(self, message: CommitAdvance) -> None:
        """Learn the commit index."""
        self._learn_commit(message)

    def _learn_commit(self, message: CommitAdvance | Heartbeat) -> bool:
        """Hear from the leader, and how far what it knows to be held here is committed; False when it is refused.

        It knows that from this replica's own acknowledgements in this term, which were durable before they
        left, and what is committed is never truncated. So the message may be as old as it likes: what is not
        here was lost, and with it perhaps a vote.
        """
        raft = self.raft
        if not self.hear(message.from_replica):
            return False
        index, last_index = message.commit_index, raft.log.last_index
        if index > last_index or (index and raft.acknowledged_term < raft.term):
            raft.note(StateLost(raft.shard, raft.term, index, last_index))
            return False
        if message.commit_index > raft.commit_index:
            raft.commit_index = message.commit_index
        return True

    def heartbeat(self, message: Heartbeat) -> None:
        """A round of the leader: say that it is still followed, and learn the commit index.

        The answer promises the term, so it waits while that is not durable.
        """
        raft = self.raft
        if not self._learn_commit(message):
            return
        if raft.lease_us:
            raft.promised_until_us = raft.now_us + raft.lease_us
        raft.send_promising_term(
            HeartbeatReply(raft.shard, raft.term, raft.replica, message.from_replica, message.round)
        )

    def timeout_now(self, message: TimeoutNow) -> None:
        """Leadership transfer (thesis 3.10): campaign at once, without asking first."""
        if self.hear(message.from_replica) and self.raft.may_campaign():
            self.raft.keeps_office = message.keep
            self.raft.become_candidate(transfer=True)
