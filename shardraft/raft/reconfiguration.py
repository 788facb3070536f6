"""The leader's part in a change of membership: it takes every step as soon as that is safe (section 6; thesis 4).

One change is under way at a time, and no step is taken before the one before it is committed and
the leader has committed an entry of its own term (thesis 4.1, and the correction to it of 2015).
All there is to know about a change lies in the log, so that any later leader goes on with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardraft.errors import Conflict, ShardraftError
from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.membership import MembershipChange, begin_change, encode_membership, leave_joint, promote
from shardraft.raft.progress import Progress
from shardraft.types import NO_REPLICA, Index, Membership, ReplicaId

if TYPE_CHECKING:
    from shardraft.raft.leader import Leader


class CatchUp:
    """The rounds in which a staging replica catches up (thesis 4.2.1).

    A round brings it everything that the leader held when the round began. Once a round took less
    than the shortest election timeout, no more than that much is missing when it gets its vote.
    """

    __slots__ = ("_began_us", "_fast", "_until_index")

    def __init__(self, last_index: Index, now_us: int) -> None:
        self._until_index = last_index
        self._began_us = now_us
        self._fast = False

    def acknowledged(self, match_index: Index, last_index: Index, now_us: int, round_us_max: int) -> None:
        """The replica holds everything up to ``match_index``; a finished round is followed by the next."""
        if match_index >= self._until_index:
            self._fast = now_us - self._began_us <= round_us_max
            self._until_index = last_index
            self._began_us = now_us

    def done(self, match_index: Index, last_index: Index, now_us: int, round_us_max: int) -> bool:
        """Whether it lacks nothing, or the last round was fast and this one is not yet slow."""
        return match_index >= last_index or (self._fast and now_us - self._began_us <= round_us_max)


class Reconfiguration:
    """What one leader knows of changes under way.

    ``_departed`` are replicas that left: they still get the log, until they know that they did. The
    value is the first round whose acknowledgement proves that, 0 while none is sent.
    """

    __slots__ = ("_catch_ups", "_departed", "_leader")

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._catch_ups: dict[ReplicaId, CatchUp] = {}
        self._departed: dict[ReplicaId, int] = {}

    @property
    def under_way(self) -> bool:
        """Whether a step may follow from an answer or a commit; False nearly always."""
        raft = self._leader.raft
        return bool(self._departed) or not raft.membership_settled or not raft.is_voter

    def propose(self, change: MembershipChange) -> Entry:
        """Take the first step toward ``change``; all others follow by themselves.

        Raises ``InvalidArgument`` for what makes no sense, and ``Conflict`` while a change is under way,
        the leadership is being handed over, or nothing of this term is committed.
        """
        leader, raft = self._leader, self._leader.raft
        try:
            if leader.handover.target != NO_REPLICA or not raft.is_voter:
                raise Conflict("the leadership is being handed over")
            if not leader.committed_own_term:
                raise Conflict("the leader has not committed an entry of its own term")
            if raft.membership_index > raft.commit_index:
                raise Conflict("the last change of the membership is not committed")
            membership = begin_change(raft.membership, change, raft.config.members_max)
        except ShardraftError as error:
            error.shard = raft.shard
            raise
        return self._append(membership)

    def _append(self, membership: Membership) -> Entry:
        leader = self._leader
        entry = leader.append_entry(EntryKind.MEMBERSHIP, encode_membership(membership))
        leader.raft.has_ready = True
        leader.raft.configure(entry.index, membership)
        return entry

    # Whom the leader sends to

    def follow(self) -> None:
        """Another configuration is in effect, or this leader just began: send to all of its members.

        Former members of a configuration that is not known to be superseded are sent to as well.
        """
        leader, raft = self._leader, self._leader.raft
        membership = raft.membership
        members = {member.replica for member in membership.members}
        former = {member.replica for each in raft.configurations.since(raft.commit_index) for member in each.members}
        for replica in sorted((former | set(leader.progress)) - members - {raft.replica}):
            self._departed.setdefault(replica, 0)
        for replica in sorted(members):
            self._departed.pop(replica, None)
        wanted = (members | set(self._departed)) - {raft.replica}
        leader.followers = [self._progress_of(replica) for replica in sorted(wanted)]
        leader.progress = {progress.replica: progress for progress in leader.followers}
        self._catch_ups = {
            replica: self._catch_ups.get(replica) or CatchUp(raft.log.last_index, raft.now_us)
            for replica in membership.staging
        }

    def _progress_of(self, replica: ReplicaId) -> Progress:
        leader, raft = self._leader, self._leader.raft
        known = leader.progress.get(replica)
        return Progress(replica, raft.log.last_index + 1, raft.config, raft.now_us) if known is None else known

    def recall(self, replica: ReplicaId) -> None:
        """A replica asks for votes. If the log tells that it left, it does not know: send it the log until it does."""
        leader, raft = self._leader, self._leader.raft
        if replica not in leader.progress and raft.configurations.knows(replica):
            self._departed[replica] = 0
            leader.followers = [*leader.followers, self._progress_of(replica)]
            leader.progress = {progress.replica: progress for progress in leader.followers}
            leader.update_engagement()
            raft.has_ready = True

    def has_departed(self, replica: ReplicaId) -> bool:
        """Whether ``replica`` is sent to only so that it learns that it left."""
        return replica in self._departed

    def round_sent(self, number: int) -> None:
        """Round ``number`` leaves: whoever left and holds the entry that says so learns that it is committed."""
        raft = self._leader.raft
        told_index = raft.membership_index
        if raft.commit_index < told_index:
            return
        for replica, told in self._departed.items():
            if told == 0 and self._leader.progress[replica].match_index >= told_index:
                self._departed[replica] = number

    def dismiss(self, replicas: list[ReplicaId]) -> None:
        """Send nothing more to these that left."""
        leader = self._leader
        for replica in replicas:
            del self._departed[replica]
        leader.followers = [progress for progress in leader.followers if progress.replica not in replicas]
        leader.progress = {progress.replica: progress for progress in leader.followers}
        leader.update_engagement()

    # Steps

    def acknowledged(self, progress: Progress) -> None:
        """``progress`` has moved: a staging replica may have caught up, one that left may have learned it."""
        raft = self._leader.raft
        catch_up = self._catch_ups.get(progress.replica)
        if catch_up is not None:
            catch_up.acknowledged(progress.match_index, raft.log.last_index, raft.now_us, raft.election_timeout_us)
        if 0 < self._departed.get(progress.replica, 0) <= progress.round:
            self.dismiss([progress.replica])
        self.advance()

    def on_deadline(self) -> None:
        """Time has passed: those that left and are silent are left alone."""
        raft, progress = self._leader.raft, self._leader.progress
        silent_us = raft.now_us - raft.election_timeout_us_max
        self.dismiss([replica for replica in self._departed if progress[replica].active_us < silent_us])
        self.advance()

    def advance(self) -> None:
        """Take the next step, if there is one and it is safe."""
        leader, raft = self._leader, self._leader.raft
        if raft.leading is not leader:
            return  # The last step was its own retirement.
        if not leader.committed_own_term or raft.membership_index > raft.commit_index:
            return
        if leader.handover.target != NO_REPLICA:
            return  # The target would have to catch up with the step.
        membership = raft.membership
        if membership.is_joint:
            self._append(leave_joint(membership))
        elif not raft.is_voter:
            leader.retire()
        elif membership.staging and all(map(self._has_caught_up, membership.staging)):
            self._append(promote(membership))
        else:
            leader.update_engagement()

    def _has_caught_up(self, replica: ReplicaId) -> bool:
        raft, progress = self._leader.raft, self._leader.progress[replica]
        if raft.now_us - progress.active_us > raft.election_timeout_us_max:
            return False
        return self._catch_ups[replica].done(
            progress.match_index, raft.log.last_index, raft.now_us, raft.election_timeout_us
        )
