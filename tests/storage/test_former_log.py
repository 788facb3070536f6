"""A log in an LMDB environment is taken over once, whatever crash meets it, and never lost."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import pytest

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.storage import former_log
from shardraft.storage.directory import DataDirectory
from shardraft.storage.former_log import take_over
from shardraft.storage.identity import read_identity_file
from shardraft.storage.log import SegmentedLog
from shardraft.storage.store import open_store

V1 = Path(__file__).parent.parent / "formats" / "v1"
TERMS = (1, 2, 2, 2, 3)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return shutil.copytree(V1, tmp_path / "host")


def terms(directory: Path) -> tuple[int, ...]:
    store = open_store(directory, cluster_id=None, host=None)
    try:
        return store.recover().shards[0].log.terms
    finally:
        store.close()


def test_nothing_of_the_old_log_is_left(directory: Path) -> None:
    assert terms(directory) == TERMS
    assert sorted(path.name for path in directory.iterdir()) == ["copies", "identity", "lock", "log", "state"]
    assert sorted(path.name for path in (directory / "log").iterdir()) == ["identity", "segment-00000001"]
    assert terms(directory) == TERMS, "the second start finds nothing to take over"


def take_over_here(directory: Path) -> None:
    places = DataDirectory(directory)
    identity = read_identity_file(places.identity)
    assert identity is not None
    take_over(places, identity)


def end_at(call: int, patch: pytest.MonkeyPatch) -> None:
    """Let the process end right before the renaming, syncing or deleting of that number."""
    calls = itertools.count()

    def counted(step: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **more: object) -> object:
            if next(calls) == call:
                raise KeyboardInterrupt
            return step(*arguments, **more)

        return run

    patch.setattr(Path, "rename", counted(Path.rename))
    patch.setattr(former_log, "sync_directory", counted(former_log.sync_directory))
    patch.setattr(former_log.shutil, "rmtree", counted(shutil.rmtree))


@pytest.mark.parametrize("call", range(6))
def test_a_crash_between_any_two_steps_loses_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    with monkeypatch.context() as patch:
        end_at(call, patch)
        with pytest.raises(KeyboardInterrupt):
            take_over_here(directory)
    assert terms(directory) == TERMS
    assert not (directory / "log.new").exists()
    assert not (directory / "log.former").exists()


def test_a_half_made_new_log_is_made_again(directory: Path) -> None:
    (directory / "log.new").mkdir()
    (directory / "log.new" / "segment-00000001").write_bytes(b"half of it")
    assert terms(directory) == TERMS


def test_an_old_log_is_looked_at_before_it_is_opened(directory: Path) -> None:
    os.truncate(directory / "log" / "data.mdb", 8192)
    with pytest.raises(StorageError, match=r"log/data.mdb was truncated"):
        take_over_here(directory)
    assert not (directory / "log.former").exists()


def test_a_damaged_old_log_is_refused_and_stays(directory: Path) -> None:
    path = directory / "log" / "data.mdb"
    content = path.read_bytes()
    needle = b"\x00\x01key 1"
    assert needle in content
    path.write_bytes(content.replace(needle, b"\x00\x01key ?"))
    with pytest.raises(StorageError, match=r"log cannot be taken over \(the checksum of an entry does not match\)"):
        take_over_here(directory)
    assert path.exists()
    assert not (directory / "log.new").exists()


def test_a_log_that_does_not_belong_here_is_refused_and_stays(directory: Path) -> None:
    places = DataDirectory(directory)
    identity = read_identity_file(places.identity)
    assert identity is not None
    with pytest.raises(StorageError, match=r"log was last used by start 1 of this host, .* an older copy"):
        take_over(places, attrs.evolve(identity, incarnation=7))
    assert (directory / "log" / "data.mdb").exists()


def test_a_large_log_is_taken_over_in_parts(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(former_log, "PART_BYTES", 300)
    commits = []
    commit = SegmentedLog.commit

    def counted(log: SegmentedLog, batches: Sequence[LogBatch]) -> None:
        commits.append(len(batches[0].writes[0].entries))
        commit(log, batches)

    monkeypatch.setattr(SegmentedLog, "commit", counted)
    assert terms(directory) == TERMS
    assert len([count for count in commits if count]) > 1
