"""What the disk changed is noticed when it is read; what a newer program wrote is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from shardraft.errors import CopyRefused, StorageError
from shardraft.kv.commands import Stored
from shardraft.storage.layout import encode_base, encode_format, shard_key
from shardraft.storage.store import LmdbStore, open_store
from shardraft.wire.stored import encode_machine_state, encode_shard_map
from tests.contracts.store_world import CLUSTER, HOST, SHARD_MAP, compact, entry, read, state_at
from tests.storage.conftest import LmdbWorld, flip_everywhere


def recover(world: LmdbWorld, directory: Path) -> LmdbStore:
    store = world.open(directory)
    store.recover()
    return store


# Flipped bits.


def test_a_flipped_bit_in_an_entry_is_noticed_at_start(used: Path, lmdb_world: LmdbWorld) -> None:
    flip_everywhere(used / "log" / "data.mdb", b"entry-needle")
    with pytest.raises(StorageError, match=r"entry of shard 1 at 50: the checksum .* under a new host id"):
        recover(lmdb_world, used)


def test_a_flipped_bit_in_an_entry_is_noticed_when_it_is_read(used: Path, lmdb_world: LmdbWorld) -> None:
    store = recover(lmdb_world, used)
    flip_everywhere(used / "log" / "data.mdb", b"entry-needle")
    with pytest.raises(StorageError, match="entry of shard 1 at 50"):
        read(store, 1, 50, 51)
    assert read(store, 1, 48, 50) == [entry(1, 48, 2).encoded, entry(1, 49, 2).encoded]


def test_an_entry_in_the_place_of_another_is_noticed(used: Path, lmdb_world: LmdbWorld) -> None:
    store = recover(lmdb_world, used)
    put(store, "log", b"entries", struct.pack(">IQ", 1, 20), entry(1, 21, 2).encoded)
    with pytest.raises(StorageError, match="at 20 says that its index is 21"):
        read(store, 1, 20, 21)
    with pytest.raises(StorageError, match="at 20 says that its index is 21"):
        store.recover()


def test_a_gap_in_a_log_is_noticed(used: Path, lmdb_world: LmdbWorld) -> None:
    store = recover(lmdb_world, used)
    with store._log.writing() as transaction:
        transaction.delete(struct.pack(">IQ", 1, 20), db=store._log.database(b"entries"))
    with pytest.raises(StorageError, match="at 21 does not follow 19"):
        store.recover()
    with pytest.raises(StorageError, match="has no entry at 20"):
        read(store, 1, 20, 21)


def test_a_term_that_falls_is_noticed(used: Path, lmdb_world: LmdbWorld) -> None:
    store = recover(lmdb_world, used)
    put(store, "log", b"entries", struct.pack(">IQ", 1, 20), entry(1, 20, 1).encoded)
    with pytest.raises(StorageError, match="at 20 has a lower term than the one before"):
        store.recover()


def test_a_flipped_bit_in_a_value_is_noticed_by_every_reader(used: Path, lmdb_world: LmdbWorld) -> None:
    store = recover(lmdb_world, used)
    assert store.get(1, b"007") == Stored(7, b"value-needle" * 20)
    flip_everywhere(used / "state" / "data.mdb", b"value-needle")
    with pytest.raises(StorageError, match="stored value of key b'007' is damaged"):
        store.get(1, b"007")
    with pytest.raises(StorageError, match="is damaged"):
        store.scan(1, b"", b"", 10)
    with pytest.raises(StorageError, match="is damaged"):
        store.spool_copy(1, 1)
    assert list((used / "copies").iterdir()) == [], "a copy that failed leaves no file"


def test_a_flipped_bit_in_a_key_is_noticed(used: Path, lmdb_world: LmdbWorld) -> None:
    """A value under a key that is not its own."""
    store = recover(lmdb_world, used)
    flip_everywhere(used / "state" / "data.mdb", shard_key(1) + b"199")
    with pytest.raises(StorageError, match="is damaged"):
        store.get(1, b"19y")


def test_a_flipped_bit_in_a_spooled_copy_is_noticed(used: Path, lmdb_world: LmdbWorld) -> None:
    store = recover(lmdb_world, used)
    store.spool_copy(1, 1)
    flip_everywhere(used / "copies" / "outgoing-1", b"value-needle")
    with pytest.raises(StorageError, match="the disk changed it"):
        store.read_chunk(1, 1)


@pytest.mark.parametrize(
    ("part", "database", "key", "name"),
    [
        ("log", b"hard_states", shard_key(1), "shard 1: the stored hard state"),
        ("log", b"bases", shard_key(1), "shard 1: the stored start of a log"),
        ("state", b"machines", shard_key(1), "the stored machine state"),
        ("state", b"meta", b"shard_map", "shard map: the stored map"),
    ],
)
@pytest.mark.parametrize("at", [0, 5, 9, -1])
def test_a_flipped_bit_in_any_other_record_is_noticed_at_start(
    used: Path, lmdb_world: LmdbWorld, part: str, database: bytes, key: bytes, name: str, at: int
) -> None:
    store = recover(lmdb_world, used)
    compact(store, 1, 10, 2)
    record = bytearray(get(store, part, database, key))
    record[at] ^= 0x40
    put(store, part, database, key, bytes(record))
    with pytest.raises(StorageError, match=f"{name} is damaged") as caught:
        store.recover()
    assert str(used) in str(caught.value)


@pytest.mark.parametrize("part", ["log", "state"])
@pytest.mark.parametrize(("key", "name"), [(b"format", "format record"), (b"identity", "stored identity")])
def test_a_flipped_bit_in_what_an_environment_is_known_by_is_noticed(
    used: Path, lmdb_world: LmdbWorld, part: str, key: bytes, name: str
) -> None:
    store = recover(lmdb_world, used)
    record = bytearray(get(store, part, b"meta", key))
    record[-1] ^= 1
    put(store, part, b"meta", key, bytes(record))
    lmdb_world.close(store)
    with pytest.raises(StorageError, match=f"{part}, {key.decode()}: .*{name} is damaged"):
        lmdb_world.open(used)


# Newer formats. Every record begins with checksum u32 | format u8.


def newer(record: bytes) -> bytes:
    changed = record[4:5].replace(b"\x01", b"\x02") + record[5:]
    return struct.pack("<I", zlib.crc32(changed)) + changed


NEWER_AT_START = [
    ("log", b"entries", struct.pack(">IQ", 1, 50), entry(1, 50, 2).encoded),
    ("log", b"hard_states", shard_key(1), None),
    ("log", b"bases", shard_key(1), encode_base(0, 0)),
    ("state", b"machines", shard_key(1), encode_machine_state(state_at(1, 30, 2))),
    ("state", b"meta", b"shard_map", encode_shard_map(SHARD_MAP)),
]


@pytest.mark.parametrize(("part", "database", "key", "record"), NEWER_AT_START)
def test_a_record_of_a_newer_format_is_refused_at_start(
    used: Path, lmdb_world: LmdbWorld, part: str, database: bytes, key: bytes, record: bytes | None
) -> None:
    store = recover(lmdb_world, used)
    put(store, part, database, key, newer(record or get(store, part, database, key)))
    with pytest.raises(StorageError, match=r"format 2.*start the newer program that wrote it") as caught:
        store.recover()
    assert "new host id" not in str(caught.value)


@pytest.mark.parametrize("part", ["log", "state"])
def test_an_environment_of_a_newer_format_is_refused(used: Path, lmdb_world: LmdbWorld, part: str) -> None:
    store = recover(lmdb_world, used)
    put(store, part, b"meta", b"format", newer(encode_format(part.encode())))
    lmdb_world.close(store)
    with pytest.raises(StorageError, match=r"format 2, .* start the newer program that wrote it"):
        lmdb_world.open(used)


def test_an_identity_file_of_a_newer_format_is_refused(used: Path) -> None:
    (used / "identity").write_bytes(newer((used / "identity").read_bytes()))
    with pytest.raises(StorageError, match=r"identity has format 2, .* start the newer program that wrote it"):
        open_store(used, cluster_id=CLUSTER, host=HOST)


@pytest.mark.parametrize("number", [0, 1])
def test_a_copy_of_a_newer_format_is_refused_and_the_host_goes_on(
    used: Path, lmdb_world: LmdbWorld, number: int
) -> None:
    store = recover(lmdb_world, used)
    store.spool_copy(1, 1)
    for before in range(number):
        store.stage_chunk(1, before, store.read_chunk(1, before))
    with pytest.raises(CopyRefused, match="a copy has format 2, this program understands 1: update this host"):
        store.stage_chunk(1, number, newer(store.read_chunk(1, number)))
    assert store.get(1, b"007") is not None


def put(store: LmdbStore, part: str, database: bytes, key: bytes, record: bytes) -> None:
    environment = store._log if part == "log" else store._state
    with environment.writing() as transaction:
        transaction.put(key, record, db=environment.database(database))


def get(store: LmdbStore, part: str, database: bytes, key: bytes) -> bytes:
    environment = store._log if part == "log" else store._state
    with environment.reading(database) as transaction:
        found = transaction.get(key)
    assert found is not None
    return found
