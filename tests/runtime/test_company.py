"""How long a commit waits for company: where it pays, and nowhere else."""

from __future__ import annotations

import pytest

from shardraft.runtime.company import WAIT_SECONDS_MAX, WAIT_SHARE_OF_A_COMMIT, Company

SLOW_SECONDS = 0.003


def test_nothing_is_known_at_first_and_nothing_waits() -> None:
    assert Company().wait_seconds == 0


@pytest.mark.parametrize(("batches", "are_waiting"), [(2, False), (1, True)])
def test_where_commits_have_company_the_next_waits_a_share_of_one(batches: int, are_waiting: bool) -> None:
    company = Company()
    for _ in range(50):
        company.committed(batches, are_waiting, SLOW_SECONDS)
    assert company.wait_seconds == pytest.approx(SLOW_SECONDS * WAIT_SHARE_OF_A_COMMIT, rel=0.01)


def test_a_batch_that_comes_alone_does_not_wait() -> None:
    company = Company()
    for _ in range(50):
        company.committed(1, False, SLOW_SECONDS)
    assert company.wait_seconds == 0


def test_it_soon_notices_that_batches_come_alone_again() -> None:
    company = Company()
    for _ in range(50):
        company.committed(3, False, SLOW_SECONDS)
    for _ in range(5):
        assert company.wait_seconds > 0
        company.committed(1, False, SLOW_SECONDS)
    assert company.wait_seconds == 0


def test_company_that_comes_every_other_time_is_waited_for() -> None:
    """While one commit takes all of a wave along, the next may well find itself alone for once."""
    company = Company()
    for number in range(50):
        company.committed(1 + number % 2, False, SLOW_SECONDS)
        assert number < 10 or company.wait_seconds > 0


def test_quick_commits_do_not_wait() -> None:
    company = Company()
    for _ in range(50):
        company.committed(3, True, 0.0003)
    assert company.wait_seconds == 0


def test_a_hanging_disk_does_not_make_the_wait_longer_than_its_limit() -> None:
    company = Company()
    company.committed(3, True, 60.0)
    company.committed(3, True, 60.0)
    assert company.wait_seconds == WAIT_SECONDS_MAX
