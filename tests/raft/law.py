"""What a test cluster's replicas share and are held to: disks, messages on their way, and the law."""

from __future__ import annotations

import attrs

from shardraft.raft.entry import Entry
from shardraft.raft.messages import AppendEntriesReply, HeartbeatReply, RaftMessage, RequestVote, RequestVoteReply
from shardraft.raft.ready import BecameLeader, HardState, LogSummary, LogWrite
from shardraft.types import Index, ReplicaId, ShardId, Term

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
    """What survives a crash: the entries and hard state of every finished write."""

    def __init__(self) -> None:
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
            del self.entries[: len(dropped)]
            self.first_index = index + 1

    def reset(self, index: Index, term: Term, time_us: int) -> None:
        self.entries.clear()
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


class Law:
    """What must hold across all replicas and all time (Figure 3), checked as things happen."""

    def __init__(self) -> None:
        self.leaders: dict[Term, ReplicaId] = {}
        self.votes: dict[tuple[Term, ReplicaId], ReplicaId] = {}
        self.appended: dict[tuple[Index, Term], tuple[Entry, Term]] = {}
        self.committed: dict[Index, Entry] = {}
        self.commit_index: Index = 0

    def check_leader(self, note: BecameLeader, replica: ReplicaId) -> None:
        assert self.leaders.setdefault(note.term, replica) == replica, f"two leaders in term {note.term}"

    def check_entry(self, entry: Entry, previous_term: Term) -> None:
        known = self.appended.setdefault((entry.index, entry.term), (entry, previous_term))
        assert known == (entry, previous_term), f"log matching is broken at {entry!r}"
        before = self.appended.get((entry.index - 1, previous_term))
        assert before is None or before[0].time_us <= entry.time_us, f"the log's time goes back at {entry!r}"

    def check_commit(self, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"two entries were committed at {entry.index}: {known!r}, {entry!r}"
        self.commit_index = max(self.commit_index, entry.index)

    def check_message(self, message: RaftMessage, disk: Disk) -> None:
        """Nothing is promised before it is persisted."""
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
        elif isinstance(message, HeartbeatReply):
            assert durable.current_term >= message.term
