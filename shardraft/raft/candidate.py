"""The election: first the question that raises no term, then the campaign (section 5.2; thesis 9.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from shardraft.raft.follower import Follower
from shardraft.raft.messages import (
    AppendEntries,
    CommitAdvance,
    Heartbeat,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.raft.quorum import VoteResult, quorum_vote
from shardraft.raft.ready import Role
from shardraft.raft.role import RoleState, other_voters
from shardraft.types import NO_REPLICA, ReplicaId

if TYPE_CHECKING:
    from shardraft.raft.core import Raft


class ElectionState(RoleState):
    """What asking and campaigning share: votes, a timer, and giving way to a leader of this term."""

    __slots__ = ("votes",)

    def __init__(self, raft: Raft) -> None:
        super().__init__(raft)
        self.votes: dict[ReplicaId, bool] = {}
        raft.deadline_us = raft.now_us + raft.draw_election_timeout_us()

    def result(self) -> VoteResult:
        """What the votes so far decide, by majorities of this replica's own configuration."""
        membership = self.raft.membership
        return quorum_vote(membership.voters, membership.voters_outgoing, self.votes)

    def on_deadline(self) -> None:
        """Nobody won: ask again, after the next random timeout at the latest."""
        raft = self.raft
        if raft.may_campaign() and not raft.has_promised:
            raft.become_pre_candidate(hint=False)
        else:
            raft.become_follower(raft.term, NO_REPLICA, "may not campaign")

    def append_entries(self, message: AppendEntries) -> None:
        """This term has a leader: follow it (section 5.2)."""
        self._follow(message.from_replica).append_entries(message)

    def commit_advance(self, message: CommitAdvance) -> None:
        """This term has a leader: follow it."""
        self._follow(message.from_replica).commit_advance(message)

    def heartbeat(self, message: Heartbeat) -> None:
        """This term has a leader: follow it."""
        self._follow(message.from_replica).heartbeat(message)

    def timeout_now(self, message: TimeoutNow) -> None:
        """This term's leader hands over: campaign in the next one."""
        self._follow(message.from_replica).timeout_now(message)

    def _follow(self, leader: ReplicaId) -> Follower:
        raft = self.raft
        raft.become_follower(raft.term, leader, "the term has a leader")
        assert isinstance(raft.state, Follower)
        return raft.state


class PreCandidate(ElectionState):
    """Asks every voter whether it would vote; its term does not change before a majority would.

    All followers notice at about the same time that their leader's connections closed, so two may
    ask early together; of equal logs the lower replica number then goes first. That holds for the
    early question only: for good it would let a replica that cannot win keep others from winning.
    """

    role: ClassVar[Role] = Role.PRE_CANDIDATE
    __slots__ = ("_hint",)

    def __init__(self, raft: Raft, hint: bool) -> None:
        super().__init__(raft)
        self._hint = hint

    def ask(self) -> None:
        """Send the questions; they rest on nothing durable."""
        self.votes[self.raft.replica] = True
        for voter in other_voters(self.raft):
            self._ask(voter)
        self._decide()

    def _ask(self, voter: ReplicaId) -> None:
        raft, log = self.raft, self.raft.log
        about = (raft.shard, raft.term + 1, raft.replica, voter, log.last_index, log.last_term, self._hint)
        raft.send(RequestPreVote(*about))

    def ask_early(self, voter: ReplicaId) -> None:
        """It may have refused because it had not noticed yet that the leader is gone."""
        self.votes.pop(voter, None)
        self._ask(voter)

    def count_pre_vote(self, message: RequestPreVoteReply) -> None:
        """An answer; a grant names the term that was asked about, and one of an earlier question says nothing."""
        if message.vote_granted and message.term != self.raft.term + 1:
            return
        self.votes[message.from_replica] = message.vote_granted
        self._decide()

    def goes_first(self, message: RequestPreVote) -> bool:
        """Both ask early, with equal logs: the lower replica number is answered first."""
        log = self.raft.log
        equal = (message.last_log_term, message.last_log_index) == (log.last_term, log.last_index)
        return self._hint and message.hint and equal and self.raft.replica < message.from_replica

    def granted_pre_vote(self) -> None:
        """Another goes first."""
        if self._hint:
            self.raft.become_follower(self.raft.term, NO_REPLICA, "another asks early too")

    def granted_vote(self) -> None:
        """The vote of this term went to a real candidate: give way to it."""
        self.raft.become_follower(self.raft.term, NO_REPLICA, "voted for another")

    def _decide(self) -> None:
        result, raft = self.result(), self.raft
        if result is VoteResult.WON and raft.may_campaign():
            raft.become_candidate(transfer=False)
        elif result is VoteResult.WON:
            # Its disk began to hang since it asked: what it wins it could not lead.
            raft.become_follower(raft.term, NO_REPLICA, "may not campaign")
        elif result is VoteResult.LOST:
            raft.become_follower(raft.term, NO_REPLICA, "lost the pre-vote")


class Candidate(ElectionState):
    """Campaigns in a term of its own. Its own vote counts once it is durable, and nothing is won before."""

    role: ClassVar[Role] = Role.CANDIDATE
    __slots__ = ()

    def campaign(self, transfer: bool) -> None:
        """Ask for the votes; the questions leave after this replica's own term and vote are durable."""
        raft, log = self.raft, self.raft.log
        for voter in other_voters(raft):
            raft.send_after_persist(
                RequestVote(raft.shard, raft.term, raft.replica, voter, log.last_index, log.last_term, transfer)
            )

    def term_persisted(self) -> None:
        """This replica's own term and vote are durable."""
        self.votes[self.raft.replica] = True
        self._decide()

    def count_vote(self, message: RequestVoteReply) -> None:
        """One vote, granted or refused; votes of other replicas than voters are not counted by the quorum."""
        self.votes[message.from_replica] = message.vote_granted
        self._decide()

    def _decide(self) -> None:
        result, raft = self.result(), self.raft
        if result is VoteResult.WON and raft.term_is_persisted:
            raft.become_leader()
        elif result is VoteResult.LOST:
            raft.become_follower(raft.term, NO_REPLICA, "lost the election")
