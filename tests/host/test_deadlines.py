"""The heap of deadlines says what looking at every voter would say."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from shardraft.host.deadlines import Deadlines
from tests.host.cluster import Cluster

pytestmark = pytest.mark.replaces_code


def waiting(shard: int, deadline_us: int) -> Any:
    return SimpleNamespace(shard=shard, deadline_us=deadline_us)


def test_a_deadline_that_moved_later_comes_up_only_then() -> None:
    voters = {1: waiting(1, 10), 2: waiting(2, 30)}
    deadlines = Deadlines(voters)
    for voter in voters.values():
        deadlines.arm(voter)
    voters[1].deadline_us = 20
    assert deadlines.deadline_us == 20
    assert deadlines.take_due(19) == []
    assert deadlines.take_due(20) == [voters[1]]
    assert deadlines.deadline_us == 30, "a voter that came up waits for its turn to be armed again"


def test_a_deadline_that_moved_earlier_comes_up_once() -> None:
    voters = {1: waiting(1, 50)}
    deadlines = Deadlines(voters)
    deadlines.arm(voters[1])
    voters[1].deadline_us = 20
    deadlines.arm(voters[1])
    assert deadlines.take_due(20) == [voters[1]]
    voters[1].deadline_us = 90
    deadlines.arm(voters[1])
    assert deadlines.take_due(60) == []
    assert deadlines.deadline_us == 90


def test_a_voter_that_is_gone_is_forgotten() -> None:
    voters = {1: waiting(1, 10)}
    deadlines = Deadlines(voters)
    deadlines.arm(voters.pop(1))
    assert deadlines.deadline_us is None
    assert deadlines.take_due(99) == []


def test_a_random_life_misses_no_deadline() -> None:
    random = Random(1)
    voters: dict[int, Any] = {shard: waiting(shard, random.randrange(100)) for shard in range(20)}
    deadlines = Deadlines(voters)
    for voter in voters.values():
        deadlines.arm(voter)
    for now_us in range(2_000):
        voter = voters[random.randrange(20)]
        voter.deadline_us = max(now_us, voter.deadline_us + random.randrange(-20, 40))
        deadlines.arm(voter)
        expected = {each.shard for each in voters.values() if each.deadline_us <= now_us}
        due = deadlines.take_due(now_us)
        assert {each.shard for each in due} == expected
        for each in due:
            each.deadline_us = now_us + 1 + random.randrange(100)
            deadlines.arm(each)
        assert deadlines.deadline_us == min(each.deadline_us for each in voters.values())


def test_a_host_with_idle_shards_never_sleeps_past_a_voter() -> None:
    cluster = Cluster(shards=8)
    for _ in range(40):
        cluster.run(0.07)
        for process in cluster.processes.values():
            earliest_us = min(voter.deadline_us for voter in process.host.voters.values())
            assert process.host.next_deadline_us <= earliest_us
