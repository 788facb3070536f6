"""While many operations are under way, further ones wait for their replies and leave together."""

from __future__ import annotations

from shardraft.kv.requests import ReadRequest
from shardraft_router.core import RouterLimits
from shardraft_router.core.pacing import Pace, Pacing
from tests.router.cluster import FakeCluster, World

PACED = RouterLimits(paced_operations_min=4, paced_ms_min=10, paced_ms_max=40)


def world(shards: int = 1) -> World:
    seen = World(FakeCluster(shards=shards), limits=PACED).ready()
    seen.holding = True
    return seen


def put_many(seen: World, count: int, name: str) -> None:
    for number in range(count):
        seen.put(f"{name} {number}".encode())
    seen.settle()


def answer(seen: World, count: int) -> None:
    """Answer the oldest requests that are under way."""
    answered, seen.outbox = seen.outbox[:count], seen.outbox[count:]
    for endpoint, request in answered:
        seen.deliver(endpoint, request)


def sizes(seen: World) -> list[int]:
    return [len(batch.kinds) for _, batch in seen.batches_sent()]


def test_below_the_limit_nothing_waits() -> None:
    seen = world()
    for number in range(4):
        put_many(seen, 1, f"round {number}")
    assert sizes(seen) == [1, 1, 1, 1]


def test_what_arrives_while_many_are_under_way_leaves_in_one_batch_when_they_are_answered() -> None:
    seen = world()
    put_many(seen, 4, "first")
    for number in range(5):
        put_many(seen, 1, f"later {number}")
    assert sizes(seen) == [4]
    answer(seen, 1)
    seen.settle()
    assert sizes(seen) == [4, 5]


def test_writes_wait_for_the_replies_of_all_shards() -> None:
    seen = world(shards=4)
    put_many(seen, 40, "first")
    assert len(sizes(seen)) == 4
    put_many(seen, 40, "second")
    answer(seen, 3)
    seen.settle()
    assert len(sizes(seen)) == 4
    answer(seen, 1)
    seen.settle()
    assert sum(sizes(seen)) == 80


def test_nothing_waits_long_for_replies_that_do_not_come() -> None:
    seen = world()
    put_many(seen, 4, "first")
    seen.pass_time(0.004)
    put_many(seen, 2, "second")
    seen.pass_time(0.005)
    assert sizes(seen) == [4]
    seen.pass_time(0.002)
    assert sizes(seen) == [4, 2]


def test_the_slower_answers_come_the_longer_they_are_waited_for_within_limits() -> None:
    assert wait_ms(after_answers_of(1)) == 10
    assert wait_ms(after_answers_of(5)) in (14, 15)
    assert wait_ms(after_answers_of(30)) == 40


def test_one_slow_answer_is_forgotten() -> None:
    pace = after_answers_of(13)
    waits = []
    for number in range(8):
        wave(pace, at_ms=1000 * (2 + number), answered_after_ms=1)
        waits.append(wait_ms(pace))
    assert waits == sorted(waits, reverse=True)
    assert waits[0] in (29, 30)
    assert waits[-1] == 10


def test_answers_that_were_waited_for_in_vain_are_given_more_time_up_to_the_limit() -> None:
    pace = Pace(Pacing.TOGETHER, PACED)
    waits = []
    now_us = 1_000_000
    for _ in range(4):
        pace.sent(4, now_us)
        waits.append(wait_ms(pace))
        now_us = pace.opens_us
        pace.look(1, now_us)
        assert pace.open
    assert waits == [10, 30, 40, 40]


def after_answers_of(took_ms: int) -> Pace:
    """The pace of writes once every answer took so long."""
    pace = Pace(Pacing.TOGETHER, PACED)
    for number in range(20):
        wave(pace, at_ms=50 * number, answered_after_ms=took_ms)
    return pace


def wave(pace: Pace, at_ms: int, answered_after_ms: int) -> None:
    """Four operations leave at that time, and are answered; another waits for that, or for as long as it must."""
    pace.sent(4, at_ms * 1000)
    end_us = (at_ms + answered_after_ms) * 1000
    if end_us > pace.opens_us:
        pace.look(1, pace.opens_us)
    pace.ended(4)
    pace.look(1, end_us)
    assert pace.open


def wait_ms(pace: Pace) -> int:
    """How long what is sent next is waited for."""
    sent_us = 1_000_000_000
    pace.sent(0, sent_us)
    return (pace.opens_us - sent_us) // 1000


def test_what_was_lost_is_not_waited_for() -> None:
    seen = world()
    put_many(seen, 4, "first")
    put_many(seen, 1, "second")
    endpoint, _ = seen.outbox[0]
    seen.cut(endpoint)
    seen.holding = False
    seen.settle()
    assert seen.core.next_deadline_us > seen.now_us
    seen.pass_time(1.0)
    assert all(call.done and call.error is None for call in seen.completed)
    assert len(seen.completed) == 5


def test_linearizable_reads_leave_when_as_many_wait_as_are_under_way() -> None:
    seen = world()
    for number in range(6):
        seen.read(b"first %d" % number)
    seen.settle()
    for number in range(6):
        assert reads(seen) == [6]
        seen.read(b"second %d" % number)
        seen.settle()
    assert reads(seen) == [6, 6]


def test_stale_reads_never_wait() -> None:
    seen = world()
    for number in range(6):
        seen.read(b"first %d" % number, stale=True)
    seen.settle()
    for number in range(4):
        seen.read(b"second %d" % number, stale=True)
        seen.settle()
    assert reads(seen) == [6, 1, 1, 1, 1]


def reads(seen: World) -> list[int]:
    return [len(request.keys) for _, request in seen.sent if isinstance(request, ReadRequest)]
