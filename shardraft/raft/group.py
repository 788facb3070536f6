"""What all roles of one group share: term, vote, log, commit index, and what the group has to say."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from shardraft.config import RaftConfig
from shardraft.raft.configurations import Configurations
from shardraft.raft.contact import Contact
from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.log import RaftLog
from shardraft.raft.membership import decode_membership
from shardraft.raft.messages import AppendEntriesReply, RaftMessage, RequestPreVote, RequestVote
from shardraft.raft.outbox import Outbox
from shardraft.raft.ready import HardState, RaftNote, Reconfigured, Refused
from shardraft.types import NO_HOST, NO_REPLICA, TERM_MAX, HostId, Index, Membership, ReplicaId, ShardId, Term

_MEMBERSHIP: Final = int(EntryKind.MEMBERSHIP)


class Group:
    """The state of Figure 2 that outlives a change of role; ``Raft`` adds the roles and the caller's face.

    ``restoring`` is the index of a snapshot that is being installed, or None. ``promised_until_us``:
    with leases on, no vote is given before (0 with leases off). ``preferred``: who should lead when it
    can, or ``NO_REPLICA``. ``keeps_office``: an operator wants this replica to lead all the same, until it
    follows another leader (decision 0012). ``contact_of``: how the group comes to rest on its host's rounds,
    or None: it never does. ``resting_on``: the contact with the leader's host that a follower rests on.
    ``host_disk_is_stalled``: the host says so, of writes of whatever group. ``acknowledged_term``: the last one in
    which entries were acknowledged, as far as it is known: that of the start, or later.
    """

    __slots__ = (
        "acknowledged_term",
        "commit_index",
        "commit_push_us",
        "config",
        "configurations",
        "contact_of",
        "deadline_us",
        "election_timeout_us",
        "election_timeout_us_max",
        "has_ready",
        "heartbeat_us",
        "host_disk_is_stalled",
        "is_sole_voter",
        "is_voter",
        "keeps_office",
        "leader",
        "lease_us",
        "log",
        "membership",
        "now_us",
        "outbox",
        "persisted_term",
        "preferred",
        "promised_until_us",
        "random",
        "replica",
        "resting_on",
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
        membership_index: Index | None = None,
        preferred: ReplicaId = NO_REPLICA,
        contact_of: Callable[[HostId], Contact] | None = None,
    ) -> None:
        """See ``Raft``."""
        self.shard = shard
        self.replica = replica
        self.log = log
        self.config = config
        self.random = random
        self.now_us = now_us
        self.heartbeat_us = config.heartbeat_ms * 1000
        self.commit_push_us = config.commit_push_ms * 1000
        self.election_timeout_us = config.election_timeout_ms * 1000
        self.election_timeout_us_max = 2 * self.election_timeout_us
        assert hard_state.commit_index <= log.last_index, "the durable commit index is beyond the durable log"
        # A snapshot may come from a later term than the last hard state; no vote was given in that one.
        self.term: Term = max(hard_state.current_term, log.last_term)
        self.voted_for: ReplicaId = hard_state.voted_for if self.term == hard_state.current_term else NO_REPLICA
        self.commit_index: Index = max(hard_state.commit_index, log.first_index - 1)
        self.taken_hard_state = hard_state
        self.persisted_term = hard_state.current_term
        self.acknowledged_term: Term = hard_state.current_term
        self.time_floor_us = time_us
        self.restoring: Index | None = None
        self.outbox = Outbox()
        self.leader: ReplicaId = NO_REPLICA
        self.deadline_us = 0
        self.has_ready = self.term != hard_state.current_term
        self.preferred = preferred
        self.keeps_office = False
        self.contact_of = contact_of
        self.resting_on: Contact | None = None
        self.host_disk_is_stalled = False
        self.lease_us = config.lease_ms * 1000
        # What this replica acknowledged before its start is unknown (PROTOCOL, leases).
        self.promised_until_us = now_us + self.lease_us if self.lease_us else 0
        base_index = log.first_index - 1 if membership_index is None else membership_index
        self.configurations = Configurations.of_log(base_index, membership, log)
        self._set_membership()

    @property
    def leader_host(self) -> HostId:
        """The host of the leader as far as known, 0 when unknown."""
        return self.host_of(self.leader) if self.leader else NO_HOST

    def host_of(self, replica: ReplicaId) -> HostId:
        """The host of a present or former member, as far as the kept log tells; 0 when unknown."""
        host = self.membership.host_of(replica)
        if host:
            return host
        for membership in reversed(self.configurations.since(0)):
            host = host or membership.host_of(replica)
        return host

    @property
    def awaited(self) -> ReplicaId:
        """Which other replica this one, when it leads, hands over to as soon as it can; ``NO_REPLICA`` for none."""
        return NO_REPLICA if self.keeps_office or self.preferred == self.replica else self.preferred

    def keep_office(self) -> None:
        """An operator wants this leader to go on leading, whatever replica is preferred."""
        self.keeps_office = True

    def advance(self, now_us: int) -> None:
        """Learn the time; a caller's time that goes back is taken as standing still."""
        if now_us > self.now_us:
            self.now_us = now_us

    # The configuration

    def append(self, entries: tuple[Entry, ...]) -> None:
        """Append what a leader sent; a configuration among it takes effect at once (section 6)."""
        self.log.append(entries)
        for entry in entries:
            if entry.kind == _MEMBERSHIP:
                self.configure(entry.index, decode_membership(entry.payload))

    def truncate_from(self, index: Index) -> None:
        """Drop the entries from ``index`` up, and with them the configurations that they brought (section 6)."""
        self.log.truncate_from(index)
        if self.configurations.truncate_from(index):
            self._reconfigured()

    def configure(self, index: Index, membership: Membership) -> None:
        """The entry at ``index``, which is appended, brings ``membership``."""
        self.configurations.append(index, membership)
        self._reconfigured()

    def _reconfigured(self) -> None:
        before = self.membership
        self._set_membership()
        if self.membership != before:
            self.note(Reconfigured(self.shard, self.configurations.index, self.membership))
        self.membership_changed()

    def membership_changed(self) -> None:
        """Another configuration is in effect; the roles hear of it."""
        raise NotImplementedError

    def _set_membership(self) -> None:
        self.membership = membership = self.configurations.latest
        self.is_voter = _votes_in(membership, self.replica)
        self.is_sole_voter = membership.voters == (self.replica,) and not membership.is_joint

    @property
    def membership_index(self) -> Index:
        """The index of the entry that brought ``membership``, or of where it is known from."""
        return self.configurations.index

    @property
    def membership_settled(self) -> bool:
        """Whether no change of the membership is under way: the last one is committed, and nothing follows from it."""
        membership = self.membership
        return not membership.is_joint and not membership.staging and self.membership_index <= self.commit_index

    @property
    def has_left(self) -> bool:
        """Whether this replica was a member and it is committed that it is none any more: it may be destroyed.

        A configuration without it is not enough: one that catches up meets those from before its time.
        """
        if self.membership_index > self.commit_index or self.membership.host_of(self.replica):
            return False
        return self.configurations.knows(self.replica)

    def may_stand(self) -> bool:
        """Whether this replica may be needed as a leader: as a voter of any configuration that may count.

        That is the latest one, or a former one while the latest is not known to be committed: the log
        of a replica that is leaving may be the only one that can win (thesis 4.2.2, Figure 4.6).
        """
        if self.is_voter:
            return True
        return any(_votes_in(membership, self.replica) for membership in self.configurations.since(self.commit_index))

    @property
    def term_is_persisted(self) -> bool:
        """Whether the current term, and the vote cast when it began, are durable."""
        return self.persisted_term == self.term

    @property
    def disk_is_stalled(self) -> bool:
        """Whether a write is not durable after an election timeout: such a host neither leads nor campaigns."""
        return self.host_disk_is_stalled or self.outbox.stalled(self.now_us, self.election_timeout_us_max)

    def may_campaign(self) -> bool:
        """Only a voter with a working disk and no snapshot under way campaigns, and never past ``TERM_MAX``."""
        return self.restoring is None and self.term < TERM_MAX and not self.disk_is_stalled and self.may_stand()

    @property
    def has_promised(self) -> bool:
        """Whether a leader may still hold a lease that rests on this replica (PROTOCOL, leases)."""
        return self.now_us < self.promised_until_us

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

    def acknowledge(self, leader: ReplicaId, match_index: Index) -> None:
        """Tell the leader, once it is durable, that this log matches its own up to ``match_index``."""
        self.acknowledged_term = self.term
        self.send_after_persist(AppendEntriesReply(self.shard, self.term, self.replica, leader, True, match_index))

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


def _votes_in(membership: Membership, replica: ReplicaId) -> bool:
    return replica in membership.voters or replica in membership.voters_outgoing
