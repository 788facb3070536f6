"""How a leader hands its office over: leadership transfer, and the preferred leader (thesis 3.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardraft.errors import Conflict, InvalidArgument
from shardraft.raft.messages import TimeoutNow
from shardraft.raft.progress import Progress
from shardraft.raft.ready import TransferBegan, TransferGivenUp
from shardraft.types import NO_REPLICA, ReplicaId

if TYPE_CHECKING:
    from shardraft.raft.leader import Leader


class Handover:
    """One leader's transfer under way, if any (``target``), and its eye on the preferred replica.

    A transfer stops proposals, waits until the target holds the whole log, and tells it to campaign
    at once. It is given up after one election timeout; then proposals are taken again.
    """

    __slots__ = (
        "_committed_before",
        "_deadline_us",
        "_keep",
        "_leader",
        "_preferred_since_us",
        "_preferred_wait_us",
        "_told",
        "target",
    )

    def __init__(self, leader: Leader) -> None:
        raft = leader.raft
        self._leader = leader
        self.target = NO_REPLICA
        self._deadline_us = 0
        self._keep = False
        self._told = False
        self._committed_before = raft.commit_index
        self._preferred_since_us = raft.now_us
        self._preferred_wait_us = raft.config.preferred_after_ms * 1000

    def begin(self, replica: ReplicaId | None, keep: bool) -> None:
        """Hand over to ``replica``, or to whoever is best, who is to ``keep`` the office or not.

        Raises ``InvalidArgument`` for what is no other voter, ``Conflict`` while a transfer to another is
        under way and when no other voter was heard for an election timeout.
        """
        raft = self._leader.raft
        if replica is not None and (replica == raft.replica or replica not in raft.membership.voters):
            raise InvalidArgument(f"replica {replica} is no other voter of this group", shard=raft.shard)
        if self.target != NO_REPLICA:
            if replica in (None, self.target):
                self._keep |= keep
                return
            raise Conflict(f"the leadership is being handed to replica {self.target}", shard=raft.shard)
        self._leader.wake()
        target = self._best() if replica is None else self._leader.progress[replica]
        if target is None:
            raise Conflict("no other voter was heard for an election timeout", shard=raft.shard)
        self._begin(target.replica, keep)

    def _begin(self, replica: ReplicaId, keep: bool) -> None:
        raft = self._leader.raft
        self.target = replica
        self._keep = keep
        self._told = False
        self._deadline_us = raft.now_us + raft.election_timeout_us_max
        raft.note(TransferBegan(raft.shard, raft.term, replica))
        self._leader.update_engagement()
        self.advance()

    def _best(self) -> Progress | None:
        """The voter that was heard and holds most; of several the preferred one, then the lowest number."""
        raft = self._leader.raft
        heard = [
            progress
            for progress in self._leader.followers
            if progress.replica in raft.membership.voters
            and raft.now_us - progress.active_us <= raft.election_timeout_us_max
        ]
        preferred = raft.preferred
        return max(heard, key=lambda each: (each.match_index, each.replica == preferred, -each.replica), default=None)

    def advance(self) -> None:
        """Tell the target to campaign, once it holds everything."""
        leader = self._leader
        if self.target == NO_REPLICA or self._told:
            return
        if leader.progress[self.target].match_index == leader.raft.log.last_index:
            self._told = True
            self.tell(self.target, self._keep)

    def tell(self, replica: ReplicaId, keep: bool = False) -> None:
        """TimeoutNow leaves; the lease ends before it (PROTOCOL)."""
        raft = self._leader.raft
        self._leader.lease.end()
        raft.send(TimeoutNow(raft.shard, raft.term, raft.replica, replica, keep))

    def best_for_retirement(self) -> ReplicaId:
        """Who may take over at once from a leader that left the configuration; 0 when nobody holds the whole log."""
        best = self._best()
        return best.replica if best is not None and best.match_index == self._leader.raft.log.last_index else NO_REPLICA

    # Time

    def on_deadline(self) -> None:
        """Give up on a target that is dead or too slow, ask again one whose order may be lost; see to preference."""
        raft = self._leader.raft
        if self.target == NO_REPLICA:
            self._prefer()
        elif raft.now_us >= self._deadline_us:
            self._give_up()
        elif self._told:
            self.tell(self.target, self._keep)

    def _give_up(self) -> None:
        raft = self._leader.raft
        target, self.target = self.target, NO_REPLICA
        raft.note(TransferGivenUp(raft.shard, raft.term, target))
        if target == raft.preferred:
            self._preferred_since_us = raft.now_us
            self._preferred_wait_us *= 2
        self._leader.update_engagement()

    def _prefer(self) -> None:
        """Hand over to the preferred replica once it has followed without a gap for ``preferred_after_ms``.

        It follows while it is heard and holds what was committed a heartbeat ago. Each time that it
        does not take over, the wait doubles.
        """
        leader, raft = self._leader, self._leader.raft
        committed_before, self._committed_before = self._committed_before, raft.commit_index
        if raft.awaited == NO_REPLICA:
            return
        progress = leader.progress.get(raft.awaited)
        follows = (
            progress is not None
            and progress.replica in raft.membership.voters
            and raft.now_us - progress.active_us < raft.election_timeout_us
            and progress.match_index >= committed_before
        )
        if not follows:
            self._preferred_since_us = raft.now_us
        elif raft.now_us - self._preferred_since_us >= self._preferred_wait_us and raft.membership_settled:
            self._begin(raft.awaited, keep=False)
