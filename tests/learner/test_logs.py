"""The list log of these tests and the real log answer a feed alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shardraft.errors import Compacted
from shardraft.learner.ports import CommittedLog
from shardraft.raft.entry import Entry
from shardraft.raft.log import RaftLog
from shardraft.raft.ready import LogSummary
from shardraft.types import Index, ShardId
from tests.learner.logs import SHARD, ListLog, entries


class _Disk:
    """Where the real log reads what is no longer in memory."""

    def __init__(self, kept: list[Entry]) -> None:
        self.kept = kept

    def read_entries(self, shard: ShardId, low: Index, high: Index, bytes_max: int) -> list[bytes]:
        first = self.kept[0].index
        taken: list[bytes] = []
        for item in self.kept[low - first : high - first]:
            if taken and sum(map(len, taken)) + len(item.encoded) > bytes_max:
                break
            taken.append(item.encoded)
        return taken


def _list_log(first_index: Index, kept: list[Entry]) -> CommittedLog:
    return ListLog(kept, first_index=first_index, previous_term=min(1, first_index - 1))


def _raft_log(first_index: Index, kept: list[Entry]) -> CommittedLog:
    summary = LogSummary(
        first_index,
        min(1, first_index - 1),
        tuple(item.term for item in kept),
        tuple(len(item.encoded) for item in kept),
    )
    return RaftLog(SHARD, _Disk(kept), summary, cache_bytes_max=1 << 20)


MakeLog = Callable[[Index, list[Entry]], CommittedLog]
both = pytest.mark.parametrize("make", [_list_log, _raft_log])


@both
def test_a_log_knows_the_terms_of_what_it_keeps_and_of_the_entry_before_it(make: MakeLog) -> None:
    log = make(5, [*entries(5, 6, 1), *entries(7, 8, 3)])
    assert (log.first_index, log.last_index) == (5, 8)
    assert [log.term_at(index) for index in (3, 4, 5, 6, 7, 8, 9)] == [None, 1, 1, 1, 3, 3, None]


@both
def test_the_term_before_the_very_first_entry_is_zero(make: MakeLog) -> None:
    assert make(1, []).term_at(0) == 0
    assert make(1, entries(1, 2)).term_at(0) == 0


@both
def test_entries_come_in_order_up_to_the_bytes_asked_for_but_at_least_one(make: MakeLog) -> None:
    log = make(5, entries(5, 9))
    entry_bytes = len(entries(5, 5)[0].encoded)
    assert [item.index for item in log.entries(6, 9, 1 << 20)] == [6, 7, 8]
    assert [item.index for item in log.entries(6, 10, 2 * entry_bytes)] == [6, 7]
    assert [item.index for item in log.entries(6, 10, 1)] == [6]


@both
def test_entries_below_the_first_are_gone(make: MakeLog) -> None:
    with pytest.raises(Compacted):
        make(5, entries(5, 9)).entries(4, 6, 1 << 20)
