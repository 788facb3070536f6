"""The machine applies batches: revisions, conditions, atomic batches, ranges, the rolling hash (PROTOCOL)."""

from __future__ import annotations

import pytest

from shardraft.kv.commands import BatchResult, Outcome, Stored
from shardraft.kv.machine import Machine, MachineState
from shardraft.shards.keyspace import KeyRange
from tests.kv.replica import LIMITS, SHARD, MemoryStore, Op, Replica, batch_of, delete, outcomes_of, put

WRITTEN, DELETED, MISSING = Outcome.WRITTEN, Outcome.DELETED, Outcome.MISSING
CONFLICT, WRONG_SHARD, ABORTED = Outcome.CONFLICT, Outcome.WRONG_SHARD, Outcome.ABORTED


@pytest.fixture
def replica() -> Replica:
    return Replica()


# Revisions count operations.


def test_a_batch_of_n_takes_n_consecutive_revisions(replica: Replica) -> None:
    assert replica.write(put(b"a"), put(b"b"), put(b"c")).first_revision == 1
    assert replica.write(put(b"d"), sequence=1).first_revision == 4
    assert replica.machine.revision == 4


def test_it_takes_them_whatever_the_outcomes(replica: Replica) -> None:
    result = replica.write(put(b"a", if_revision=9), delete(b"gone"), put(b"b"))
    assert outcomes_of(result) == [CONFLICT, MISSING, WRITTEN]
    assert replica.machine.revision == 3
    assert replica.machine.get(b"b") == Stored(3, b"value")


def test_two_puts_of_a_key_in_one_batch_have_different_revisions(replica: Replica) -> None:
    result = replica.write(put(b"k", b"first"), put(b"k", b"second"))
    assert (result.revision_of(0), result.revision_of(1)) == (1, 2)
    assert replica.machine.get(b"k") == Stored(2, b"second")


def test_a_later_compare_and_set_sees_the_second_of_two_puts_in_one_batch(replica: Replica) -> None:
    first = replica.write(put(b"k", b"mine"), put(b"k", b"another task's"))
    result = replica.write(put(b"k", b"overwritten unseen", if_revision=first.revision_of(0)), sequence=1)
    assert outcomes_of(result) == [CONFLICT]
    assert result.found_revisions == (2,)
    assert replica.machine.get(b"k") == Stored(2, b"another task's")


def test_entries_without_operations_take_no_revision(replica: Replica) -> None:
    replica.write(put(b"a"))
    replica.noop()
    replica.expire(0)
    assert replica.machine.revision == 1
    assert replica.machine.last_applied == 3


# One operation.


@pytest.mark.parametrize("flushed", [False, True])
def test_conditions_are_checked_against_the_current_revision(replica: Replica, flushed: bool) -> None:
    replica.write(put(b"k"))
    if flushed:
        replica.flush()
    result = replica.write(
        put(b"k", if_absent=True), put(b"k", if_revision=7), put(b"k", b"new", if_revision=1), sequence=1
    )
    assert outcomes_of(result) == [CONFLICT, CONFLICT, WRITTEN]
    assert result.found_revisions == (1, 1)
    assert replica.machine.get(b"k") == Stored(4, b"new")


def test_an_absent_key_has_revision_zero(replica: Replica) -> None:
    result = replica.write(put(b"a", if_revision=3), delete(b"a", if_revision=3), put(b"a", if_absent=True))
    assert outcomes_of(result) == [CONFLICT, CONFLICT, WRITTEN]
    assert result.found_revisions == (0, 0)


@pytest.mark.parametrize("flushed", [False, True])
def test_a_delete_of_a_key_removes_it_and_of_an_absent_one_changes_nothing(replica: Replica, flushed: bool) -> None:
    replica.write(put(b"k"))
    if flushed:
        replica.flush()
    result = replica.write(delete(b"k"), delete(b"k"), sequence=1)
    assert outcomes_of(result) == [DELETED, MISSING]
    assert replica.machine.get(b"k") is None
    assert list(replica.begin_flush().changes) == [b"k"]


def test_a_delete_of_a_key_that_never_was_leaves_nothing_to_flush(replica: Replica) -> None:
    replica.write(delete(b"never"))
    assert replica.machine.buffer_bytes == 0
    assert dict(replica.begin_flush().changes) == {}


def test_a_delete_may_have_a_condition(replica: Replica) -> None:
    replica.write(put(b"k"))
    result = replica.write(delete(b"k", if_revision=5), delete(b"k", if_revision=1), sequence=1)
    assert outcomes_of(result) == [CONFLICT, DELETED]


def test_each_operation_sees_the_earlier_ones_of_its_batch(replica: Replica) -> None:
    result = replica.write(put(b"k"), delete(b"k"), put(b"k", if_absent=True), put(b"k", b"last", if_revision=3))
    assert outcomes_of(result) == [WRITTEN, DELETED, WRITTEN, WRITTEN]
    assert replica.machine.get(b"k") == Stored(4, b"last")


def test_unconditional_puts_do_not_read_the_store(replica: Replica) -> None:
    replica.write(put(b"a"), put(b"b"))
    replica.write(put(b"a"), put(b"c", if_revision=0), put(b"b"), sequence=1)
    assert replica.store.reads == 1, "only the condition on c asks for what the store holds"


def test_an_operation_of_unknown_kind_stops_the_replica(replica: Replica) -> None:
    with pytest.raises(AssertionError, match="unknown kind 9"):
        replica.write(Op(9, b"k"))


# Several keys at once.


def replica_with_keys_everywhere(replica: Replica) -> None:
    """Keys in the store, in a flush under way and in the active layer, that hide each other, and deleted ones."""
    replica.write(put(b"stored", b"1"), put(b"old", b"2"), put(b"deleted", b"3"), put(b"deleted later", b"4"))
    replica.flush()
    replica.write(put(b"flushing", b"5"), put(b"old", b"6"), delete(b"deleted"), sequence=1)
    replica.begin_flush()
    replica.write(put(b"active", b"7"), put(b"flushing", b"8"), delete(b"deleted later"), sequence=2)


def test_many_keys_are_found_as_each_alone_is_and_the_store_is_asked_once(replica: Replica) -> None:
    replica_with_keys_everywhere(replica)
    keys = [b"old", b"stored", b"active", b"absent", b"deleted", b"flushing", b"deleted later", b"stored"]
    reads = replica.store.reads
    found = replica.machine.get_many(keys, 1 << 20)
    assert replica.store.reads == reads + 1
    assert found == [replica.machine.get(key) for key in keys]
    assert [stored and stored.value for stored in found] == [b"6", b"1", b"7", None, None, b"8", None, b"1"]


def test_many_keys_of_the_buffer_do_not_read_the_store(replica: Replica) -> None:
    replica_with_keys_everywhere(replica)
    reads = replica.store.reads
    assert len(replica.machine.get_many([b"active", b"deleted", b"old"], 1 << 20)) == 3
    assert replica.store.reads == reads


@pytest.mark.parametrize("flushed", [(), (b"a", b"b", b"c", b"d"), (b"a", b"c"), (b"b", b"d")])
def test_of_many_keys_those_after_the_one_that_fills_an_answer_are_left_out(
    replica: Replica, flushed: tuple[bytes, ...]
) -> None:
    for sequence, keys in enumerate([flushed, [key for key in (b"a", b"b", b"c", b"d") if key not in flushed]]):
        if keys:
            replica.write(*[put(key, b"x" * 10) for key in keys], sequence=sequence)
        if keys == flushed:
            replica.flush()
    wanted = [b"a", b"absent", b"b", b"c", b"absent too", b"d"]
    counts = [len(replica.machine.get_many(wanted, bytes_max)) for bytes_max in (0, 9, 10, 20, 29, 30, 39, 40)]
    assert counts == [1, 1, 3, 4, 4, 6, 6, 6]


# Atomic batches.


def test_an_atomic_batch_applies_as_a_whole(replica: Replica) -> None:
    result = replica.write(put(b"a"), put(b"b", if_absent=True), delete(b"c"), atomic=True)
    assert outcomes_of(result) == [WRITTEN, WRITTEN, MISSING]
    assert set(replica.everything()) == {b"a", b"b"}


def test_an_atomic_batch_with_a_conflict_changes_nothing(replica: Replica) -> None:
    replica.write(put(b"b"))
    result = replica.write(put(b"a"), put(b"b", if_absent=True), delete(b"b"), sequence=1, atomic=True)
    assert outcomes_of(result) == [ABORTED, CONFLICT, ABORTED]
    assert result.found_revisions == (1,)
    assert replica.everything() == {b"b": Stored(1, b"value")}
    assert replica.machine.revision == 4


def test_conditions_of_an_atomic_batch_see_its_earlier_operations(replica: Replica) -> None:
    result = replica.write(put(b"k"), put(b"k", if_revision=1), delete(b"k", if_revision=2), atomic=True)
    assert outcomes_of(result) == [WRITTEN, WRITTEN, DELETED]
    assert replica.everything() == {}


def test_an_atomic_batch_stops_at_its_first_conflict(replica: Replica) -> None:
    result = replica.write(put(b"a", if_revision=5), put(b"b", if_revision=5), atomic=True)
    assert outcomes_of(result) == [CONFLICT, ABORTED]
    assert result.found_revisions == (0,)


# Keys of other shards.


def test_a_key_outside_the_range_is_refused_by_itself() -> None:
    replica = Replica(key_range=KeyRange(b"b", b"d"))
    result = replica.write(put(b"a"), put(b"b"), put(b"c"), put(b"d"), delete(b"e"))
    assert outcomes_of(result) == [WRONG_SHARD, WRITTEN, WRITTEN, WRONG_SHARD, WRONG_SHARD]
    assert replica.everything() == {b"b": Stored(2, b"value"), b"c": Stored(3, b"value")}
    assert replica.machine.revision == 5


@pytest.mark.parametrize("outside", [b"a", b"d", b"z"])
def test_one_key_outside_is_found_among_any_others(outside: bytes) -> None:
    replica = Replica(key_range=KeyRange(b"b", b"d"))
    assert outcomes_of(replica.write(put(b"b"), put(outside), put(b"c"))) == [WRITTEN, WRONG_SHARD, WRITTEN]


def test_an_atomic_batch_with_a_key_outside_changes_nothing() -> None:
    replica = Replica(key_range=KeyRange(b"b", b"d"))
    result = replica.write(put(b"b"), put(b"x"), put(b"c", if_revision=9), atomic=True)
    assert outcomes_of(result) == [ABORTED, WRONG_SHARD, ABORTED]
    assert replica.everything() == {}


def test_the_range_is_that_of_the_moment_of_applying() -> None:
    replica = Replica()
    replica.machine.check(proposed_early := batch_of(put(b"a"), put(b"z")))
    replica.change_range(KeyRange(b"", b"m"))
    assert replica.apply(proposed_early) == BatchResult(1, bytes([WRITTEN, WRONG_SHARD]))
    assert replica.machine.epoch == 2


# Entries.


def test_entries_are_applied_in_order_and_without_gap(replica: Replica) -> None:
    replica.noop()
    for wrong in (1, 3):
        with pytest.raises(AssertionError, match="cannot follow"):
            replica.machine.apply_noop(wrong, 1, 0, 0)


def test_neither_term_nor_leaders_time_goes_back(replica: Replica) -> None:
    replica.machine.apply_noop(1, 5, 100, 0)
    with pytest.raises(AssertionError, match="term went back"):
        replica.machine.apply_noop(2, 4, 100, 0)
    with pytest.raises(AssertionError, match="time went back"):
        replica.machine.apply_noop(2, 5, 99, 0)


def test_the_rolling_hash_names_every_entry_and_their_order() -> None:
    def hash_of(*checksums: int) -> int:
        state = MachineState(SHARD, KeyRange(), 1)
        machine = Machine(state, MemoryStore(state), LIMITS)
        for index, checksum in enumerate(checksums, start=1):
            machine.apply_noop(index, 1, 0, checksum)
        return machine.applied_hash

    assert hash_of() == 0
    assert hash_of(41) == 42
    assert hash_of(41, 7) == 42 * 0x100000001B3 + 8
    assert hash_of(0) != hash_of(0, 0)
    assert hash_of(1, 2) != hash_of(2, 1)
    assert hash_of(*[2**32 - 1] * 50) < 2**64


def test_a_configuration_that_was_applied_is_part_of_the_state(replica: Replica) -> None:
    machine = replica.machine
    assert (machine.membership, machine.last_replica) == (b"", 0)
    machine.apply_membership(1, 1, 0, 5, b"first", 7)
    machine.apply_membership(2, 1, 0, 5, b"second, without 7", 4)
    assert (machine.state().membership, machine.state().last_replica) == (b"second, without 7", 7)
    assert (machine.last_applied, machine.revision) == (2, 0)
    assert Machine(machine.state(), replica.store, LIMITS).state() == machine.state()


def test_a_restarted_machine_goes_on_exactly_where_the_state_was(replica: Replica) -> None:
    replica.time_us = 50
    replica.write(put(b"a"), put(b"b"))
    replica.flush()
    replica.write(delete(b"a"), sequence=1)
    before = replica.machine.state()
    replica.crash()
    assert replica.machine.state() == before
    assert replica.everything() == {b"b": Stored(2, b"value")}


def test_after_a_copy_was_installed_only_the_copy_counts(replica: Replica) -> None:
    donor = Replica()
    donor.write(put(b"from the donor"))
    donor.flush()
    replica.write(put(b"own"), session=b"another session!")
    replica.begin_flush()
    replica.store.rows, replica.store.state = donor.store.rows, donor.store.state
    replica.machine.restore(donor.store.state)
    assert set(replica.everything()) == {b"from the donor"}
    assert replica.machine.state() == donor.machine.state()
    assert (replica.machine.buffer_bytes, replica.machine.is_flushing) == (0, False)
    assert replica.machine.flushed_index == 1
