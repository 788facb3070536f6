"""What every role does: answer votes, ignore what comes late, refuse what no correct replica sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from shardraft.raft.contact import Contact, Place
from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    RaftMessage,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from shardraft.raft.ready import Role
from shardraft.types import NO_REPLICA, ReplicaId

if TYPE_CHECKING:
    from shardraft.raft.core import Raft


class RoleState:
    """One role of one group. It owns the fields that only this role has; ``raft`` owns the rest.

    A role object lives from one change of role to the next; its handlers are named in the role x
    message table (``raft/table.py``) and are called with messages of the group's current term.
    """

    role: ClassVar[Role]
    __slots__ = ("raft",)

    def __init__(self, raft: Raft) -> None:
        self.raft = raft

    def on_deadline(self) -> None:
        """``Raft.deadline_us`` has passed; every role sets the next one."""
        raise NotImplementedError

    def hears_leader(self) -> bool:
        """Whether a live leader is heard, so that elections are refused (thesis 4.2.3, 9.6)."""
        return False

    def rest_on(self, contact: Contact, place: Place) -> bool:
        """Rest on the rounds that ``contact`` hears, if this is the follower that ``place`` names."""
        return False

    def wake(self) -> None:
        """Rest no more."""

    def contact_silent(self) -> None:
        """The contact that a follower rests on was not heard for a while."""

    def membership_changed(self) -> None:
        """Another configuration is in effect."""

    def asked_for_vote(self, replica: ReplicaId) -> None:
        """``replica`` asks whether it would win an election."""

    def goes_first(self, message: RequestPreVote) -> bool:
        """Whether this replica asks the same question and is to be answered first."""
        return False

    def granted_vote(self) -> None:
        """This replica just gave its vote of the current term to another."""

    def answer_pre_vote(self, message: RequestPreVote) -> None:
        """Would this replica vote so? It promises nothing and changes no term (thesis 9.6).

        Granted only when the term asked about is ahead, the asker's log is up to date and no live
        leader is heard. An early question after a closed connection (``hint``) follows the same
        rule: a voter whose own connection to the leader closed too does not hear it any more. With
        leases on nothing is granted while the leader may hold one, hint or not. Who asks early and cannot
        win has noticed by now what it may not have when this replica asked: it is asked again.
        """
        raft = self.raft
        is_better = not raft.log_is_up_to_date(message) or self.goes_first(message)
        granted = message.term > raft.term and not is_better and not self.hears_leader() and not raft.has_promised
        if granted:
            self.granted_pre_vote()
        self.asked_for_vote(message.from_replica)
        term = message.term if granted else raft.term
        raft.send(RequestPreVoteReply(raft.shard, term, raft.replica, message.from_replica, granted))
        if message.hint and is_better and not self.hears_leader():
            self.ask_early(message.from_replica)

    def ask_early(self, voter: ReplicaId) -> None:
        """``voter`` asks early and would rather vote for this replica: if this one hears no leader, it asks, too."""

    def granted_pre_vote(self) -> None:
        """This replica just told another that it would vote for it."""

    def answer_vote(self, message: RequestVote) -> None:
        """One vote per term, first come first served, to a candidate whose log is up to date (5.2, 5.4.1).

        Once the term has a leader nobody else can win it, so no vote is given away either. Nor is one
        while a leader may hold a lease, unless that leader itself ended it and handed over.
        """
        raft = self.raft
        free = raft.voted_for == NO_REPLICA and raft.leader == NO_REPLICA
        free = free and (message.transfer or not raft.has_promised)
        granted = (free or raft.voted_for == message.from_replica) and raft.log_is_up_to_date(message)
        if granted:
            raft.voted_for = message.from_replica
            self.granted_vote()
        raft.send_after_persist(RequestVoteReply(raft.shard, raft.term, raft.replica, message.from_replica, granted))

    # Messages of an earlier term: the answer tells the sender that its time is over (section 5.1).

    def refuse_stale_vote(self, message: RequestVote) -> None:
        """A candidate of an earlier term."""
        raft = self.raft
        raft.send_after_persist(RequestVoteReply(raft.shard, raft.term, raft.replica, message.from_replica, False))

    def refuse_stale_entries(self, message: AppendEntries) -> None:
        """A deposed leader that does not know it yet."""
        raft = self.raft
        raft.send_after_persist(
            AppendEntriesReply(raft.shard, raft.term, raft.replica, message.from_replica, False, message.prev_log_index)
        )

    def answer_stale_heartbeat(self, message: Heartbeat) -> None:
        """A round of a deposed leader: the higher term in the answer ends its office.

        It acknowledges no round: its sender may lead that term by the time the answer arrives, and have
        sent a round of the same number since.
        """
        raft = self.raft
        raft.send_promising_term(HeartbeatReply(raft.shard, raft.term, raft.replica, message.from_replica, 0))

    def ignore(self, message: RaftMessage) -> None:
        """An answer that comes too late to matter in this role."""

    def forbid(self, message: RaftMessage) -> None:
        """A message that Raft's rules exclude in this role and term: there would be two leaders in one term."""
        self.raft.refuse(f"{type(message).__name__} in the same term reached a {self.role.value}")


def other_voters(raft: Raft) -> list[ReplicaId]:
    """Every voter of either half of the configuration but this replica, in order."""
    membership = raft.membership
    both = {*membership.voters, *membership.voters_outgoing}
    return sorted(both - {raft.replica})
