"""Which value belongs to which key, and what a key that is written again and again may hold."""

from __future__ import annotations

from bench.harness.keys import KEY_BYTES, VALUE_BYTES, Keys, Ledger, key_of, spread, value_of


def test_keys_and_values_have_their_sizes_and_no_two_keys_are_equal() -> None:
    keys = Keys()
    taken = [keys.take() for _ in range(10_000)]
    assert len(set(taken)) == len(taken)
    assert {len(key) for key in taken} == {KEY_BYTES}
    assert {len(value_of(key)) for key in taken[:10]} == {VALUE_BYTES}
    assert taken[:3] == [key_of(0), key_of(1), key_of(2)]


def test_neighbours_lie_far_apart() -> None:
    first_bytes = {key_of(number)[:1] for number in range(64)}
    assert len(first_bytes) == 16


def test_a_spread_holds_both_ends_and_no_more_than_asked() -> None:
    assert spread(range(5), 10) == [0, 1, 2, 3, 4]
    assert spread(range(100, 200), 3) == [100, 149, 199]


def test_a_key_holds_what_was_written_last() -> None:
    ledger = Ledger()
    key = key_of(1)
    old = ledger.begin(key)
    ledger.end(old)
    new = ledger.begin(key)
    ledger.end(new)
    floor = ledger.floor(key)
    assert ledger.may_hold(key, new.value, floor)
    assert not ledger.may_hold(key, old.value, floor)


def test_of_overlapping_writes_either_may_be_seen() -> None:
    ledger = Ledger()
    key = key_of(1)
    one, other = ledger.begin(key), ledger.begin(key)
    ledger.end(other)
    ledger.end(one)
    assert all(ledger.may_hold(key, write.value, ledger.floor(key)) for write in (one, other))


def test_a_read_that_began_before_a_write_ended_may_see_the_former_one() -> None:
    ledger = Ledger()
    key = key_of(1)
    old = ledger.begin(key)
    ledger.end(old)
    floor = ledger.floor(key)
    ledger.end(ledger.begin(key))
    assert ledger.may_hold(key, old.value, floor)


def test_foreign_damaged_and_missing_values_are_found() -> None:
    ledger = Ledger()
    key = key_of(1)
    write = ledger.begin(key)
    ledger.end(write)
    other = ledger.begin(key_of(2))
    for value in (None, b"", write.value[:-1], other.value, b"x" * 16 + write.value[16:], b"%016x" % 99 + key * 15):
        assert not ledger.may_hold(key, value, ledger.floor(key)), value
