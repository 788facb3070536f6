"""After the first write that failed a store writes nothing more, and what was acknowledged is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.kv.commands import Stored
from shardraft.raft.ready import HardState, LogWrite
from shardraft.storage.environment import MAP_BYTES
from shardraft.storage.store import open_store
from tests.contracts.store_world import CLUSTER, HOST, append, entry, flush, recovered, state_at
from tests.storage.conftest import DiskWorld

MIB = 1 << 20


def test_a_full_map_of_the_state_leaves_the_flush_before_whole(used: Path, disk_world: DiskWorld) -> None:
    store = open_store(used, cluster_id=CLUSTER, host=HOST, map_bytes=2 * MIB)
    store.recover()
    with pytest.raises(StorageError) as caught:
        flush(store, state_at(1, 50, 2), {b"%03d" % number: Stored(1, b"x" * 50_000) for number in range(200)})
    assert f"the map of {used}/state ({2 * MIB} bytes) is full" in str(caught.value)
    assert "start the host again with a larger map size" in str(caught.value)
    assert store.is_disk_low()
    with pytest.raises(StorageError, match="is full"):
        flush(store, state_at(1, 50, 2), {})
    store.close()
    again = disk_world.open(used)
    assert recovered(again, 1).state == state_at(1, 30, 2)
    assert again.get(1, b"000") == Stored(0, b"value-needle" * 20)


WRITES_UNTIL_THE_DISK_SAYS_NO = """
import resource, sys
from pathlib import Path
from shardraft.errors import StorageError
from shardraft.raft.ready import HardState, LogWrite
from shardraft.storage.store import open_store
from tests.contracts.store_world import append, entry

store = open_store(Path(sys.argv[1]), cluster_id=None, host=None)
store.recover()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
last = 50
try:
    while last < 1000:
        append(store, LogWrite(1, 0, None, (entry(1, last + 1, 2, b"x" * 100_000),)))
        last += 1
except StorageError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
try:
    append(store, LogWrite(1, 0, None, (), HardState(9, 1, 40)))
except StorageError as error:
    print(error)
print(last)
"""


@pytest.mark.parametrize("file_bytes_max", [1 << 19, (1 << 20) - 1], ids=["in a segment", "making one"])
def test_a_write_that_the_disk_refused_is_the_last(used: Path, disk_world: DiskWorld, file_bytes_max: int) -> None:
    """Also when there is room again: after a failed sync a later one says that all is well (fsyncgate)."""
    ran = subprocess.run(
        [sys.executable, "-c", WRITES_UNTIL_THE_DISK_SAYS_NO, str(used), str(file_bytes_max)],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, last = ran.stdout.splitlines()
    assert f"writing to {used}/log failed" in first
    assert "a later one may lie; check the disk" in first
    assert second == first
    found = recovered(disk_world.open(used), 1)
    assert len(found.log.terms) == int(last)
    assert found.hard_state == HardState(2, 1, 40)


def test_an_error_of_the_caller_writes_nothing_and_is_not_kept(used: Path, disk_world: DiskWorld) -> None:
    store = disk_world.open(used)
    store.recover()
    with pytest.raises(AssertionError, match="follow the log without a gap"):
        append(store, LogWrite(1, 0, None, (entry(1, 52, 2),), HardState(9, 9, 9)))
    assert recovered(store, 1).hard_state == HardState(2, 1, 40)
    append(store, LogWrite(1, 0, None, (entry(1, 51, 2),)))
    assert len(recovered(disk_world.crash(store), 1).log.terms) == 51


def test_nothing_is_written_before_the_log_was_recovered(used: Path, disk_world: DiskWorld) -> None:
    with pytest.raises(AssertionError, match="recovered before"):
        disk_world.open(used).commit_log([LogBatch((LogWrite(1, 0, None, (), HardState(1, 1, 1)),))])


def test_the_free_space_is_that_of_the_disk_or_of_a_map(used: Path) -> None:
    with_room = open_store(used, cluster_id=CLUSTER, host=HOST, disk_free_bytes_min=1)
    assert 0 < with_room.free_bytes() <= MAP_BYTES
    assert not with_room.is_disk_low()
    with_room.close()

    small_map = open_store(used, cluster_id=CLUSTER, host=HOST, map_bytes=8 * MIB)
    assert 6 * MIB < small_map.free_bytes() < 8 * MIB
    assert small_map.is_disk_low()
    small_map.close()

    demanding = open_store(used, cluster_id=CLUSTER, host=HOST, disk_free_bytes_min=1 << 60)
    assert demanding.is_disk_low()
    demanding.close()
