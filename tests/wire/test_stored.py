"""What lies on the own disk: damage and newer formats end the process with a sentence that says what to do."""

from __future__ import annotations

import struct
import zlib

import pytest

from shardraft.errors import StorageError
from shardraft.raft.ready import HardState
from shardraft.wire.stored import decode_hard_state, decode_identity, encode_hard_state
from tests.wire.samples import FORMATS

STORED = ("hard_state", "identity", "machine_state", "shard_map")


def encoded(name: str) -> bytearray:
    form = FORMATS[name]
    return bytearray(form.encode(form.sample))


@pytest.mark.parametrize("name", STORED)
def test_any_single_flipped_bit_is_noticed(name: str) -> None:
    original = encoded(name)
    for bit in range(8 * len(original)):
        damaged = original.copy()
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StorageError):
            FORMATS[name].decode(bytes(damaged))


@pytest.mark.parametrize("name", STORED)
def test_damage_is_refused_with_what_to_do_about_it(name: str) -> None:
    with pytest.raises(StorageError, match=r"is damaged .*: do not start this host from this directory"):
        FORMATS[name].decode(b"")


@pytest.mark.parametrize("name", STORED)
def test_a_newer_format_is_refused_with_a_sentence(name: str) -> None:
    newer = encoded(name)
    newer[4] = 2
    newer[:4] = struct.pack("<I", zlib.crc32(newer[4:]))
    with pytest.raises(StorageError, match="has format 2, this program understands 1: start the newer program"):
        FORMATS[name].decode(bytes(newer))


def test_one_stored_thing_is_not_taken_for_another() -> None:
    with pytest.raises(StorageError, match="the stored identity is damaged"):
        decode_identity(encode_hard_state(HardState(1, 1, 1)))


def test_a_hard_state_of_another_length_is_refused() -> None:
    longer = encode_hard_state(HardState(1, 1, 1)) + bytes(8)
    longer = struct.pack("<I", zlib.crc32(longer[4:])) + longer[4:]
    with pytest.raises(StorageError, match="the stored hard state is damaged"):
        decode_hard_state(longer)


def test_a_hard_state_is_small_enough_for_every_turn() -> None:
    assert len(encode_hard_state(HardState(2**62, 2**32 - 1, 2**62))) == 32
