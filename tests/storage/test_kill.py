"""kill -9 in the middle of commits: nothing acknowledged is lost, and every state is that of one moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shardraft.storage.identity import create_data_directory
from shardraft.storage.store import DiskStore, open_store
from tests.contracts.store_world import CLUSTER, HOST, SHARD_MAP, entry
from tests.rules import ROOT
from tests.storage.committing import KEYS, value_at


def acknowledged_before_the_kill(directory: Path, lines: int, *options: str) -> dict[str, int]:
    """Run the committing process, kill it once it said ``lines`` lines, and take everything that it said."""
    said = {"log": 0, "state": 0}
    command = [sys.executable, "-m", "tests.storage.committing", str(directory), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        heard = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        heard += process.stdout.read().splitlines()
    for line in heard:
        what, _, index = line.decode().partition(" ")
        said[what] = int(index)
    return said


def check(store: DiskStore, said: dict[str, int]) -> int:
    """Everything that was said is there and whole; the last index of the log."""
    one, two = store.recover().shards
    last = one.log.first_index - 1 + len(one.log.terms)
    assert last >= said["log"]
    assert two.log.first_index - 1 + len(two.log.terms) == last, "one block holds the entries of all shards"
    low = one.log.first_index
    assert store.read_entries(1, low, last + 1, 1 << 30) == [
        entry(1, index, 1, b"%d" % index * 200).encoded for index in range(low, last + 1)
    ]
    assert one.hard_state.commit_index >= last - 1
    applied = one.state.last_applied
    assert said["state"] <= applied <= last
    assert low - 1 <= applied
    expected = [(b"%02d" % number, value_at(applied, number)) for number in range(KEYS)]
    assert store.scan(1, b"", b"", 1000) == (expected if applied else [])
    return last


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("runs",)])
def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path, options: tuple[str, ...]) -> None:
    create_data_directory(tmp_path / "host", CLUSTER, HOST)
    store = open_store(tmp_path / "host", cluster_id=CLUSTER, host=HOST)
    store.save_shard_map(SHARD_MAP)
    store.close()
    last = 0
    for lines in (1, 7, 13, 40, 41, 43, 101, 102, 104, 150):
        said = acknowledged_before_the_kill(tmp_path / "host", lines, *options)
        store = open_store(tmp_path / "host", cluster_id=CLUSTER, host=HOST)
        before, last = last, check(store, said)
        store.close()
        assert last > before
