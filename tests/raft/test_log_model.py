"""``RaftLog`` behaves like a plain list with a disk that finishes writes in order, whatever happens in between."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.log import RaftLog
from shardraft.raft.ready import LogWrite
from shardraft.types import Index, Term
from tests.raft.law import SHARD, Disk

CACHE_BYTES_MAX = 300


class LogModel(RuleBasedStateMachine):
    """``entries`` is the log as a list from ``first``; ``disk`` holds what finished writes left there."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk()
        self.log = RaftLog(SHARD, self.disk, self.disk.summary(), cache_bytes_max=CACHE_BYTES_MAX)
        self.first: Index = 1
        self.previous_term: Term = 0
        self.entries: list[Entry] = []
        self.term: Term = 1
        self.being_written: deque[LogWrite] = deque()
        self.unreported: deque[LogWrite] = deque()

    @property
    def last(self) -> Index:
        return self.first + len(self.entries) - 1

    @rule(payloads=st.lists(st.binary(max_size=120), min_size=1, max_size=4), new_term=st.booleans())
    def append(self, payloads: list[bytes], new_term: bool) -> None:
        self.term += new_term
        added = [
            encode_entry(SHARD, index, self.term, EntryKind.BATCH, 0, payload)
            for index, payload in enumerate(payloads, self.last + 1)
        ]
        self.log.append(added)
        self.entries += added

    @precondition(lambda self: self.entries)
    @rule(place=st.floats(0, 1, exclude_max=True))
    def truncate(self, place: float) -> None:
        index = self.first + int(place * len(self.entries))
        self.term += 1
        self.log.truncate_from(index)
        del self.entries[index - self.first :]

    @rule()
    def take_write(self) -> None:
        taken = self.log.take_write()
        if taken is not None:
            self.being_written.append(taken)
        assert not self.log.has_unwritten

    @precondition(lambda self: self.being_written)
    @rule()
    def finish_write(self) -> None:
        finished = self.being_written.popleft()
        self.disk.write(finished)
        self.unreported.append(finished)

    @precondition(lambda self: self.unreported)
    @rule()
    def report_write(self) -> None:
        self.log.persisted(self.unreported.popleft())

    @precondition(lambda self: self.log.persisted_index >= self.log.first_index)
    @rule(place=st.floats(0, 1))
    def compact(self, place: float) -> None:
        index = self.first + int(place * (self.log.persisted_index - self.first))
        self.log.compact_to(index)
        self.disk.compact_to(index)
        self.previous_term = self.entries[index - self.first].term
        del self.entries[: index - self.first + 1]
        self.first = index + 1

    @rule(ahead=st.integers(0, 5))
    def reset(self, ahead: int) -> None:
        """A snapshot: earlier writes finish first; that they did may be reported later."""
        while self.being_written:
            self.finish_write()
        index = self.last + ahead
        self.term += 1
        self.disk.reset(index, self.term, 0)
        self.log.reset(index, self.term)
        self.first, self.previous_term = index + 1, self.term
        self.entries.clear()

    @rule(low=st.floats(0, 1), high=st.floats(0, 1), bytes_max=st.integers(0, 600))
    def read(self, low: float, high: float, bytes_max: int) -> None:
        start, end = sorted((int(low * len(self.entries)), int(high * len(self.entries))))
        wanted = self.entries[start:end]
        found = self.log.entries(self.first + start, self.first + end, bytes_max)
        assert list(found) == wanted[: len(found)]
        sizes = [len(entry.encoded) for entry in wanted]
        fitting = [count for count in range(len(sizes) + 1) if sum(sizes[:count]) <= bytes_max]
        assert len(found) == max(*fitting, min(1, len(sizes)))

    @rule(bytes_max=st.integers(0, 2000))
    def cut(self, bytes_max: int) -> None:
        cut = self.log.cut_for_bytes(bytes_max)
        sizes = [len(entry.encoded) for entry in self.entries]
        kept = sizes[cut - self.first + 1 :]
        assert sum(kept) <= bytes_max
        assert cut == self.first - 1 or sum(sizes[cut - self.first :]) > bytes_max

    @invariant()
    def boundaries_agree(self) -> None:
        log = self.log
        assert (log.first_index, log.last_index) == (self.first, self.last)
        assert log.last_term == (self.entries[-1].term if self.entries else self.previous_term)
        assert log.log_bytes == sum(len(entry.encoded) for entry in self.entries)
        known = [self.previous_term, *(entry.term for entry in self.entries), None]
        assert [log.term_at(index) for index in range(self.first - 1, self.last + 2)] == known

    @invariant()
    def what_counts_as_persisted_is_on_disk(self) -> None:
        persisted = self.log.persisted_index
        assert self.first - 1 <= persisted <= self.last
        for entry in self.entries[: persisted - self.first + 1]:
            assert self.disk.entry(entry.index) == entry

    @invariant()
    def everything_is_persisted_once_all_is_reported(self) -> None:
        if not (self.log.has_unwritten or self.being_written or self.unreported):
            assert self.log.persisted_index == self.last


LogModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLogModel = LogModel.TestCase
