"""The pace of flushes: pauses as long as the work, unless there is no time for them."""

from __future__ import annotations

import pytest

from shardraft.storage.pacing import PAUSE_SECONDS_MAX, Pace


class Time:
    """Stands still but for what is slept, and what a test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def pace(time: Time) -> Pace:
    return Pace(time.clock, time.sleep)


def flush(pace: Pace, time: Time, *transactions: float) -> list[float]:
    """The pauses of a flush whose transactions take so long."""
    time.slept.clear()
    pace.begin_flush()
    for seconds in transactions:
        pace.begin_transaction()
        time.now += seconds
    return list(time.slept)


def test_the_first_flush_does_not_pause(pace: Pace, time: Time) -> None:
    assert flush(pace, time, 0.01, 0.01, 0.01) == []


def test_a_pause_is_as_long_as_the_transaction_before_and_no_longer_than_the_limit(pace: Pace, time: Time) -> None:
    flush(pace, time, 0.01)
    time.now += 5
    assert flush(pace, time, 0.01, 0.003, 4 * PAUSE_SECONDS_MAX, 0.01) == [0.01, 0.003, PAUSE_SECONDS_MAX]


def test_pauses_take_no_more_than_half_of_the_time_in_which_nothing_was_flushed(pace: Pace, time: Time) -> None:
    flush(pace, time, 0.01, 0.01)
    time.now += 0.04
    # 0.06 s since the flush before began, 0.01 s of it known as work: half of 0.05 s.
    assert flush(pace, time, 0.01, 0.01, 0.01, 0.01, 0.01) == [0.01, 0.01, 0.005]


def test_flushes_that_follow_each_other_closely_do_not_pause(pace: Pace, time: Time) -> None:
    flush(pace, time, *[0.01] * 50)
    pauses = [sum(flush(pace, time, *[0.01] * 50)) for _ in range(5)]
    assert max(pauses) <= 0.01
