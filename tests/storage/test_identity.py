"""Making a data directory, and the steps with which each start raises the incarnation in three places."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shardraft.errors import StorageError
from shardraft.storage.directory import DataDirectory, replace_file
from shardraft.storage.identity import create_data_directory, has_identity, read_identity_file
from shardraft.storage.store import open_store
from shardraft.types import Identity
from shardraft.wire.stored import encode_identity
from tests.contracts.store_world import CLUSTER, HOST
from tests.storage.conftest import DiskWorld


def start(directory: Path, boot_nonce: int | None = None) -> Identity:
    """Open and close a data directory; the identity of that start."""
    store = open_store(directory, cluster_id=CLUSTER, host=HOST, boot_nonce=boot_nonce)
    store.close()
    return store.identity


# Making one.


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    create_data_directory(tmp_path / "a" / "b", CLUSTER, HOST)
    assert has_identity(tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["identity", "lock", "log", "state"]


def test_an_empty_file_system_is_a_blank_directory(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    create_data_directory(tmp_path, CLUSTER, HOST)
    assert has_identity(tmp_path)


def test_a_directory_is_never_made_over_another(used: Path) -> None:
    with pytest.raises(StorageError, match=r"is not empty .* open it if it is this host's data directory"):
        create_data_directory(used, CLUSTER, HOST)


def test_a_directory_is_never_made_over_data_that_lost_its_identity(used: Path) -> None:
    (used / "identity").unlink()
    with pytest.raises(StorageError, match="is not empty"):
        create_data_directory(used, CLUSTER, HOST)


def test_a_directory_is_never_made_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another data directory"):
        create_data_directory(tmp_path / "file", CLUSTER, HOST)


@pytest.mark.parametrize("made", [(), ("log",), ("log", "state")])
def test_a_making_that_was_interrupted_is_refused_and_can_be_begun_again(tmp_path: Path, made: tuple[str, ...]) -> None:
    create_data_directory(tmp_path / "whole", CLUSTER, HOST)
    part = tmp_path / "part"
    part.mkdir()
    (part / "creating").touch()
    for name in made:
        shutil.copytree(tmp_path / "whole" / name, part / name)
    with pytest.raises(StorageError, match="was interrupted and nothing ran from it: make it again"):
        start(part)
    create_data_directory(part, CLUSTER, HOST)
    assert start(part).incarnation == 1


def test_a_making_that_was_interrupted_at_its_last_step_is_whole(tmp_path: Path) -> None:
    create_data_directory(tmp_path, CLUSTER, HOST)
    (tmp_path / "creating").touch()
    assert start(tmp_path).incarnation == 1
    assert not (tmp_path / "creating").exists()


# Starting.


def test_each_start_counts_and_draws_another_nonce(tmp_path: Path) -> None:
    create_data_directory(tmp_path, CLUSTER, HOST)
    first, second, third = (start(tmp_path) for _ in range(3))
    assert [first.incarnation, second.incarnation, third.incarnation] == [1, 2, 3]
    assert len({first.boot_nonce, second.boot_nonce, third.boot_nonce}) == 3


def test_a_given_nonce_is_used(tmp_path: Path) -> None:
    create_data_directory(tmp_path, CLUSTER, HOST)
    assert start(tmp_path, boot_nonce=77) == Identity(CLUSTER, HOST, 1, 77)


def test_all_three_places_hold_the_identity_of_the_start(disk_world: DiskWorld) -> None:
    store = disk_world.make_store()
    places = DataDirectory(store.directory)
    assert read_identity_file(places.identity) == store.identity
    assert store._log.read_identity() == store.identity
    assert store._state.read_identity() == store.identity
    assert not places.starting.exists()


@pytest.mark.parametrize("moved", [(), ("log",), ("log", "state")])
def test_a_start_that_crashed_between_its_steps_is_finished_by_the_next(tmp_path: Path, moved: tuple[str, ...]) -> None:
    """``identity.starting`` stands, and the environments in ``moved`` took it over."""
    create_data_directory(tmp_path / "before", CLUSTER, HOST)
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    after = start(tmp_path / "after", boot_nonce=5)
    crashed = tmp_path / "crashed"
    shutil.copytree(tmp_path / "before", crashed)
    shutil.copy(tmp_path / "after" / "identity", crashed / "identity.starting")
    for name in moved:
        shutil.rmtree(crashed / name)
        shutil.copytree(tmp_path / "after" / name, crashed / name)
    following = start(crashed)
    assert following.incarnation == after.incarnation + 1
    assert start(crashed).incarnation == after.incarnation + 2


def test_a_start_under_way_does_not_excuse_an_older_environment(tmp_path: Path) -> None:
    create_data_directory(tmp_path / "host", CLUSTER, HOST)
    shutil.copytree(tmp_path / "host" / "log", tmp_path / "older")
    start(tmp_path / "host")
    second = start(tmp_path / "host")
    replace_file(
        tmp_path / "host" / "identity.starting", encode_identity(Identity(CLUSTER, HOST, second.incarnation + 1, 9))
    )
    shutil.rmtree(tmp_path / "host" / "log")
    shutil.copytree(tmp_path / "older", tmp_path / "host" / "log")
    with pytest.raises(StorageError, match="one of them is an older copy"):
        start(tmp_path / "host")


def test_two_starts_of_one_incarnation_differ_by_their_nonce(tmp_path: Path) -> None:
    """A restored copy of the whole disk: an environment of the one does not pass in the other."""
    create_data_directory(tmp_path / "one", CLUSTER, HOST)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert start(tmp_path / "one").incarnation == start(tmp_path / "two").incarnation
    shutil.rmtree(tmp_path / "one" / "log")
    shutil.copytree(tmp_path / "two" / "log", tmp_path / "one" / "log")
    with pytest.raises(StorageError, match="one of them is an older copy"):
        start(tmp_path / "one")


# One process at a time.


def test_a_second_process_is_told_who_holds_the_directory(disk_world: DiskWorld) -> None:
    store = disk_world.make_store()
    with pytest.raises(StorageError, match=rf"is in use by process {os.getpid()}: stop that process first"):
        open_store(store.directory, cluster_id=CLUSTER, host=HOST)
    disk_world.reopen(store)


# A directory that others know a later start of.


def test_a_condemned_directory_is_never_opened_again(used: Path) -> None:
    store = open_store(used, cluster_id=CLUSTER, host=HOST)
    store.condemn("host 1 was met in start 7")
    store.close()
    for _ in range(2):
        with pytest.raises(StorageError, match="refused by another host of its cluster: host 1 was met in start 7"):
            start(used)


def test_a_directory_that_cannot_be_condemned_says_so(used: Path) -> None:
    store = open_store(used, cluster_id=CLUSTER, host=HOST)
    (used / "superseded.tmp").mkdir()
    with pytest.raises(StorageError, match="superseded cannot be written"):
        store.condemn("host 1 was met in start 7")
    store.close()
