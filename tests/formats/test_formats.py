"""Data directories of every format there was are opened, and hold what was written (see the README beside)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shardraft.kv.commands import ABSENT, ANY_REVISION, DELETE, PUT, Batch, BatchResult, Stored
from shardraft.kv.machine import MachineState, SessionRecord
from shardraft.raft.entry import EntryKind, decode_entry, encode_entry
from shardraft.raft.ready import HardState, LogWrite
from shardraft.shards.keyspace import KeyRange
from shardraft.shards.shard_map import HostPlace, Partitioning, Shard, ShardMap
from shardraft.storage.store import open_store
from shardraft.types import Membership
from shardraft.wire.batch import CapnpBatchCodec
from tests.contracts.store_world import append

HERE = Path(__file__).parent
DIRECTORY_BYTES_MAX = 200_000

CLUSTER = b"formats, v1 ...."
SESSION = b"one session, 16B"
MEMBERSHIP = Membership.of({1: 1, 2: 2, 3: 3})
LOWER, UPPER = KeyRange(b"", b"\x02\x00"), KeyRange(b"\x02\x00", b"")
SHARD_MAP = ShardMap(
    cluster_id=CLUSTER,
    epoch=3,
    partitioning=Partitioning.HASH,
    slots=1024,
    hosts=(HostPlace(1, "10.0.0.1:7000"), HostPlace(2, "[::1]:7001"), HostPlace(3, "three:7002")),
    shards=(Shard(1, LOWER, MEMBERSHIP), Shard(2, UPPER, MEMBERSHIP)),
)


def batch(sequence: int) -> Batch:
    """What entry ``sequence`` + 1 of shard 1 carries: a put without and one with a condition, and a delete."""
    return Batch(
        session=SESSION,
        sequence=sequence,
        answered_below=1,
        opens_session=sequence == 1,
        atomic=sequence % 2 == 0,
        epoch=3,
        kinds=bytes([PUT, PUT, DELETE]),
        keys=(b"\x00\x01key %d" % sequence, b"\x00\x01other", b"\x00\x01gone"),
        values=(b"value %d" % sequence, bytes(range(256)), b""),
        conditions=(ANY_REVISION, ABSENT, 2**40),
        positions=(0, 2, 3) if sequence == 3 else (),
    )


LAST = 6
APPLIED = 4
STATE = MachineState(
    shard=1,
    key_range=LOWER,
    epoch=3,
    last_applied=APPLIED,
    last_applied_term=2,
    applied_hash=0xFEDC_BA98_7654_3210,
    revision=9,
    time_us=1_700_000_000_000_000,
    sessions=(
        SessionRecord(
            SESSION,
            1_700_000_000_000_000,
            1,
            (
                (1, (), BatchResult(1, b"\x01\x01\x03")),
                (2, (), BatchResult(4, b"\x06\x04\x06", (2,))),
                (3, (0, 2, 3), BatchResult(7, b"\x01\x04\x05", (2,))),
            ),
        ),
        SessionRecord(b"another, idle 16", 5, 7, ()),
    ),
)
KEYS = {
    b"\x00\x01key 1": Stored(1, b"value 1"),
    b"\x00\x01other": Stored(2, bytes(range(256))),
    b"\x00\x02": Stored(3, b""),
}


@pytest.fixture(params=["v1", "v2"])
def directory(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of a directory of each format."""
    return shutil.copytree(HERE / request.param, tmp_path / "directory")


def test_a_directory_is_opened_with_everything_in_it(directory: Path) -> None:
    store = open_store(directory, cluster_id=CLUSTER, host=2)
    found = store.recover()
    assert (found.identity.cluster_id, found.identity.host) == (CLUSTER, 2)
    assert found.identity.incarnation == 2, "it was started once when it was made"
    assert found.shard_map == SHARD_MAP

    one, two = found.shards
    assert one.state == STATE
    assert one.hard_state == HardState(3, 2, 5)
    assert (one.log.first_index, one.log.previous_term, one.log.terms) == (2, 1, (1, 2, 2, 2, 3))
    assert dict(store.scan(1, b"", b"", 100)) == KEYS
    assert (two.state, two.hard_state) == (MachineState(2, UPPER, 3), HardState(1, 0, 0))
    store.close()


def test_the_entries_are_read_and_their_batches_decoded(directory: Path) -> None:
    store = open_store(directory, cluster_id=CLUSTER, host=2)
    store.recover()
    entries = [decode_entry(encoded, 1) for encoded in store.read_entries(1, 2, LAST + 1, 1 << 20)]
    store.close()
    assert [entry.kind for entry in entries] == [EntryKind.BATCH] * 4 + [EntryKind.NOOP]
    assert [entry.time_us for entry in entries] == [1_700_000_000_000_000 + index for index in range(2, LAST + 1)]
    decode = CapnpBatchCodec().decode_batch
    for sequence, entry in enumerate(entries[:4], 1):
        decoded, expected = decode(entry.payload), batch(sequence)
        for field in Batch.__attrs_attrs__:
            found = getattr(decoded, field.name)
            assert (found if isinstance(found, bytes | int) else tuple(found)) == getattr(expected, field.name)


def test_a_directory_is_written_on(directory: Path) -> None:
    store = open_store(directory, cluster_id=CLUSTER, host=2)
    store.recover()
    append(store, LogWrite(1, 0, None, (encode_entry(1, LAST + 1, 3, EntryKind.NOOP, 2**51),), HardState(3, 2, LAST)))
    store.close()
    again = open_store(directory, cluster_id=CLUSTER, host=2)
    assert again.recover().shards[0].log.terms == (1, 2, 2, 2, 3, 3)
    again.close()


def test_the_kept_directories_are_small_and_hold_no_lock_files() -> None:
    logs = {"v1": ["log/data.mdb"], "v2": ["log/identity", "log/segment-00000001"]}
    for name in logs:
        files = [path for path in (HERE / name).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= DIRECTORY_BYTES_MAX
        found = sorted(str(path.relative_to(HERE / name)) for path in files)
        assert found == ["identity", *logs[name], "state/data.mdb"]
    assert sorted(path.name for path in HERE.glob("v*")) == sorted(logs)
