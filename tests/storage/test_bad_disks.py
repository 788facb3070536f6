"""A blank, foreign, older, truncated or damaged disk is refused in one sentence that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shardraft.errors import StorageError
from shardraft.storage.identity import create_data_directory, has_identity
from shardraft.storage.inspection import dry_run, inspect_data_file
from shardraft.storage.store import open_store
from tests.contracts.store_world import CLUSTER, HOST
from tests.storage.conftest import DiskWorld, flip_everywhere

NEW_ID = "under a new host id"


def refusal(directory: Path, cluster_id: bytes = CLUSTER, host: int = HOST) -> str:
    """The sentence with which a directory is refused; it names the directory."""
    with pytest.raises(StorageError) as caught:
        open_store(directory, cluster_id=cluster_id, host=host)
    text = str(caught.value)
    assert str(directory) in text
    assert "\n" not in text
    return text


# Whose it is.


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    text = refusal(tmp_path / "gone")
    assert "does not exist: check that the disk is mounted" in text
    assert "a new host under a new id" in text
    assert not (tmp_path / "gone").exists()


def test_a_blank_directory_under_a_known_id(tmp_path: Path) -> None:
    text = refusal(tmp_path)
    assert "is blank" in text
    assert "never start this host id again on an empty directory" in text
    assert list(tmp_path.iterdir()) == [], "a directory of nobody is left as it is"


def test_data_without_an_identity(used: Path) -> None:
    (used / "identity").unlink()
    assert "has data and no identity file" in refusal(used)
    assert not has_identity(used)


def test_the_disk_of_another_cluster(used: Path) -> None:
    text = refusal(used, cluster_id=b"another cluster!")
    assert f"belongs to cluster {CLUSTER.hex()}" in text
    assert "give the data directory of this cluster" in text


def test_the_disk_of_another_host(used: Path) -> None:
    assert "belongs to host 1, not to host 2: give each host its own data directory" in refusal(used, host=2)


def test_what_the_directory_says_is_taken_when_nothing_is_expected(used: Path) -> None:
    store = open_store(used, cluster_id=None, host=None)
    assert (store.identity.cluster_id, store.identity.host) == (CLUSTER, HOST)
    store.close()


@pytest.mark.parametrize("part", ["log", "state"])
def test_an_environment_of_another_host(used: Path, tmp_path: Path, part: str) -> None:
    create_data_directory(tmp_path / "other", CLUSTER, 2)
    shutil.rmtree(used / part)
    shutil.copytree(tmp_path / "other" / part, used / part)
    text = refusal(used)
    assert f"{part} belongs to host 2" in text
    assert "put back the directory that belongs here" in text


@pytest.mark.parametrize("part", ["log", "state"])
def test_an_environment_from_an_older_copy(used: Path, tmp_path: Path, disk_world: DiskWorld, part: str) -> None:
    """It votes as if it had not voted since."""
    shutil.copytree(used / part, tmp_path / "older")
    disk_world.close(disk_world.open(used))
    shutil.rmtree(used / part)
    shutil.copytree(tmp_path / "older", used / part)
    text = refusal(used)
    assert f"{part} was last used by start 1 of this host" in text
    assert "by start 2: one of them is an older copy" in text
    assert NEW_ID in text


def test_an_identity_from_an_older_copy(used: Path, tmp_path: Path, disk_world: DiskWorld) -> None:
    shutil.copy(used / "identity", tmp_path / "older")
    disk_world.close(disk_world.open(used))
    shutil.copy(tmp_path / "older", used / "identity")
    assert "one of them is an older copy" in refusal(used)


def test_two_environments_in_each_others_place(used: Path) -> None:
    (used / "log").rename(used / "other")
    (used / "state").rename(used / "log")
    (used / "other").rename(used / "state")
    assert "this is the 'state' environment where 'log' belongs: put each back in its own place" in refusal(used)


# What it looks like.


def test_an_empty_identity_file(used: Path) -> None:
    (used / "identity").write_bytes(b"")
    text = refusal(used)
    assert "identity is empty (0 bytes)" in text
    assert NEW_ID in text


@pytest.mark.parametrize("size", [1, 7, 8, 40])
def test_a_truncated_identity_file(used: Path, size: int) -> None:
    os.truncate(used / "identity", size)
    assert "identity is damaged" in refusal(used)


def test_an_identity_file_with_a_flipped_bit(used: Path) -> None:
    flip_everywhere(used / "identity", CLUSTER)
    assert "identity is damaged" in refusal(used)


Damage = Callable[[Path], None]


def overwrite(at: int, content: bytes) -> Damage:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(content)

    return damage


def truncate(part_kept: float) -> Damage:
    return lambda path: os.truncate(path, int(path.stat().st_size * part_kept))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing": (Path.unlink, "is missing"),
    "zero length": (lambda path: os.truncate(path, 0), "is empty (0 bytes), its contents were lost"),
    "a few bytes": (lambda path: os.truncate(path, 100), "was truncated to 100 bytes"),
    "one page": (lambda path: os.truncate(path, 4096), "was truncated to 4096 bytes"),
    "two pages": (lambda path: os.truncate(path, 8192), "was truncated, pages that it needs are beyond its end"),
    "half": (truncate(0.5), "was truncated, pages that it needs are beyond its end"),
    "first meta page garbage": (overwrite(0, b"\xa5" * 4096), "begins with garbage"),
    "first meta page zero": (overwrite(0, bytes(4096)), "begins with garbage"),
    "second meta page garbage": (overwrite(4096, b"\xa5" * 4096), "a meta page was overwritten"),
    "64 KiB garbage": (overwrite(0, b"\x5a" * 65536), "begins with garbage"),
    "another LMDB engine": (overwrite(20, b"\x03"), "LMDB data version 3, this program understands 1"),
}


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_a_damaged_data_file(used: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    damage(used / "state" / "data.mdb")
    text = refusal(used)
    assert "state/data.mdb" in text
    assert words in text
    assert NEW_ID in text or "start the program that wrote it" in text


LOG_DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing": (Path.unlink, "holds no segment of a log, its contents were lost"),
    "zero length": (lambda path: os.truncate(path, 0), "is empty (0 bytes), its contents were lost"),
    "a few bytes": (lambda path: os.truncate(path, 50), "its first block is damaged or missing"),
    "one page": (lambda path: os.truncate(path, 4096), "was truncated to 4096 bytes of 1048576"),
    "half": (truncate(0.5), "was truncated to 524288 bytes of 1048576"),
    "first block garbage": (overwrite(0, b"\xa5" * 4096), "its first block is damaged or missing"),
    "first block zero": (overwrite(0, bytes(512)), "its first block is damaged or missing"),
    "all zero": (overwrite(0, bytes(1 << 20)), "its first block is damaged or missing"),
    "a flipped bit": (lambda path: flip_everywhere(path, b"entry-needle"), "and no crash leaves it so"),
}


@pytest.mark.parametrize("name", sorted(LOG_DAMAGES))
def test_a_damaged_segment(used: Path, name: str) -> None:
    damage, words = LOG_DAMAGES[name]
    damage(used / "log" / "segment-00000001")
    text = refusal(used)
    assert str(used / "log") in text
    assert words in text
    assert NEW_ID in text


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 10), overwrite(30, b"\xff\xff")])
def test_a_damaged_identity_of_the_log(used: Path, damage: Damage) -> None:
    damage(used / "log" / "identity")
    assert f"{used}/log/identity, " in refusal(used)


def test_a_refused_directory_is_not_locked_and_not_changed(used: Path) -> None:
    segment = used / "log" / "segment-00000001"
    whole = segment.read_bytes()
    os.truncate(segment, 0)
    identity = (used / "identity").read_bytes()
    refusal(used)
    assert (used / "identity").read_bytes() == identity
    segment.write_bytes(whole)
    open_store(used, cluster_id=CLUSTER, host=HOST).close()


# Looking before opening.


def test_a_short_file_whose_missing_pages_are_free_is_whole(disk_world: DiskWorld) -> None:
    """LMDB does not write a page that one transaction took at the end of the file and gave back."""
    store = disk_world.make_store()
    state = store.directory / "state"
    with store._state.writing() as transaction:
        for number in range(2000):
            transaction.put(b"%08d" % number, b"x" * 300, db=store._state.database(b"keys"))
        for number in reversed(range(20, 2000)):
            transaction.delete(b"%08d" % number, db=store._state.database(b"keys"))
    directory = disk_world.close(store)
    assert not inspect_data_file(state)
    disk_world.open(directory)


def test_a_whole_file_is_known_as_such_without_reading_it(used: Path) -> None:
    assert inspect_data_file(used / "state")


def test_the_dry_run_leaves_no_trace(used: Path) -> None:
    before = sorted(path.name for path in (used / "state").iterdir())
    dry_run(used / "state")
    assert sorted(path.name for path in (used / "state").iterdir()) == before


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["a", "b"], 2), (["/nonexistent"], 1)])
def test_the_dry_run_as_a_command(arguments: list[str], code: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "shardraft.storage.verify", *arguments], capture_output=True, text=True, check=False
    )
    assert ran.returncode == code
    assert len(ran.stderr.splitlines()) == 1
