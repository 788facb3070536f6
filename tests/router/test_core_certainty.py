"""What the core says of an operation without a result: certainly not applied, or unknown; and never twice."""

from __future__ import annotations

import gc

from shardraft.errors import DeadlineExceeded, NotLeader, SessionExpired, ShardraftError, Unavailable
from shardraft.kv.commands import ANY_REVISION, PUT
from shardraft.kv.requests import ClientRequest, WriteRequest
from shardraft_router.core import RouterLimits, WriteCall
from tests.router.cluster import FakeCluster, World, at, writes


def world(**limits: int) -> World:
    return World(FakeCluster(shards=1), limits=RouterLimits(**limits)).ready()


def late(call: WriteCall) -> DeadlineExceeded:
    assert isinstance(call.error, DeadlineExceeded)
    return call.error


# --- deadlines


def test_an_operation_that_was_never_sent_is_certainly_not_applied_at_its_deadline() -> None:
    seen = World(FakeCluster(shards=1))
    seen.unreachable.add(at(1))
    call = seen.put(b"key", b"never", seconds=0.5)
    seen.pass_time(0.4)
    assert not call.done
    seen.pass_time(0.1)
    assert late(call).applied == "no"
    seen.unreachable.clear()
    seen.pass_time(1)
    assert seen.cluster.applied == {}


def test_an_operation_that_was_sent_and_not_answered_is_unknown_at_its_deadline() -> None:
    seen = world()
    seen.lose = writes
    call = seen.put(b"key", seconds=0.5)
    seen.pass_time(1)
    assert late(call).applied == "unknown"


def test_an_operation_that_was_only_ever_refused_is_certainly_not_applied_at_its_deadline() -> None:
    seen = world()
    seen.cluster.lead(0)
    call = seen.put(b"key", b"never", seconds=0.5)
    seen.pass_time(1)
    assert late(call).applied == "no"
    assert isinstance(late(call).__cause__, NotLeader)
    seen.cluster.lead(1)
    seen.pass_time(5)
    assert seen.cluster.applied == {}


def test_a_refused_operation_whose_neighbour_is_still_tried_is_unknown_at_its_deadline() -> None:
    seen = world()
    seen.cluster.lead(0)
    hasty, patient = seen.put(b"a", b"hasty", seconds=0.5), seen.put(b"b", b"patient", seconds=5)
    seen.pass_time(1)
    assert late(hasty).applied == "unknown"
    seen.cluster.lead(1)
    seen.pass_time(1)
    assert patient.error is None
    assert seen.cluster.applied[b"hasty"] == 1


def test_one_attempt_of_unknown_outcome_makes_later_refusals_unknown_too() -> None:
    seen = world()
    losses = iter([True])
    seen.lose_reply = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    call = seen.put(b"key", b"applied", seconds=2)
    seen.settle()
    seen.cluster.lead(0)
    seen.pass_time(3)
    assert late(call).applied == "unknown"
    assert seen.cluster.applied == {b"applied": 1}


def test_a_host_may_itself_not_know_the_outcome() -> None:
    seen = world()
    refusals = iter([NotLeader(applied="unknown")])
    seen.refuse = lambda endpoint, request: next(refusals, None) if writes(endpoint, request) else None
    call = seen.put(b"key", seconds=1)
    seen.settle()
    seen.cluster.lead(0)
    seen.pass_time(2)
    assert late(call).applied == "unknown"


def test_only_the_late_are_failed() -> None:
    seen = world()
    seen.lose = writes
    calls = [seen.put(b"key", seconds=seconds) for seconds in (0.5, 1.0, 1.5)]
    seen.pass_time(1.2)
    assert [call.done for call in calls] == [True, True, False]
    assert [late(call).applied for call in calls[:2]] == ["unknown", "unknown"]


def test_a_call_is_completed_once() -> None:
    seen = world()
    seen.holding = True
    call = seen.put(b"key", seconds=0.5)
    seen.pass_time(1)
    assert seen.completed == [call]
    seen.holding = False
    seen.settle()
    assert seen.completed == [call]


# --- cancellation


def test_a_cancelled_call_that_was_not_sent_is_dropped() -> None:
    seen = world()
    call, neighbour = seen.put(b"a", b"dropped"), seen.put(b"b", b"kept")
    assert seen.core.cancel(call) == "no"
    seen.settle()
    assert neighbour.error is None
    assert seen.cluster.applied == {b"kept": 1}
    assert seen.completed == [neighbour]


def test_a_cancelled_call_that_was_sent_is_abandoned_and_its_neighbours_go_on() -> None:
    seen = world()
    seen.holding = True
    call, neighbour = seen.put(b"a", b"abandoned"), seen.put(b"b", b"kept")
    seen.settle()
    assert seen.core.cancel(call) == "unknown"
    seen.kill(at(1))
    seen.cluster.lead(2)
    seen.holding = False
    seen.pass_time(1)
    assert neighbour.done
    assert neighbour.error is None
    assert seen.completed == [neighbour]
    assert seen.cluster.applied == {b"abandoned": 1, b"kept": 1}


def test_a_batch_that_nobody_waits_for_is_not_sent_again() -> None:
    seen = world()
    seen.lose = writes
    call = seen.put(b"key")
    seen.settle()
    seen.core.cancel(call)
    seen.pass_time(8)
    assert len(seen.batches_sent()) == 1


def test_cancelling_many_puts_leaves_none_behind() -> None:
    seen = World(FakeCluster(shards=1))
    group = seen.core.put_many([b"%d" % number for number in range(10)], [b"v"] * 10, seen.deadline())
    assert seen.core.cancel(group) == "no"
    seen.pass_time(1)
    assert seen.completed == []
    assert seen.cluster.applied == {}


def test_cancelled_calls_do_not_pile_up_while_nothing_can_be_sent() -> None:
    seen = world(cancelled_calls_max=10)
    seen.cluster.lead(0)
    first = seen.put(b"first", seconds=9)
    seen.settle()
    for number in range(100):
        seen.core.cancel(seen.put(b"key %d" % number, b"cancelled in a queue"))
        seen.core.flush(seen.now_us)
    gc.collect()
    held = [each for each in gc.get_objects() if isinstance(each, WriteCall) and each.value == b"cancelled in a queue"]
    assert not first.done
    assert len(held) <= 10


# --- sessions


def test_every_shard_has_a_session_of_its_own_opened_by_its_first_batches() -> None:
    seen = World(FakeCluster(shards=2)).ready()
    for _ in range(2):
        for number in range(20):
            seen.put(b"key %d" % number)
        seen.settle()
    batches = seen.cluster.batches
    assert len({batch.session for batch in batches}) == 2
    assert [(batch.sequence, batch.opens_session) for batch in batches] == [
        (0, True),
        (0, True),
        (1, False),
        (1, False),
    ]


def test_batches_say_that_they_open_the_session_until_one_was_acknowledged() -> None:
    seen = world()
    seen.holding = True
    for _ in range(3):
        seen.put(b"key")
        seen.settle()
    seen.holding = False
    seen.settle()
    seen.put(b"key")
    seen.settle()
    assert [batch.opens_session for batch in seen.cluster.batches] == [True, True, True, False]


def test_a_session_that_expired_while_idle_is_replaced_and_nobody_notices() -> None:
    seen = world()
    seen.put(b"key")
    seen.settle()
    seen.cluster.expire_sessions()
    calls = [seen.put(b"key", b"a"), seen.put(b"key", b"b")]
    seen.settle()
    assert [call.error for call in calls] == [None, None]
    assert [call.revision for call in calls] == [2, 3]
    assert len({batch.session for _, batch in seen.batches_sent()}) == 2


def test_a_session_that_expired_after_an_unknown_attempt_leaves_the_outcome_unknown() -> None:
    seen = world()
    seen.put(b"key")
    seen.settle()
    losses = iter([True])
    seen.lose_reply = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    call = seen.put(b"key", b"once")
    seen.core.flush(seen.now_us)
    for endpoint, request in seen.core.take().requests:
        seen.deliver(endpoint, request)
    seen.cluster.expire_sessions()
    seen.pass_time(1)
    assert isinstance(call.error, SessionExpired)
    assert call.error.applied == "unknown"
    assert seen.cluster.applied[b"once"] == 1


def test_a_refused_batch_may_be_overtaken_and_still_applies() -> None:
    seen = world()
    seen.put(b"key")
    seen.settle()
    refusals = iter([NotLeader()])
    seen.refuse = lambda endpoint, request: next(refusals, None) if writes(endpoint, request) else None
    seen.holding = True
    first = seen.put(b"key", b"overtaken")
    seen.settle()
    second = seen.put(b"key", b"overtaking")
    seen.settle()
    seen.holding = False
    seen.pass_time(1)
    assert [batch.sequence for batch in seen.cluster.batches] == [0, 2, 1]
    assert (first.error, second.error) == (None, None)
    assert (second.revision, first.revision) == (2, 3)


def test_no_sequence_counts_as_answered_while_its_batch_may_be_sent_again() -> None:
    seen = world()
    stuck = iter([True])
    seen.lose = lambda endpoint, request: writes(endpoint, request) and next(stuck, False)
    first = seen.put(b"first")
    seen.settle()
    for number in range(5):
        seen.put(b"key %d" % number)
        seen.settle()
    assert {batch.answered_below for batch in seen.cluster.batches} == {0}
    seen.pass_time(4)
    assert first.error is None
    seen.put(b"last")
    seen.settle()
    assert seen.cluster.batches[-1].answered_below == 6


def test_a_batch_given_up_counts_as_answered_so_that_late_copies_of_it_are_refused() -> None:
    seen = world()
    seen.holding = True
    call = seen.put(b"key", b"given up", seconds=0.5)
    seen.settle()
    (late_copy,) = seen.outbox
    seen.outbox = []
    seen.pass_time(1)
    assert late(call).applied == "unknown"
    seen.cut(at(1))
    seen.holding = False
    seen.put(b"key", b"next")
    seen.pass_time(1)
    seen.deliver(*late_copy)
    stored = seen.cluster.stored(b"key")
    assert stored is not None
    assert stored.value == b"next"
    assert b"given up" not in seen.cluster.applied


def test_a_batch_whose_callers_are_late_stays_unanswered_as_long_as_an_attempt_is_under_way() -> None:
    seen = world()
    seen.holding = True
    seen.put(b"key", b"slow", seconds=0.5)
    seen.settle()
    (slow,) = seen.outbox
    seen.outbox = []
    seen.pass_time(1)
    seen.holding = False
    seen.put(b"other")
    seen.settle()
    assert seen.cluster.batches[-1].answered_below == 0
    seen.deliver(*slow)
    seen.settle()
    assert seen.cluster.applied[b"slow"] == 1


def test_a_session_never_outruns_its_window() -> None:
    seen = world(session_window_max=8)
    stuck = iter([True])
    seen.lose = lambda endpoint, request: writes(endpoint, request) and next(stuck, False)
    seen.put(b"first")
    seen.settle()
    calls = []
    for number in range(20):
        calls.append(seen.put(b"key %d" % number))
        seen.settle()
    assert max(batch.sequence for _, batch in seen.batches_sent()) == 7
    seen.pass_time(4)
    assert all(call.done and call.error is None for call in calls)


def test_the_result_of_a_retry_is_the_first_result() -> None:
    seen = world()
    losses = iter([True])
    seen.lose_reply = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    call = seen.put(b"key", b"mine")
    seen.core.flush(seen.now_us)
    for endpoint, request in seen.core.take().requests:
        seen.deliver(endpoint, request)
    other = World(seen.cluster, seed=2).ready()
    other.put(b"key", b"theirs")
    other.settle()
    seen.pass_time(1)
    assert call.revision == 1
    stored = seen.cluster.stored(b"key")
    assert stored is not None
    assert stored.value == b"theirs"


def test_closing_fails_every_call_with_what_is_known_of_it() -> None:
    seen = world()
    seen.holding = True
    sent = seen.put(b"a")
    seen.settle()
    unsent = seen.put(b"b")
    seen.core.close()
    assert [late(call).applied for call in (sent, unsent)] == ["unknown", "no"]


def test_an_atomic_batch_is_retried_like_any_other() -> None:
    seen = world()
    losses = iter([True])
    seen.lose_reply = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    call = seen.core.write_atomic([(PUT, b"a", b"1", ANY_REVISION), (PUT, b"b", b"2", ANY_REVISION)], seen.deadline())
    seen.pass_time(1)
    assert call.revisions == (1, 2)
    assert seen.cluster.applied == {b"1": 1, b"2": 1}


def test_the_cause_of_a_deadline_is_the_last_refusal() -> None:
    seen = world()
    errors: list[ShardraftError] = [NotLeader("the first"), Unavailable("the last")]

    def refuse(endpoint: str, request: ClientRequest) -> ShardraftError | None:
        return (errors.pop(0) if len(errors) > 1 else errors[0]) if isinstance(request, WriteRequest) else None

    seen.refuse = refuse
    call = seen.put(b"key", seconds=1)
    seen.pass_time(2)
    assert str(late(call).__cause__) == "the last"
    assert "the last" in str(late(call))
