"""How the core finds the leader and sends again what was not answered."""

from __future__ import annotations

import pytest

from shardraft.errors import (
    Conflict,
    NotLeader,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    ShardraftError,
    Unavailable,
)
from shardraft.kv.commands import BatchResult
from shardraft.kv.requests import ClientRequest, ErrorReply, ReadReply, WriteReply, WriteRequest
from shardraft_router.core import RouterLimits
from tests.router.cluster import FakeCluster, World, at, writes


def world(leader: int = 1, **limits: int) -> World:
    cluster = FakeCluster(shards=1)
    cluster.lead(leader)
    return World(cluster, limits=RouterLimits(**limits)).ready()


def targets(seen: World) -> list[str]:
    return [endpoint for endpoint, _ in seen.batches_sent()]


def test_a_lost_reply_is_fetched_by_sending_the_same_bytes_again() -> None:
    seen = world()
    losses = iter([True])
    seen.lose_reply = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    call = seen.put(b"key", b"once")
    seen.pass_time(1)
    payloads = {request.payload for _, request in seen.sent if isinstance(request, WriteRequest)}
    assert call.error is None
    assert call.revision == 1
    assert len(targets(seen)) > 1
    assert len(payloads) == 1
    assert seen.cluster.applied == {b"once": 1}


def test_a_hint_is_followed_at_once() -> None:
    seen = world(leader=3)
    call = seen.put(b"key")
    seen.settle()
    assert call.done
    assert targets(seen) == [at(1), at(3)]


def test_the_same_news_of_many_batches_moves_the_guess_once() -> None:
    seen = world(leader=3, batches_in_flight_max=8)
    seen.holding = True
    calls = []
    for number in range(8):
        calls.append(seen.put(b"key %d" % number))
        seen.settle()
    seen.holding = False
    seen.settle()
    assert all(call.done for call in calls)
    assert targets(seen) == [at(1)] * 8 + [at(3)] * 8


def test_the_leader_once_found_is_remembered() -> None:
    seen = world(leader=3)
    for _ in range(3):
        seen.put(b"key")
        seen.settle()
    assert targets(seen) == [at(1), at(3), at(3), at(3)]


def test_reads_and_writes_share_what_is_known_of_the_leader() -> None:
    seen = world(leader=2)
    seen.read(b"key")
    seen.settle()
    seen.put(b"key")
    seen.settle()
    assert targets(seen) == [at(2)]


def test_without_a_leader_hosts_are_asked_in_turn_with_growing_waits() -> None:
    seen = world(leader=0)
    call = seen.put(b"key", seconds=5)
    begun = seen.now_us
    seen.pass_time(4)
    asked = targets(seen)
    assert asked[:6] == [at(1), at(2), at(3), at(1), at(2), at(3)]
    assert 10 <= len(asked) <= 60
    seen.cluster.lead(2)
    seen.pass_time(1)
    assert call.done
    assert call.error is None
    assert seen.now_us - begun == 5_000_000


def test_while_the_leader_is_searched_one_batch_probes_for_all() -> None:
    seen = world(leader=0, batches_in_flight_max=4)
    seen.holding = True
    for number in range(4):
        seen.put(b"key %d" % number)
        seen.settle()
    seen.holding = False
    seen.settle()
    seen.sent.clear()
    seen.pass_time(1)
    assert {batch.sequence for _, batch in seen.batches_sent()} == {0}
    seen.cluster.lead(1)
    seen.pass_time(1)
    assert [call.error for call in seen.completed] == [None] * 4


def test_hints_that_lead_in_a_circle_are_slowed_down() -> None:
    seen = world()

    def circle(endpoint: str, request: ClientRequest) -> ShardraftError | None:
        return NotLeader(leader=2 if endpoint == at(1) else 1) if isinstance(request, WriteRequest) else None

    seen.refuse = circle
    seen.put(b"key")
    seen.settle()
    assert len(targets(seen)) == RouterLimits().redirects_max + 1
    seen.pass_time(2)
    assert len(targets(seen)) < 40


def test_a_host_cut_off_from_the_others_does_not_trap_the_router_with_its_old_hint() -> None:
    seen = World(FakeCluster(hosts=5, shards=1)).ready()
    seen.cluster.lead(4)
    seen.kill(at(1))
    seen.refuse = lambda endpoint, request: NotLeader(leader=1) if endpoint == at(2) and writes("", request) else None
    calls = [seen.put(b"key %d" % number) for number in range(10)]
    seen.pass_time(3)
    assert all(call.done and call.error is None for call in calls)


def test_when_the_leader_dies_its_batches_go_to_the_next_and_apply_once() -> None:
    seen = world()
    seen.holding = True
    calls = [seen.put(b"key %d" % number, b"value %d" % number) for number in range(5)]
    seen.settle()
    seen.kill(at(1))
    seen.holding = False
    seen.cluster.lead(2)
    seen.pass_time(2)
    assert all(call.error is None and call.done for call in calls)
    assert set(seen.cluster.applied.values()) == {1}


def test_overloaded_waits_as_long_as_the_host_said() -> None:
    seen = world()
    refusals = iter([Overloaded(retry_after_ms=400)])
    seen.refuse = lambda endpoint, request: next(refusals, None) if writes(endpoint, request) else None
    call = seen.put(b"key")
    seen.pass_time(0.39)
    assert not call.done
    seen.pass_time(0.1)
    assert call.done
    assert targets(seen) == [at(1), at(1)]


def test_a_refusal_that_would_only_be_repeated_is_given_to_each_caller() -> None:
    seen = world()
    seen.refuse = lambda endpoint, request: PermissionDenied("not yours") if writes(endpoint, request) else None
    first, second = seen.put(b"key"), seen.put(b"key")
    seen.settle()
    assert isinstance(first.error, PermissionDenied)
    assert isinstance(second.error, PermissionDenied)
    assert first.error is not second.error
    assert first.error.applied == "no"


def test_a_host_that_says_nothing_is_left_and_its_connection_dropped() -> None:
    seen = world()
    seen.lose = lambda endpoint, request: endpoint == at(1)
    call = seen.put(b"key", b"once")
    seen.pass_time(RouterLimits().silence_ms_max / 1000 - 0.1)
    assert not call.done
    assert at(1) in seen.connected
    seen.cluster.lead(2)
    seen.pass_time(0.5)
    assert call.done
    assert call.error is None
    assert targets(seen)[0] == at(1)
    assert targets(seen)[-1] == at(2)


def test_one_request_that_goes_unanswered_is_sent_again_though_others_are_answered() -> None:
    seen = world()
    losses = iter([True])
    seen.lose = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    lost = seen.put(b"lost", seconds=20)
    seen.settle()
    for _ in range(RouterLimits().unanswered_ms_max // 1000):
        assert not lost.done
        seen.pass_time(1)
        seen.put(b"other")
        seen.settle()
    seen.pass_time(0.1)
    assert lost.done
    assert lost.error is None
    assert at(1) in seen.connected


def test_a_read_that_finds_the_leader_lets_waiting_writes_go_at_once() -> None:
    seen = world()
    seen.holding = True
    write, read = seen.put(b"key"), seen.read(b"key")
    seen.settle()
    (first, second) = seen.outbox
    seen.outbox = []
    assert isinstance(first[1], WriteRequest)
    seen.core.received(at(1), ErrorReply(first[1].request_id, NotLeader()), seen.now_us)
    seen.holding = False
    seen.settle()
    assert not write.done
    seen.deliver(*second)
    seen.settle()
    assert read.done
    assert write.done


def test_late_and_repeated_replies_change_nothing() -> None:
    seen = world()
    seen.holding = True
    call = seen.put(b"key")
    seen.settle()
    ((endpoint, request),) = seen.outbox
    seen.outbox = []
    seen.deliver(endpoint, request)
    seen.deliver(endpoint, request)
    seen.core.received(endpoint, WriteReply(999, BatchResult(7, b"\1")), seen.now_us)
    seen.settle()
    assert (call.revision, call.error) == (1, None)


@pytest.mark.parametrize(
    "result",
    [
        BatchResult(1, b""),
        BatchResult(1, b"\1\1\1"),
        BatchResult(1, b"\1\x09"),
        BatchResult(1, b"\1\6"),
        BatchResult(1, b"\1\4"),
        BatchResult(1, b"\1\1", (3,)),
        BatchResult(1, b"\1\1", (), (1,)),
    ],
)
def test_a_result_that_cannot_be_right_ends_its_connection_and_nothing_else(result: BatchResult) -> None:
    seen = world()
    seen.holding = True
    calls = [seen.put(b"a", b"first"), seen.put(b"b", b"second")]
    seen.settle()
    ((endpoint, request),) = seen.outbox
    with pytest.raises(ProtocolError):
        seen.core.received(endpoint, WriteReply(request.request_id, result), seen.now_us)
    with pytest.raises(ProtocolError):
        seen.core.received(endpoint, ReadReply(request.request_id, 1, None, 0, [], []), seen.now_us)
    seen.holding = False
    seen.cut(endpoint)
    seen.pass_time(1)
    assert [call.error for call in calls] == [None, None]
    assert set(seen.cluster.applied.values()) == {1}


def test_a_conflict_after_a_lost_reply_is_the_first_result() -> None:
    seen = world()
    losses = iter([True])
    seen.lose_reply = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    created = seen.put(b"key", b"mine", condition=0)
    conflict = seen.put(b"key", b"late", condition=0)
    seen.pass_time(1)
    assert created.error is None
    assert isinstance(conflict.error, Conflict)
    assert conflict.error.applied == "no"


def test_nothing_is_sent_twice_at_the_same_time() -> None:
    seen = world()
    seen.holding = True
    seen.put(b"key")
    seen.settle()
    for _ in range(10):
        seen.pass_time(0.1)
    assert len(targets(seen)) == 1


def test_a_host_that_cannot_be_reached_is_passed_over() -> None:
    cluster = FakeCluster(shards=1)
    cluster.lead(2)
    seen = World(cluster, endpoints=(at(1), at(2)))
    seen.unreachable.add(at(1))
    call = seen.put(b"key")
    seen.settle()
    seen.refuse_connections()
    assert call.done
    assert targets(seen) == [at(2)] or targets(seen) == [at(3), at(2)]


def test_the_error_names_what_stood_in_the_way() -> None:
    seen = world()
    for host in (1, 2, 3):
        seen.kill(at(host))
    call = seen.put(b"key", seconds=2)
    seen.pass_time(3)
    assert call.error is not None
    assert isinstance(call.error.__cause__, Unavailable)
    assert "h3:7000: connection reset" in str(call.error)
