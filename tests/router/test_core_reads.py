"""Linearizable reads from leaders, stale reads from learners."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shardraft.errors import DeadlineExceeded, NotLeader, ProtocolError, Unavailable
from shardraft.kv.requests import Consistency, ReadReply, ReadRequest, StatusRequest
from shardraft_router.core import RouterLimits
from tests.router.cluster import FakeCluster, World, at, learner_at


def world(learners: dict[int, int] | None = None, **limits: int) -> World:
    cluster = FakeCluster(shards=1, learners=learners)
    seen = World(cluster, limits=RouterLimits(**limits)).ready()
    for number in range(10):
        seen.put(b"key %d" % number, b"value %d" % number)
    seen.settle()
    seen.sent.clear()
    return seen


def served_by(seen: World, count: int = 1) -> list[str]:
    calls = []
    for number in range(count):
        calls.append(seen.read(b"key %d" % number, stale=True))
        seen.settle()
    assert all(call.done and call.error is None for call in calls)
    return [call.served_by for call in calls]


# --- linearizable


def test_reads_of_one_pass_share_one_request() -> None:
    seen = world()
    calls = [seen.read(b"key %d" % number) for number in range(5)]
    absent = seen.read(b"absent")
    seen.settle()
    assert [call.values for call in calls] == [[b"value %d" % number] for number in range(5)]
    assert absent.values == [None]
    assert absent.revisions == [0]
    ((endpoint, request),) = seen.sent
    assert isinstance(request, ReadRequest)
    assert (endpoint, request.consistency, len(request.keys)) == (at(1), Consistency.LINEARIZABLE, 6)


def test_a_read_says_where_its_answer_came_from() -> None:
    seen = world()
    call = seen.read(b"key 3")
    seen.settle()
    assert (call.revisions, call.applied_index, call.tier, call.served_by, call.age_us) == ([4], 1, 0, at(1), None)


def test_the_time_a_reply_travelled_counts_as_age() -> None:
    seen = world()
    seen.holding = True
    call = seen.read(b"key 1")
    seen.settle()
    ((endpoint, request),) = seen.outbox
    seen.now_us += 30_000
    seen.core.received(endpoint, ReadReply(request.request_id, 1, 5_000, 0, [b"v"], [1]), seen.now_us)
    seen.settle()
    assert call.age_us == 35_000


def test_a_read_follows_hints_and_survives_lost_connections() -> None:
    seen = world()
    seen.cluster.lead(2)
    call = seen.read(b"key 1")
    seen.settle()
    assert call.served_by == at(2)
    losses = iter([True])
    seen.lose_reply = lambda endpoint, request: next(losses, False)
    again = seen.read(b"key 1")
    seen.pass_time(1)
    assert again.values == [b"value 1"]


def test_a_read_that_is_never_answered_is_late_and_nothing_else() -> None:
    seen = world()
    seen.cluster.lead(0)
    call = seen.read(b"key 1", seconds=0.5)
    seen.pass_time(1)
    assert isinstance(call.error, DeadlineExceeded)
    assert call.error.applied == "no"
    assert isinstance(call.error.__cause__, NotLeader)


def test_a_reply_that_ends_early_is_asked_for_the_rest() -> None:
    seen = world()
    keys = [b"key %d" % number for number in range(10)]
    group = seen.core.read_many(keys, Consistency.LINEARIZABLE, seen.deadline())
    single = seen.read(b"key 9")
    seen.holding = True
    seen.settle()
    asked = []
    while not (group.done and single.done):
        ((endpoint, request),) = seen.outbox
        seen.outbox = []
        assert isinstance(request, ReadRequest)
        asked.append(len(request.keys))
        whole = seen.cluster.answer(endpoint, request)
        assert isinstance(whole, ReadReply)
        part = ReadReply(request.request_id, 1, None, 0, whole.values[:3], whole.revisions[:3])
        seen.core.received(endpoint, part, seen.now_us)
        seen.settle()
    assert group.found() == {b"key %d" % number: b"value %d" % number for number in range(10)}
    assert single.values == [b"value 9"]
    assert sum(asked) > 11
    assert asked[0] == 11


@pytest.mark.parametrize("count", [0, 2])
def test_a_reply_with_too_few_or_too_many_values_ends_its_connection(count: int) -> None:
    seen = world()
    seen.holding = True
    call = seen.read(b"key 1")
    seen.settle()
    ((endpoint, request),) = seen.outbox
    with pytest.raises(ProtocolError):
        seen.core.received(endpoint, ReadReply(request.request_id, 1, None, 0, [b""] * count, [1] * count), 0)
    seen.cut(endpoint)
    seen.holding = False
    seen.pass_time(1)
    assert call.values == [b"value 1"]


def test_many_reads_are_divided_by_shard_and_by_the_limit() -> None:
    cluster = FakeCluster(shards=4)
    seen = World(cluster, limits=RouterLimits(read_keys_max=10)).ready()
    keys = [b"key %d" % number for number in range(100)]
    for key in keys:
        seen.put(key, key)
    seen.settle()
    group = seen.core.read_many([*keys, b"absent"], Consistency.LINEARIZABLE, seen.deadline())
    seen.settle()
    assert group.found() == {key: key for key in keys}
    assert all(len(request.keys) <= 10 for _, request in seen.sent if isinstance(request, ReadRequest))


def test_the_first_part_that_fails_fails_the_whole() -> None:
    seen = World(FakeCluster(shards=2)).ready()
    seen.cluster.leaders[2] = 0
    keys = [b"key %d" % number for number in range(20)]
    group = seen.core.read_many(keys, Consistency.LINEARIZABLE, seen.deadline(0.5))
    seen.pass_time(1)
    assert isinstance(group.error, DeadlineExceeded)
    assert seen.completed == [group]


def test_at_the_limit_of_reads_in_flight_what_arrives_makes_the_next_larger() -> None:
    seen = world(reads_in_flight_max=2)
    seen.holding = True
    calls = []
    for number in range(8):
        calls.append(seen.read(b"key %d" % number))
        seen.settle()
    assert len(seen.outbox) == 2
    seen.holding = False
    seen.settle()
    assert all(call.done for call in calls)
    assert len(seen.sent) == 3


def test_a_cancelled_read_is_not_reported_and_harms_no_neighbour() -> None:
    seen = world()
    seen.holding = True
    call, neighbour = seen.read(b"key 1"), seen.read(b"key 2")
    seen.settle()
    seen.core.cancel(call)
    seen.holding = False
    seen.completed.clear()
    seen.settle()
    assert seen.completed == [neighbour]
    assert neighbour.values == [b"value 2"]


# --- stale


def test_no_learner_is_connected_to_before_the_first_stale_read() -> None:
    seen = world(learners={11: 1, 21: 2})
    assert seen.wanted == (at(1), at(2), at(3))
    assert served_by(seen) == [learner_at(21)]
    assert set(seen.wanted) == {at(1), at(2), at(3), learner_at(11), learner_at(21)}


def test_a_learner_that_was_let_go_a_moment_ago_is_waited_for_and_not_passed_over() -> None:
    """It was asked its status, and is down because nobody needed it, not because it cannot be reached."""
    seen = world({11: 1})
    question = seen.core.ask_host(learner_at(11), StatusRequest, seen.deadline())
    seen.settle()
    assert question.done
    seen.cut(at(2))
    seen.settle()
    assert learner_at(11) not in seen.wanted
    seen.cut(learner_at(11))
    calls = [seen.read(b"key %d" % number, stale=True) for number in range(5)]
    seen.settle()
    assert [call.served_by for call in calls] == [learner_at(11)] * 5


def test_stale_reads_take_turns_among_the_learners_of_the_highest_tier() -> None:
    seen = world(learners={11: 1, 21: 2, 22: 2})
    served = served_by(seen, 6)
    assert sorted(set(served)) == [learner_at(21), learner_at(22)]
    assert all(earlier != later for earlier, later in pairwise(served))


def test_a_stale_read_says_its_tier_and_has_no_age_without_certificates() -> None:
    seen = world(learners={21: 2})
    call = seen.read(b"key 1", stale=True)
    seen.settle()
    assert (call.tier, call.age_us, call.values) == (2, None, [b"value 1"])


def test_when_a_learner_dies_its_sibling_answers_then_a_lower_tier_then_a_voter() -> None:
    seen = world(learners={11: 1, 21: 2, 22: 2})
    served_by(seen)
    seen.kill(learner_at(22))
    assert set(served_by(seen, 3)) == {learner_at(21)}
    seen.kill(learner_at(21))
    assert set(served_by(seen, 3)) == {learner_at(11)}
    seen.kill(learner_at(11))
    assert set(served_by(seen, 6)) == {at(1), at(2), at(3)}


def test_a_stale_read_on_its_way_to_a_dying_learner_is_asked_elsewhere() -> None:
    seen = world(learners={21: 2, 22: 2})
    served_by(seen)
    seen.holding = True
    call = seen.read(b"key 1", stale=True)
    seen.settle()
    ((endpoint, _),) = seen.outbox
    seen.holding = False
    seen.kill(endpoint)
    seen.settle()
    assert call.done
    assert call.served_by not in ("", endpoint)


def test_a_learner_that_refuses_is_passed_over() -> None:
    seen = world(learners={21: 2, 22: 2})
    seen.refuse = lambda endpoint, request: Unavailable("copying") if endpoint == learner_at(21) else None
    assert set(served_by(seen, 6)) == {learner_at(22)}


def test_when_everybody_refuses_a_stale_read_waits_and_tries_again() -> None:
    seen = world(learners={21: 2})
    seen.refuse = lambda endpoint, request: Unavailable("copying")
    call = seen.read(b"key 1", stale=True)
    seen.pass_time(1)
    assert not call.done
    assert len(seen.sent) < 100
    seen.refuse = lambda endpoint, request: None
    seen.pass_time(1)
    assert call.values == [b"value 1"]


def test_learners_that_only_some_hosts_know_are_waited_for() -> None:
    cluster = FakeCluster(shards=1, learners={11: 1, 21: 2})
    cluster.reporters = {at(1): (), at(2): cluster.learners[:1], at(3): cluster.learners[1:]}
    seen = World(cluster)
    seen.unreachable = {at(2), at(3)}
    seen.put(b"key")
    call = seen.read(b"key", stale=True)
    seen.settle()
    assert not call.done
    seen.unreachable = {at(2)}
    seen.settle()
    assert not call.done
    seen.refuse_connections()
    assert call.served_by == learner_at(21)


def test_without_learners_voters_answer_stale_reads() -> None:
    seen = world()
    assert set(served_by(seen, 6)) == {at(1), at(2), at(3)}


def test_a_learner_given_as_endpoint_is_used_though_no_host_tells_of_it() -> None:
    cluster = FakeCluster(shards=1, learners={21: 2})
    cluster.reporters = dict.fromkeys([at(1), at(2), at(3), learner_at(21)], ())
    seen = World(cluster, endpoints=[learner_at(21)])
    seen.put(b"key", b"value")
    call = seen.read(b"key", stale=True)
    seen.settle()
    assert (call.served_by, call.tier) == (learner_at(21), 2)


def test_only_a_few_of_many_learners_are_connected_to() -> None:
    seen = world(learners={100 + number: 2 for number in range(50)}, learners_max=3)
    served = set(served_by(seen, 9))
    assert len(served) == 3
    assert len(seen.wanted) == 6


def test_routers_choose_different_learners() -> None:
    cluster = FakeCluster(shards=1, learners={100 + number: 2 for number in range(50)})
    chosen = set()
    for seed in range(10):
        seen = World(cluster, seed=seed, limits=RouterLimits(learners_max=1)).ready()
        seen.read(b"key", stale=True)
        seen.settle()
        chosen |= {endpoint for endpoint in seen.wanted if endpoint.startswith("l")}
    assert len(chosen) > 3


def test_learners_that_come_later_are_found_while_stale_reads_go_on() -> None:
    seen = world()
    assert served_by(seen)[0].startswith("h")
    seen.cluster.learners = FakeCluster(learners={21: 2}).learners
    seen.pass_time(RouterLimits().learners_refresh_ms / 1000)
    served_by(seen, 2)
    assert served_by(seen) == [learner_at(21)]
