"""What the disk changed is noticed when it is read; what a newer program wrote is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from shardraft.errors import CopyRefused, StorageError
from shardraft.kv.commands import Stored
from shardraft.storage.blocks import BLOCK_HEADER_BYTES, ItemKind
from shardraft.storage.layout import FORMAT_BYTES, encode_base, encode_format, shard_key
from shardraft.storage.shard_logs import base_item, shard_item
from shardraft.storage.store import DiskStore, open_store
from shardraft.wire.stored import encode_machine_state, encode_shard_map
from tests.contracts.store_world import CLUSTER, HOST, SHARD_MAP, entry, read, state_at
from tests.storage.conftest import DiskWorld, flip_everywhere, write_block


def recover(world: DiskWorld, directory: Path) -> DiskStore:
    store = world.open(directory)
    store.recover()
    return store


# Flipped bits.


def test_a_flipped_bit_in_an_entry_is_noticed_at_start(used: Path, disk_world: DiskWorld) -> None:
    flip_everywhere(used / "log" / "segment-00000001", b"entry-needle")
    with pytest.raises(StorageError, match=r"segment-00000001 is damaged at \d+ \(block 2\).* under a new host id"):
        recover(disk_world, used)


def test_a_flipped_bit_in_an_entry_is_noticed_when_it_is_read(used: Path, disk_world: DiskWorld) -> None:
    store = recover(disk_world, used)
    flip_everywhere(used / "log" / "segment-00000001", b"entry-needle")
    with pytest.raises(StorageError, match="entry of shard 1 at 50: the checksum"):
        read(store, 1, 50, 51)
    assert read(store, 1, 48, 50) == [entry(1, 48, 2).encoded, entry(1, 49, 2).encoded]


def test_an_entry_that_differs_from_its_checksum_is_noticed_in_a_whole_block(used: Path, disk_world: DiskWorld) -> None:
    """Memory can change it before the block is written."""
    store = recover(disk_world, used)
    changed = entry(1, 51, 2).encoded[:-1] + b"?"
    write_block(store, (ItemKind.ENTRY, changed))
    with pytest.raises(StorageError, match="entry of shard 1 at 51: the checksum"):
        store.recover()


@pytest.mark.parametrize("index", [50, 52])
def test_a_gap_in_a_log_is_noticed(used: Path, disk_world: DiskWorld, index: int) -> None:
    store = recover(disk_world, used)
    write_block(store, (ItemKind.ENTRY, entry(1, index, 2).encoded))
    with pytest.raises(StorageError, match=rf"block 3: the entry of shard 1 at {index} does not follow 50"):
        store.recover()


def test_a_term_that_falls_is_noticed(used: Path, disk_world: DiskWorld) -> None:
    store = recover(disk_world, used)
    write_block(store, (ItemKind.ENTRY, entry(1, 51, 1).encoded))
    with pytest.raises(StorageError, match="at 51 has a lower term than the one before"):
        store.recover()


def test_a_flipped_bit_in_a_value_is_noticed_by_every_reader(used: Path, disk_world: DiskWorld) -> None:
    store = recover(disk_world, used)
    assert store.get(1, b"007") == Stored(7, b"value-needle" * 20)
    flip_everywhere(used / "state" / "data.mdb", b"value-needle")
    with pytest.raises(StorageError, match="stored value of key b'007' is damaged"):
        store.get(1, b"007")
    with pytest.raises(StorageError, match="stored value of key b'007' is damaged"):
        store.get_many(1, [b"absent", b"007"], 1 << 20)
    with pytest.raises(StorageError, match="is damaged"):
        store.scan(1, b"", b"", 10)
    with pytest.raises(StorageError, match="is damaged"):
        store.spool_copy(1, 1)
    assert list((used / "copies").iterdir()) == [], "a copy that failed leaves no file"


def test_a_flipped_bit_in_a_key_is_noticed(used: Path, disk_world: DiskWorld) -> None:
    """A value under a key that is not its own."""
    store = recover(disk_world, used)
    flip_everywhere(used / "state" / "data.mdb", shard_key(1) + b"199")
    with pytest.raises(StorageError, match="is damaged"):
        store.get(1, b"19y")


def test_a_flipped_bit_in_a_spooled_copy_is_noticed(used: Path, disk_world: DiskWorld) -> None:
    store = recover(disk_world, used)
    store.spool_copy(1, 1)
    flip_everywhere(used / "copies" / "outgoing-1", b"value-needle")
    with pytest.raises(StorageError, match="the disk changed it"):
        store.read_chunk(1, 1)


@pytest.mark.parametrize(
    ("database", "key", "name"),
    [
        (b"machines", shard_key(1), "the stored machine state"),
        (b"meta", b"shard_map", "shard map: the stored map"),
    ],
)
@pytest.mark.parametrize("at", [0, 5, 9, -1])
def test_a_flipped_bit_in_any_other_record_is_noticed_at_start(
    used: Path, disk_world: DiskWorld, database: bytes, key: bytes, name: str, at: int
) -> None:
    store = recover(disk_world, used)
    record = bytearray(get(store, database, key))
    record[at] ^= 0x40
    put(store, database, key, bytes(record))
    with pytest.raises(StorageError, match=f"{name} is damaged") as caught:
        store.recover()
    assert str(used) in str(caught.value)


@pytest.mark.parametrize(("key", "name"), [(b"format", "format record"), (b"identity", "stored identity")])
def test_a_flipped_bit_in_what_an_environment_is_known_by_is_noticed(
    used: Path, disk_world: DiskWorld, key: bytes, name: str
) -> None:
    store = recover(disk_world, used)
    record = bytearray(get(store, b"meta", key))
    record[-1] ^= 1
    put(store, b"meta", key, bytes(record))
    disk_world.close(store)
    with pytest.raises(StorageError, match=f"state, {key.decode()}: .*{name} is damaged"):
        disk_world.open(used)


@pytest.mark.parametrize(("at", "name"), [(15, "format: .*format record"), (-1, "identity: .*stored identity")])
def test_a_flipped_bit_in_what_a_log_is_known_by_is_noticed(used: Path, at: int, name: str) -> None:
    path = used / "log" / "identity"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match=f"log/identity, {name} is damaged"):
        open_store(used, cluster_id=CLUSTER, host=HOST)


LOG_RECORDS = {
    "start of a log": (ItemKind.BASE, base_item(1, 10, 2)),
}


@pytest.mark.parametrize("name", sorted(LOG_RECORDS))
def test_a_damaged_record_in_a_whole_block_is_noticed(used: Path, disk_world: DiskWorld, name: str) -> None:
    store = recover(disk_world, used)
    kind, content = LOG_RECORDS[name]
    write_block(store, (kind, content[:-1] + b"?"))
    with pytest.raises(StorageError, match=f"block 3: the stored {name} is damaged"):
        store.recover()


# Newer formats. Every record begins with checksum u32 | format u8.


def newer(record: bytes) -> bytes:
    changed = record[4:5].replace(b"\x01", b"\x02") + record[5:]
    return struct.pack("<I", zlib.crc32(changed)) + changed


@pytest.mark.parametrize(
    ("database", "key", "record"),
    [
        (b"machines", shard_key(1), encode_machine_state(state_at(1, 30, 2))),
        (b"meta", b"shard_map", encode_shard_map(SHARD_MAP)),
    ],
)
def test_a_record_of_a_newer_format_is_refused_at_start(
    used: Path, disk_world: DiskWorld, database: bytes, key: bytes, record: bytes
) -> None:
    store = recover(disk_world, used)
    put(store, database, key, newer(record))
    check_newer_is_refused(store)


def check_newer_is_refused(store: DiskStore, what: str = "format 2") -> None:
    with pytest.raises(StorageError, match=rf"{what}.*start the newer program that wrote it") as caught:
        store.recover()
    assert "new host id" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "content", "what"),
    [
        (ItemKind.ENTRY, newer(entry(1, 51, 2).encoded), "entry format 2"),
        (ItemKind.BASE, shard_item(1) + newer(encode_base(10, 2)), "format 2"),
        (15, b"????", "kind 15"),
        (15, b"", "kind 15"),
    ],
)
def test_an_item_of_a_newer_format_is_refused_at_start(
    used: Path, disk_world: DiskWorld, kind: int, content: bytes, what: str
) -> None:
    store = recover(disk_world, used)
    write_block(store, (kind, content))
    check_newer_is_refused(store, what)


def test_a_block_of_a_newer_format_is_refused_at_start(used: Path, disk_world: DiskWorld) -> None:
    store = recover(disk_world, used)
    path = used / "log" / "segment-00000001"
    content = path.read_bytes()
    header = content[:1] + b"\x02" + content[2 : BLOCK_HEADER_BYTES - 4]
    path.write_bytes(header + struct.pack("<I", zlib.crc32(header)) + content[BLOCK_HEADER_BYTES:])
    check_newer_is_refused(store, "segment-00000001, block 0: a block has format 2")


def test_an_environment_of_a_newer_format_is_refused(used: Path, disk_world: DiskWorld) -> None:
    store = recover(disk_world, used)
    put(store, b"meta", b"format", newer(encode_format(b"state")))
    disk_world.close(store)
    with pytest.raises(StorageError, match=r"format 2, .* start the newer program that wrote it"):
        disk_world.open(used)


def test_a_log_of_a_newer_format_is_refused(used: Path, disk_world: DiskWorld) -> None:
    path = used / "log" / "identity"
    path.write_bytes(newer(encode_format(b"log")) + path.read_bytes()[FORMAT_BYTES:])
    with pytest.raises(StorageError, match=r"format 2, .* start the newer program that wrote it"):
        disk_world.open(used)


def test_an_identity_file_of_a_newer_format_is_refused(used: Path) -> None:
    (used / "identity").write_bytes(newer((used / "identity").read_bytes()))
    with pytest.raises(StorageError, match=r"identity has format 2, .* start the newer program that wrote it"):
        open_store(used, cluster_id=CLUSTER, host=HOST)


@pytest.mark.parametrize("number", [0, 1])
def test_a_copy_of_a_newer_format_is_refused_and_the_host_goes_on(
    used: Path, disk_world: DiskWorld, number: int
) -> None:
    store = recover(disk_world, used)
    store.spool_copy(1, 1)
    for before in range(number):
        store.stage_chunk(1, before, store.read_chunk(1, before))
    with pytest.raises(CopyRefused, match="a copy has format 2, this program understands 1: update this host"):
        store.stage_chunk(1, number, newer(store.read_chunk(1, number)))
    assert store.get(1, b"007") is not None


def put(store: DiskStore, database: bytes, key: bytes, record: bytes) -> None:
    with store._state.writing() as transaction:
        transaction.put(key, record, db=store._state.database(database))


def get(store: DiskStore, database: bytes, key: bytes) -> bytes:
    with store._state.reading(database) as transaction:
        found = transaction.get(key)
    assert found is not None
    return found
