"""What may be begun on the loop, and what is left for the log's thread: what takes long or is not only an append."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shardraft.host.turn import LogBatch
from shardraft.raft.ready import HardState, LogWrite
from shardraft.storage.log import SegmentedLog
from shardraft.storage.segment import PlacedBlock
from shardraft.types import Index
from tests.contracts.store_world import entry
from tests.storage.test_interrupted_writes import commit, make_log, write_of


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentedLog]:
    log = make_log(tmp_path / "log")
    yield log
    log.close()


def begin(log: SegmentedLog, index: Index, payload_bytes: int) -> PlacedBlock | None:
    return log.begin_commit([LogBatch((write_of(1, index, b"x" * payload_bytes),))])


def test_a_commit_above_the_limit_is_left_for_the_thread(log: SegmentedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most = len(entry(1, 1, 1, b"x" * 100).encoded)
    monkeypatch.setattr("shardraft.storage.log.LOOP_BLOCK_BYTES_MAX", at_most)
    assert begin(log, 1, 101) is None
    assert begin(log, 1, 100) is not None


def test_a_commit_for_which_a_segment_must_be_made_is_left_for_the_thread(log: SegmentedLog) -> None:
    commit(log, write_of(1, 1, b"x" * 900_000))
    assert begin(log, 2, 200_000) is None
    commit(log, write_of(1, 2, b"x" * 200_000))
    assert begin(log, 3, 200_000) is not None


def test_commits_are_left_for_the_thread_as_long_as_entries_are_to_be_moved(log: SegmentedLog) -> None:
    for index in range(1, 201):
        cold = (write_of(2, index // 8, b"cold"),) if index % 8 == 0 else ()
        commit(log, write_of(1, index, b"x" * 100_000), *cold)
    commit(log, compact=(1, 200))
    assert begin(log, 201, 10) is None
    for term in range(1, 20):
        commit(log, LogWrite(1, 0, None, (), HardState(term, 1, 200)))
    assert begin(log, 201, 10) is not None
