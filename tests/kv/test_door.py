"""The door refuses what must not be appended; every limit at its edge and one beyond."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from shardraft.config import Limits
from shardraft.errors import InvalidArgument, ShardraftError, TooLarge, WrongShard
from shardraft.kv.commands import DELETE, PUT, Batch
from shardraft.kv.machine import Machine, MachineState
from shardraft.shards.keyspace import KeyRange
from shardraft.types import INTEGER_MAX
from tests.kv.replica import SHARD, MemoryStore, batch_of, delete, put

LIMITS = Limits(key_bytes_max=8, value_bytes_max=10, batch_operations_max=4, batch_bytes_max=30)


def machine(key_range: KeyRange | None = None) -> Machine:
    state = MachineState(SHARD, key_range or KeyRange(), epoch=5)
    return Machine(state, MemoryStore(state), LIMITS)


def refusal_of(batch: Batch, **check: Any) -> ShardraftError:
    with pytest.raises(ShardraftError) as caught:
        machine().check(batch, **check)
    assert caught.value.applied == "no"
    assert caught.value.shard == SHARD
    return caught.value


PLAIN = batch_of(put(b"k1"), put(b"k2"))


@pytest.mark.parametrize(
    "batch",
    [
        PLAIN,
        batch_of(put(b"k"), delete(b"k"), put(b"k", if_absent=True), delete(b"k", if_revision=INTEGER_MAX - 1)),
        batch_of(put(b"k" * 10, b"v" * 10), put(b"k" * 5, b"v" * 5)),
        batch_of(put(b"k", b"")),
        attrs.evolve(PLAIN, positions=(0, 3)),
        attrs.evolve(PLAIN, sequence=INTEGER_MAX, answered_below=INTEGER_MAX),
        attrs.evolve(PLAIN, epoch=99),
    ],
)
def test_what_keeps_every_limit_passes(batch: Batch) -> None:
    machine().check(batch)


@pytest.mark.parametrize(
    ("batch", "error", "text"),
    [
        (batch_of(), InvalidArgument, "without operations"),
        (batch_of(*(put(b"k") for _ in range(5))), TooLarge, "5 operations is above the limit of 4"),
        (batch_of(put(b"")), InvalidArgument, "a key is empty"),
        (batch_of(put(b"a"), put(b"k" * 11)), InvalidArgument, "longer than 8 bytes"),
        (batch_of(put(b"k", b"v" * 11)), TooLarge, "11 bytes is above the limit of 10"),
        (batch_of(*(put(b"kk", b"v" * 9) for _ in range(3))), TooLarge, "33 bytes is above the limit of 30"),
        (attrs.evolve(PLAIN, keys=[b"k"]), InvalidArgument, "1 keys and 2 values"),
        (attrs.evolve(PLAIN, values=[b"v"] * 3), InvalidArgument, "2 keys and 3 values"),
        (attrs.evolve(PLAIN, conditions=[1]), InvalidArgument, "1 conditions"),
        (attrs.evolve(PLAIN, conditions=[1, -1]), InvalidArgument, "not a revision"),
        (attrs.evolve(PLAIN, conditions=[1, INTEGER_MAX + 1]), InvalidArgument, "not a revision"),
        (attrs.evolve(PLAIN, kinds=bytes([PUT, 0])), InvalidArgument, "unknown kind"),
        (attrs.evolve(PLAIN, kinds=bytes([3, PUT])), InvalidArgument, "unknown kind"),
        (attrs.evolve(PLAIN, kinds=bytes([PUT, DELETE])), InvalidArgument, "delete has a value"),
        (attrs.evolve(PLAIN, session=b"s" * 15), InvalidArgument, "16 bytes, not 15"),
        (attrs.evolve(PLAIN, session=b"s" * 17), InvalidArgument, "16 bytes, not 17"),
        (attrs.evolve(PLAIN, sequence=3, answered_below=4), InvalidArgument, "below 4"),
        (attrs.evolve(PLAIN, sequence=INTEGER_MAX + 1), InvalidArgument, "sequence"),
        (attrs.evolve(PLAIN, answered_below=-1), InvalidArgument, "sequence"),
        (attrs.evolve(PLAIN, positions=(1,)), InvalidArgument, "1 positions"),
        (attrs.evolve(PLAIN, positions=(1, 1)), InvalidArgument, "ascend"),
        (attrs.evolve(PLAIN, positions=(2, 1)), InvalidArgument, "ascend"),
        (attrs.evolve(PLAIN, positions=(-1, 1)), InvalidArgument, "0 to 3"),
        (attrs.evolve(PLAIN, positions=(0, 4)), InvalidArgument, "0 to 3"),
        (attrs.evolve(PLAIN, positions=(0, 1), atomic=True), InvalidArgument, "never regrouped"),
    ],
)
def test_what_makes_no_sense_or_is_too_large_is_refused(batch: Batch, error: type[ShardraftError], text: str) -> None:
    refusal = refusal_of(batch)
    assert type(refusal) is error
    assert text in str(refusal)


def test_with_hash_partitioning_two_bytes_of_a_key_are_its_slot() -> None:
    machine().check(batch_of(put(b"\x00\x01k")), slot_bytes=2)
    machine().check(batch_of(put(b"\x00\x01" + b"k" * LIMITS.key_bytes_max)), slot_bytes=2)
    assert "empty" in str(refusal_of(batch_of(put(b"\x00\x01")), slot_bytes=2))


def test_a_batch_is_of_another_shard_only_if_every_key_is() -> None:
    middle = machine(KeyRange(b"g", b"m"))
    middle.check(batch_of(put(b"a"), put(b"h"), put(b"z")))
    middle.check(batch_of(put(b"g"), put(b"l")))
    for batch in (batch_of(put(b"a"), put(b"z")), batch_of(put(b"m")), batch_of(delete(b"f"))):
        with pytest.raises(WrongShard) as caught:
            middle.check(batch)
        assert (caught.value.epoch, caught.value.shard, caught.value.applied) == (5, SHARD, "no")
