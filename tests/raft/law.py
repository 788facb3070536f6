"""What a test cluster's replicas share and are held to: disks, messages on their way, and the law."""

from __future__ import annotations

import attrs

from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.log import RaftLog
from shardraft.raft.membership import UNKNOWN, decode_membership
from shardraft.raft.messages import (
    AppendEntriesReply,
    CommitAdvance,
    Heartbeat,
    HeartbeatReply,
    RaftMessage,
    RequestVote,
    RequestVoteReply,
)
from shardraft.raft.ready import BecameLeader, HardState, LogSummary, LogWrite
from shardraft.types import Index, Membership, ReplicaId, ShardId, Term

SHARD: ShardId = 7
NOBODY: ReplicaId = 0


@attrs.frozen(slots=True)
class Copy:
    """A whole snapshot in one message; only its place in the log matters here."""

    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId
    index: Index
    index_term: Term
    time_us: int
    membership: Membership


@attrs.frozen(slots=True)
class CopyDone:
    """The answer to a snapshot; ``index`` is None when it was not wanted."""

    from_replica: ReplicaId
    to_replica: ReplicaId
    index: Index | None


Message = RaftMessage | Copy | CopyDone


@attrs.frozen(slots=True)
class Lost:
    """A message that a cut link swallowed."""

    message: Message


class Disk:
    """What survives a crash: the entries and hard state of every finished write.

    ``membership`` is the configuration as of the entry before ``first_index``, as an applied state would hold it.
    """

    def __init__(self, membership: Membership = UNKNOWN) -> None:
        self.membership = membership
        self.first_index: Index = 1
        self.previous_term: Term = 0
        self.time_us = 0
        self.entries: list[Entry] = []
        self.hard_state = HardState()
        self.reads = 0

    @property
    def last_index(self) -> Index:
        return self.first_index + len(self.entries) - 1

    def entry(self, index: Index) -> Entry | None:
        return self.entries[index - self.first_index] if self.first_index <= index <= self.last_index else None

    def write(self, write: LogWrite) -> None:
        if write.truncate_from is not None:
            del self.entries[max(0, write.truncate_from - self.first_index) :]
        for entry in write.entries:
            assert entry.index == self.last_index + 1, "a write leaves a gap on disk"
            self.entries.append(entry)
        if write.hard_state is not None:
            assert write.hard_state.current_term >= self.hard_state.current_term
            self.hard_state = write.hard_state

    def compact_to(self, index: Index) -> None:
        if index >= self.first_index:
            dropped = self.entries[: index - self.first_index + 1]
            self.previous_term, self.time_us = dropped[-1].term, dropped[-1].time_us
            for entry in dropped:
                if entry.kind == EntryKind.MEMBERSHIP:
                    self.membership = decode_membership(entry.payload)
            del self.entries[: len(dropped)]
            self.first_index = index + 1

    def reset(self, index: Index, term: Term, time_us: int, membership: Membership | None = None) -> None:
        self.entries.clear()
        self.membership = self.membership if membership is None else membership
        self.first_index, self.previous_term, self.time_us = index + 1, term, time_us

    def summary(self) -> LogSummary:
        terms = tuple(entry.term for entry in self.entries)
        sizes = tuple(len(entry.encoded) for entry in self.entries)
        return LogSummary(self.first_index, self.previous_term, terms, sizes)

    def read_entries(self, shard: ShardId, low: Index, high: Index, bytes_max: int) -> list[bytes]:
        self.reads += 1
        found: list[bytes] = []
        for entry in self.entries[low - self.first_index : high - self.first_index]:
            if found and sum(map(len, found)) + len(entry.encoded) > bytes_max:
                break
            found.append(entry.encoded)
        return found


def is_majority(voters: tuple[ReplicaId, ...], some: set[ReplicaId]) -> bool:
    """Whether ``some`` hold more than half of ``voters``; of no voters at all they hold enough."""
    return not voters or 2 * len(some & set(voters)) > len(voters)


def is_quorum(membership: Membership, some: set[ReplicaId]) -> bool:
    """Section 6: a majority of each half."""
    return is_majority(membership.voters, some) and is_majority(membership.voters_outgoing, some)


def check_step(before: Membership, after: Membership) -> None:
    """Section 6 and thesis 4.1: no two configurations next to each other have majorities that do not overlap."""
    if before.is_joint:
        assert not after.is_joint, "a joint configuration is left before the next change"
        assert after.voters == before.voters, "leaving a joint configuration changes no voter"
    elif after.is_joint:
        assert after.voters_outgoing == before.voters, "a joint configuration holds the former voters"
    else:
        assert len(set(before.voters) ^ set(after.voters)) <= 1, f"two voters changed at once: {before}, {after}"


class Law:
    """What must hold across all replicas and all time (Figure 3), checked as things happen."""

    def __init__(self) -> None:
        self.leaders: dict[Term, ReplicaId] = {}
        self.votes: dict[tuple[Term, ReplicaId], ReplicaId] = {}
        self.acknowledged: dict[tuple[Term, ReplicaId], Index] = {}
        self.appended: dict[tuple[Index, Term], tuple[Entry, Term]] = {}
        self.memberships: dict[tuple[Index, Term], Membership] = {}
        self.committed: dict[Index, Entry] = {}
        self.committed_terms: set[Term] = set()
        self.commit_index: Index = 0

    def membership_at(self, index: Index, log: RaftLog, base: Membership) -> tuple[Index, Membership]:
        """The configuration that ``log`` has in effect at ``index``, and its entry's index (0: ``base``)."""
        for at, term in sorted(self.memberships, reverse=True):
            if log.first_index <= at <= index and log.term_at(at) == term:
                return at, self.memberships[at, term]
        return 0, base

    def check_leader(self, note: BecameLeader, replica: ReplicaId, membership: Membership) -> None:
        assert self.leaders.setdefault(note.term, replica) == replica, f"two leaders in term {note.term}"
        voters = {voter for (term, voter), candidate in self.votes.items() if (term, candidate) == (note.term, replica)}
        assert is_quorum(membership, voters | {replica}), f"{replica} leads term {note.term} with the votes of {voters}"

    def check_entry(self, entry: Entry, log: RaftLog, base: Membership) -> None:
        """``entry`` begins to be written by the replica whose ``log`` this is."""
        previous_term = log.term_at(entry.index - 1) or 0
        is_new = (entry.index, entry.term) not in self.appended
        known = self.appended.setdefault((entry.index, entry.term), (entry, previous_term))
        assert known == (entry, previous_term), f"log matching is broken at {entry!r}"
        before = self.appended.get((entry.index - 1, previous_term))
        assert before is None or before[0].time_us <= entry.time_us, f"the log's time goes back at {entry!r}"
        if is_new and entry.kind == EntryKind.MEMBERSHIP:
            self.check_membership(entry, *self.membership_at(entry.index - 1, log, base))

    def check_membership(self, entry: Entry, former_index: Index, former: Membership) -> None:
        """Thesis 4.1: no change before the last one is committed, nor before the leader committed in its own term."""
        self.memberships[entry.index, entry.term] = membership = decode_membership(entry.payload)
        check_step(former, membership)
        assert former_index <= self.commit_index, f"two changes at once: {former_index} and {entry.index}"
        assert entry.term in self.committed_terms, "a change before the leader committed in its own term"

    def check_commit(self, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"two entries were committed at {entry.index}: {known!r}, {entry!r}"
        self.committed_terms.add(entry.term)
        self.commit_index = max(self.commit_index, entry.index)

    def check_left(self, replica: ReplicaId, first: Membership) -> None:
        """It was a member once, and the last committed configuration is without it."""
        known = [first]
        known += [
            decode_membership(self.committed[at].payload) for at in sorted(self.committed) if self._configures(at)
        ]
        assert any(membership.host_of(replica) for membership in known), f"{replica} never was a member"
        assert not known[-1].host_of(replica), f"{replica} is still a member"

    def _configures(self, index: Index) -> bool:
        return self.committed[index].kind == EntryKind.MEMBERSHIP

    def check_message(self, message: RaftMessage, disk: Disk) -> None:
        """Nothing is promised before it is persisted, and nobody is told of more than it acknowledged itself."""
        durable = disk.hard_state
        later = durable.current_term > message.term
        if isinstance(message, RequestVote):
            assert later or (durable.current_term, durable.voted_for) == (message.term, message.from_replica)
        elif isinstance(message, RequestVoteReply) and message.vote_granted:
            assert later or (durable.current_term, durable.voted_for) == (message.term, message.to_replica)
            voted = self.votes.setdefault((message.term, message.from_replica), message.to_replica)
            assert voted == message.to_replica, "one replica voted twice in one term"
        elif isinstance(message, AppendEntriesReply):
            assert durable.current_term >= message.term
            if message.success:
                assert later or disk.last_index >= message.match_index, "an acknowledgement of what is not durable"
                place = message.term, message.from_replica
                self.acknowledged[place] = max(message.match_index, self.acknowledged.get(place, 0))
        elif isinstance(message, Heartbeat | CommitAdvance):
            acknowledged = self.acknowledged.get((message.term, message.to_replica), 0)
            assert message.commit_index <= acknowledged, f"the receiver acknowledged no more than {acknowledged}"
        elif isinstance(message, HeartbeatReply):
            assert durable.current_term >= message.term
