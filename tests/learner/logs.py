"""Logs and shards for the tests of the read tree, small enough to be obviously right.

``ListLog`` stands in for ``RaftLog``; ``test_logs`` holds both to the same sentences.
"""

from __future__ import annotations

from shardraft.errors import Compacted
from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.types import Index, ShardId, Term

SHARD: ShardId = 1


def entry(index: Index, term: Term = 1, *, shard: ShardId = SHARD, payload_bytes: int = 0) -> Entry:
    """One entry; equal arguments make equal entries."""
    return encode_entry(shard, index, term, EntryKind.BATCH, index, bytes(payload_bytes))


def entries(low: Index, high: Index, term: Term = 1, *, shard: ShardId = SHARD, payload_bytes: int = 0) -> list[Entry]:
    """Entries from ``low`` to ``high``, both included."""
    return [entry(index, term, shard=shard, payload_bytes=payload_bytes) for index in range(low, high + 1)]


class ListLog:
    """A ``CommittedLog`` that is a plain list. ``reads`` counts calls of ``entries``."""

    def __init__(self, kept: list[Entry] | None = None, *, first_index: Index = 1, previous_term: Term = 0) -> None:
        self.first_index = first_index
        self.previous_term = previous_term
        self.kept = list(kept or [])
        self.reads = 0

    @property
    def last_index(self) -> Index:
        return self.first_index + len(self.kept) - 1

    @property
    def last_term(self) -> Term:
        return self.kept[-1].term if self.kept else self.previous_term

    def term_at(self, index: Index) -> Term | None:
        if index == self.first_index - 1:
            return self.previous_term
        return self.kept[index - self.first_index].term if self.first_index <= index <= self.last_index else None

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> tuple[Entry, ...]:
        self.reads += 1
        assert high_exclusive <= self.last_index + 1
        if low < self.first_index:
            raise Compacted(first_index=self.first_index)
        taken: list[Entry] = []
        for item in self.kept[low - self.first_index : high_exclusive - self.first_index]:
            if taken and sum(len(other.encoded) for other in taken) + len(item.encoded) > bytes_max:
                break
            taken.append(item)
        return tuple(taken)

    def append(self, added: list[Entry] | tuple[Entry, ...]) -> None:
        for item in added:
            assert item.index == self.last_index + 1
            self.kept.append(item)

    def compact_to(self, index: Index) -> None:
        """Drop the entries up to and with ``index``."""
        if index >= self.first_index:
            term = self.term_at(index)
            assert term is not None
            self.previous_term = term
            del self.kept[: index - self.first_index + 1]
            self.first_index = index + 1

    def reset(self, index: Index, term: Term) -> None:
        """A copy at ``index`` took the place of everything."""
        self.kept.clear()
        self.first_index = index + 1
        self.previous_term = term


class ListShard:
    """A ``LearnerShard`` around a ``ListLog``; applies nothing unless told to."""

    def __init__(self, log: ListLog | None = None, *, shard: ShardId = SHARD) -> None:
        self.shard = shard
        self.log = log if log is not None else ListLog()
        self.last_applied = self.log.last_index
        self.applied_hash = 0
        self.installing = False
        self.parent_commit_index: Index = 0

    @property
    def last_index(self) -> Index:
        return self.log.last_index

    @property
    def last_term(self) -> Term:
        return self.log.last_term

    def accept(self, accepted: tuple[Entry, ...], commit_index: Index) -> None:
        self.log.append(accepted)
        self.parent_commit_index = commit_index
