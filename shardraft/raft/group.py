"""What all roles of one group share: term, vote, log, commit index, and what the group has to say."""

from __future__ import annotations

from random import Random

from shardraft.config import RaftConfig
from shardraft.raft.log import RaftLog
from shardraft.raft.messages import RaftMessage, RequestPreVote, RequestVote
from shardraft.raft.outbox import Outbox
from shardraft.raft.ready import HardState, RaftNote, Refused
from shardraft.types import NO_REPLICA, TERM_MAX, HostId, Index, Membership, ReplicaId, ShardId, Term


class Group:
    """The state of Figure 2 that outlives a change of role; ``Raft`` adds the roles and the caller's face.

    ``restoring`` is the index of a snapshot that is being installed, or None.
    """

    __slots__ = (
        "commit_index",
        "config",
        "deadline_us",
        "election_timeout_us",
        "election_timeout_us_max",
        "has_ready",
        "heartbeat_us",
        "is_sole_voter",
        "is_voter",
        "leader",
        "log",
        "membership",
        "now_us",
        "outbox",
        "persisted_term",
        "random",
        "replica",
        "restoring",
        "shard",
        "taken_hard_state",
        "term",
        "time_floor_us",
        "voted_for",
    )

    def __init__(
        self,
        *,
        shard: ShardId,
        replica: ReplicaId,
        membership: Membership,
        log: RaftLog,
        hard_state: HardState,
        config: RaftConfig,
        random: Random,
        now_us: int,
        time_us: int = 0,
    ) -> None:
        """Start as a follower from what is durable: ``log`` and ``hard_state``.

        ``time_us``: the highest leader's time among entries that are compacted, as the applied state
        knows it; it matters only while the log is empty.
        """
        self.shard = shard
        self.replica = replica
        self.log = log
        self.config = config
        self.random = random
        self.now_us = now_us
        self.heartbeat_us = config.heartbeat_ms * 1000
        self.election_timeout_us = config.election_timeout_ms * 1000
        self.election_timeout_us_max = 2 * self.election_timeout_us
        assert hard_state.commit_index <= log.last_index, "the durable commit index is beyond the durable log"
        # A snapshot may come from a later term than the last hard state; no vote was given in that one.
        self.term: Term = max(hard_state.current_term, log.last_term)
        self.voted_for: ReplicaId = hard_state.voted_for if self.term == hard_state.current_term else NO_REPLICA
        self.commit_index: Index = max(hard_state.commit_index, log.first_index - 1)
        self.taken_hard_state = hard_state
        self.persisted_term = hard_state.current_term
        self.time_floor_us = time_us
        self.restoring: Index | None = None
        self.outbox = Outbox()
        self.leader: ReplicaId = NO_REPLICA
        self.deadline_us = 0
        self.has_ready = self.term != hard_state.current_term
        self.set_membership(membership)

    @property
    def leader_host(self) -> HostId:
        """The host of the leader as far as known, 0 when unknown."""
        return self.membership.host_of(self.leader) if self.leader else 0

    def advance(self, now_us: int) -> None:
        """Learn the time; a caller's time that goes back is taken as standing still."""
        if now_us > self.now_us:
            self.now_us = now_us

    def set_membership(self, membership: Membership) -> None:
        """A configuration takes effect as soon as it is known (section 6)."""
        assert membership.voters, "a group has voters"
        self.membership = membership
        self.is_voter = self.replica in membership.voters or self.replica in membership.voters_outgoing
        self.is_sole_voter = membership.voters == (self.replica,) and not membership.voters_outgoing

    @property
    def term_is_persisted(self) -> bool:
        """Whether the current term, and the vote cast when it began, are durable."""
        return self.persisted_term == self.term

    @property
    def disk_is_stalled(self) -> bool:
        """Whether a write is not durable after an election timeout: such a host neither leads nor campaigns."""
        return self.outbox.stalled(self.now_us, self.election_timeout_us_max)

    def may_campaign(self) -> bool:
        """Only a voter with a working disk and no snapshot under way campaigns, and never past ``TERM_MAX``."""
        return self.is_voter and self.restoring is None and self.term < TERM_MAX and not self.disk_is_stalled

    def log_is_up_to_date(self, message: RequestVote | RequestPreVote) -> bool:
        """Whether the asker's log is at least as up to date as this one (section 5.4.1)."""
        log = self.log
        return (message.last_log_term, message.last_log_index) >= (log.last_term, log.last_index)

    def draw_election_timeout_us(self) -> int:
        """A fresh random election timeout (section 5.2)."""
        return self.election_timeout_us + self.random.randrange(self.election_timeout_us)

    def last_time_us(self) -> int:
        """The leader's time of the last entry, or what is known of it when the log is empty."""
        log = self.log
        if log.last_index < log.first_index:
            return self.time_floor_us
        return max(self.time_floor_us, log.entries(log.last_index, log.last_index + 1, 0)[0].time_us)

    def send(self, message: RaftMessage) -> None:
        """``message`` rests on nothing that is not durable."""
        self.outbox.messages.append(message)
        self.has_ready = True

    def send_after_persist(self, message: RaftMessage) -> None:
        """``message`` leaves when everything that is appended, voted and adopted up to here is durable."""
        self.outbox.after_persist.append(message)
        self.has_ready = True

    def send_promising_term(self, message: RaftMessage) -> None:
        """``message`` promises the current term and nothing else."""
        if self.term_is_persisted:
            self.send(message)
        else:
            self.send_after_persist(message)

    def note(self, note: RaftNote) -> None:
        """Say what happened; the shell logs it."""
        self.outbox.notes.append(note)
        self.has_ready = True

    def refuse(self, reason: str) -> None:
        """Count a message that no correct replica sends."""
        self.note(Refused(self.shard, reason))
