"""The shard map: how the core learns it, and what happens to what is under way when it changes."""

from __future__ import annotations

import attrs
import pytest

from shardraft.errors import Conflict, InvalidArgument, Unavailable, WrongShard
from shardraft.kv.commands import ANY_REVISION, PUT
from shardraft.kv.requests import (
    ClientRequest,
    Consistency,
    MapRequest,
    ReadRequest,
    StatusReply,
    StatusRequest,
    WriteReply,
    WriteRequest,
)
from shardraft.shards.shard_map import HostPlace
from shardraft.types import Membership
from shardraft_router.core import RouterLimits
from tests.router.cluster import FakeCluster, World, at, learner_at, writes

MIDDLE = b"\x00\x08"
KEYS = [b"key %d" % number for number in range(32)]


def world(cluster: FakeCluster | None = None, **limits: int) -> World:
    return World(cluster or FakeCluster(shards=1), limits=RouterLimits(**limits)).ready()


def puts(*items: tuple[bytes, bytes]) -> list[tuple[int, bytes, bytes, int]]:
    return [(PUT, key, value, ANY_REVISION) for key, value in items]


def count_map_requests(seen: World) -> list[str]:
    """A list that fills with the hosts that are asked for the map from here on."""
    asked: list[str] = []

    def note(endpoint: str, request: ClientRequest) -> bool:
        if isinstance(request, MapRequest):
            asked.append(endpoint)
        return False

    seen.lose = note
    return asked


# --- learning it


def test_calls_made_before_the_map_is_known_wait_for_it() -> None:
    seen = World(FakeCluster(shards=4))
    put = seen.put(b"key", b"value")
    many = seen.core.put_many(KEYS, KEYS, seen.deadline())
    atomic = seen.core.write_atomic(puts((b"{t}a", b"1"), (b"{t}b", b"2")), seen.deadline())
    seen.settle()
    assert all(call.done and call.error is None for call in (put, many, atomic))
    seen = World(seen.cluster)
    get, group = seen.read(b"key"), seen.core.read_many(KEYS, Consistency.LINEARIZABLE, seen.deadline())
    seen.settle()
    assert get.values == [b"value"]
    assert group.found() == {key: key for key in KEYS}


def test_a_torn_batch_made_before_the_map_is_known_is_refused_unsent() -> None:
    seen = World(FakeCluster(shards=16))
    call = seen.core.write_atomic([(PUT, key, b"v", ANY_REVISION) for key in KEYS], seen.deadline())
    seen.settle()
    assert isinstance(call.error, InvalidArgument)
    assert seen.batches_sent() == []


def test_one_endpoint_is_enough_to_know_all_hosts() -> None:
    seen = World(FakeCluster(shards=3), endpoints=[at(2)]).ready()
    assert seen.wanted == (at(1), at(2), at(3))


def test_an_unreachable_endpoint_does_not_keep_the_others_from_being_asked() -> None:
    seen = World(FakeCluster(shards=1), endpoints=["nowhere:1", at(2)])
    seen.unreachable.add("nowhere:1")
    call = seen.put(b"key")
    seen.settle()
    assert call.done
    seen.refuse_connections()
    assert "nowhere:1" not in seen.wanted


def test_an_endpoint_that_is_a_known_host_under_another_name_is_connected_to_once() -> None:
    cluster = FakeCluster(shards=1)
    cluster.host_of = lambda endpoint: (1, 0) if endpoint == "localhost:7000" else (int(endpoint[1]), 0)  # type: ignore[method-assign]
    seen = World(cluster, endpoints=["localhost:7000"]).ready()
    assert set(seen.wanted) == {"localhost:7000", at(2), at(3)}
    call = seen.put(b"key")
    seen.settle()
    assert call.done
    assert [endpoint for endpoint, _ in seen.sent] == ["localhost:7000"]
    seen.kill("localhost:7000")
    seen.settle()
    assert at(1) in seen.connected


def test_a_host_of_another_cluster_is_dropped() -> None:
    ours, theirs = FakeCluster(shards=1), FakeCluster(shards=1)
    theirs.shard_map = attrs.evolve(theirs.shard_map, cluster_id=b"another cluster!")
    seen = world(ours)
    answer = theirs.answer(at(2), MapRequest(99))
    seen.cut(at(2))
    seen.core.host_connected(at(2), 2, 0, seen.now_us)
    seen.connected[at(2)] = None
    seen.core.flush(seen.now_us)
    ((endpoint, request),) = seen.core.take().requests
    seen.core.received(endpoint, attrs.evolve(answer, request_id=request.request_id), seen.now_us)
    assert seen.core.take().drops == [at(2)]


def test_a_host_found_at_another_hosts_endpoint_is_not_taken_for_it() -> None:
    cluster = FakeCluster(shards=1)
    cluster.lead(1)
    true_host_of = cluster.host_of
    cluster.host_of = lambda endpoint: (2, 0) if endpoint == at(1) else true_host_of(endpoint)  # type: ignore[method-assign]
    seen = World(cluster, endpoints=[at(3)]).ready()
    seen.put(b"key", seconds=1)
    seen.pass_time(2)
    assert len(seen.batches_sent()) < 50


# --- changes of it


def test_a_refusal_for_the_map_fetches_a_newer_one_from_the_host_that_refused() -> None:
    cluster = FakeCluster(shards=2)
    seen = world(cluster)
    cluster.split(2, 3, b"\x00\x0c")
    cluster.leaders[3] = 3
    asked = count_map_requests(seen)
    calls = [seen.put(key) for key in KEYS]
    seen.pass_time(1)
    assert all(call.done and call.error is None for call in calls)
    assert seen.core.shard_map == cluster.shard_map
    assert len(asked) == 1


def test_after_a_split_operations_keep_their_identity_and_apply_once() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    losses = iter([True])
    seen.lose_reply = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    calls = [seen.put(key, key) for key in KEYS]
    seen.core.flush(seen.now_us)
    for endpoint, request in seen.core.take().requests:
        seen.deliver(endpoint, request)  # It is applied before the split, and nobody hears of it.
    cluster.split(1, 2, MIDDLE)
    seen.pass_time(2)
    assert all(call.done and call.error is None for call in calls)
    assert set(cluster.applied.values()) == {1}
    assert len(cluster.applied) == len(KEYS)
    assert sorted(call.revision for call in calls) == list(range(1, len(KEYS) + 1))


def test_regrouped_pieces_name_their_positions_and_the_first_sequence() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    calls = [seen.put(key, key) for key in KEYS]
    cluster.split(1, 2, MIDDLE)
    seen.pass_time(1)
    whole, piece = cluster.batches
    assert all(call.done and call.error is None for call in calls)
    assert (piece.session, piece.sequence) == (whole.session, whole.sequence)
    assert piece.keys == tuple(whole.keys[position] for position in piece.positions)
    assert set(cluster.applied.values()) == {1}


def test_a_child_that_never_saw_the_session_opens_it_for_what_certainly_was_not_applied() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    cluster.split(1, 2, MIDDLE)
    calls = [seen.put(key, key) for key in KEYS]
    seen.pass_time(1)
    assert [call.error for call in calls] == [None] * len(KEYS)
    assert set(cluster.applied.values()) == {1}
    more = [seen.put(key, b"again " + key) for key in KEYS]
    seen.pass_time(1)
    assert [call.error for call in more] == [None] * len(KEYS)


def test_a_whole_shard_that_is_gone_leaves_nothing_behind() -> None:
    cluster = FakeCluster(shards=2)
    seen = world(cluster)
    seen.holding = True
    under_way = [seen.put(key, key) for key in KEYS]
    seen.settle()
    # Shard 2 becomes shard 9 with everything in it.
    old = cluster.shard_map
    renamed = tuple(attrs.evolve(shard, shard=9 if shard.shard == 2 else shard.shard) for shard in old.shards)
    cluster.shard_map = attrs.evolve(old, epoch=2, shards=renamed)
    cluster.machines[9] = cluster.machines.pop(2)
    cluster.leaders[9] = cluster.leaders.pop(2)
    waiting = [seen.put(key, b"later " + key) for key in KEYS]
    reads = [seen.read(key) for key in KEYS]
    seen.holding = False
    seen.pass_time(2)
    assert all(call.done and call.error is None for call in [*under_way, *waiting, *reads])
    assert set(cluster.applied.values()) == {1}


def test_an_atomic_batch_moves_whole_or_is_refused_when_a_split_tears_it() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    low = next(key for key in KEYS if cluster.shard_map.locate(key)[1] < MIDDLE)
    high = next(key for key in KEYS if cluster.shard_map.locate(key)[1] >= MIDDLE)
    torn = seen.core.write_atomic(puts((low, b"torn"), (high, b"torn")), seen.deadline())
    moved = seen.core.write_atomic(puts((high, b"1"), (high, b"2")), seen.deadline())
    cluster.split(1, 2, MIDDLE)
    seen.pass_time(1)
    assert isinstance(torn.error, InvalidArgument)
    assert torn.error.applied == "no"
    assert moved.error is None
    assert cluster.applied == {b"1": 1, b"2": 1}


def test_a_conflict_in_a_mixed_result_goes_to_its_own_call() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    low = [key for key in KEYS if cluster.shard_map.locate(key)[1] < MIDDLE]
    high = next(key for key in KEYS if key not in low)
    cluster.split(1, 2, MIDDLE)
    calls = [seen.put(low[0], condition=5), seen.put(high, b"moved"), seen.put(low[1], condition=6), seen.put(low[2])]
    seen.pass_time(1)
    assert [type(call.error) for call in calls] == [Conflict, type(None), Conflict, type(None)]


def test_reads_are_divided_anew_after_a_split() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    for key in KEYS:
        seen.put(key, key)
    seen.settle()
    cluster.split(1, 2, MIDDLE)
    group = seen.core.read_many(KEYS, Consistency.LINEARIZABLE, seen.deadline())
    seen.pass_time(1)
    assert group.found() == {key: key for key in KEYS}
    assert len({request.shard for _, request in seen.sent if isinstance(request, ReadRequest)}) == 2


def test_a_map_that_does_not_help_is_not_asked_for_in_a_hurry() -> None:
    seen = world()
    seen.refuse = lambda endpoint, request: WrongShard() if isinstance(request, WriteRequest) else None
    asked = count_map_requests(seen)
    call = seen.put(b"key", seconds=3)
    seen.pass_time(4)
    assert call.error is not None
    assert call.error.applied == "no"
    assert 5 <= len(asked) <= 40


def test_a_new_host_in_a_new_map_is_connected_to() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    old = cluster.shard_map
    cluster.shard_map = attrs.evolve(old, epoch=2, hosts=(*old.hosts, HostPlace(4, at(4))))
    refusals = iter([WrongShard()])
    seen.refuse = lambda endpoint, request: next(refusals, None) if isinstance(request, WriteRequest) else None
    seen.put(b"key")
    seen.pass_time(1)
    assert at(4) in seen.connected


def test_a_host_that_joined_is_heard_of_while_all_calls_succeed() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster, map_refresh_ms=1_000)
    asked = count_map_requests(seen)
    cluster.shard_map = attrs.evolve(cluster.shard_map, hosts=(*cluster.shard_map.hosts, HostPlace(4, at(4))))
    for _ in range(30):
        seen.put(b"key")
        seen.pass_time(0.1)
    assert len(asked) in (3, 4), "the fourth is of the new host, since every host is asked when it is connected"
    assert at(4) in seen.connected


def test_nobody_is_asked_for_the_map_while_nothing_is_called() -> None:
    seen = world(map_refresh_ms=1_000)
    asked = count_map_requests(seen)
    seen.pass_time(30)
    assert asked == []
    seen.put(b"key")
    seen.settle()
    assert len(asked) == 1


def test_a_leader_that_the_map_does_not_have_is_asked_for_and_found_within_the_same_epoch() -> None:
    """Hosts come, and voters change, without a key changing its shard."""
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    old = cluster.shard_map
    moved = attrs.evolve(old.shards[0], membership=Membership.of({2: 2, 3: 3, 4: 4}), membership_index=9)
    cluster.shard_map = attrs.evolve(old, hosts=(*old.hosts, HostPlace(4, at(4))), shards=(moved,))
    cluster.lead(4)
    call = seen.put(b"key")
    seen.pass_time(1)
    assert call.done
    assert call.error is None
    assert seen.sent[-1][0] == at(4)
    assert seen.core.shard_map == cluster.shard_map
    assert not any(isinstance(request, MapRequest) for _, request in seen.outbox)


def test_an_older_configuration_of_the_same_epoch_changes_nothing() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    old = cluster.shard_map
    moved = attrs.evolve(old.shards[0], membership=Membership.of({1: 1, 2: 2}), membership_index=9)
    cluster.shard_map = attrs.evolve(old, shards=(moved,))
    seen.cut(at(1))
    seen.pass_time(1)
    assert seen.core.shard_map == cluster.shard_map
    newest, cluster.shard_map = cluster.shard_map, old
    seen.cut(at(2))
    seen.pass_time(1)
    assert seen.core.shard_map == newest


# --- questions to one host


def test_a_host_is_asked_itself_or_not_at_all() -> None:
    seen = world(FakeCluster(shards=2, learners={21: 2}))
    seen.kill(at(3))
    endpoints = [at(1), at(2), at(3), learner_at(21), "nowhere:1"]
    seen.unreachable.add("nowhere:1")
    calls = [seen.core.ask_host(endpoint, StatusRequest, seen.deadline()) for endpoint in endpoints]
    seen.settle()
    seen.refuse_connections()
    assert all(call.done for call in calls)
    replies = [call.reply.host if isinstance(call.reply, StatusReply) else None for call in calls]
    assert replies == [1, 2, None, 21, None]
    assert [type(call.error) for call in calls] == [type(None), type(None), Unavailable, type(None), Unavailable]


def test_a_learner_that_was_only_asked_its_status_is_let_go() -> None:
    seen = world(FakeCluster(shards=1, learners={21: 2}))
    call = seen.core.ask_host(learner_at(21), StatusRequest, seen.deadline())
    seen.settle()
    assert call.done
    assert learner_at(21) in seen.connected
    seen.cut(at(2))
    seen.settle()
    assert learner_at(21) not in seen.wanted


def test_a_host_that_does_not_answer_a_question_is_late() -> None:
    seen = world()
    seen.lose = lambda endpoint, request: isinstance(request, StatusRequest)
    call = seen.core.ask_host(at(1), StatusRequest, seen.deadline(1))
    seen.pass_time(2)
    assert call.error is not None
    assert call.error.applied == "no"


@pytest.mark.parametrize("shards", [1, 4])
def test_the_same_inputs_give_the_same_requests(shards: int) -> None:
    def run() -> list[tuple[str, ClientRequest]]:
        seen = world(FakeCluster(shards=shards, learners={11: 1, 21: 2}))
        for number, key in enumerate(KEYS):
            seen.put(key)
            seen.read(key, stale=number % 2 == 0)
            if number == 10:
                seen.kill(at(1))
                seen.cluster.lead(2)
            seen.pass_time(0.05)
        return seen.sent

    first = run()
    assert first == run()
    assert len({id(request) for _, request in first}) > len(KEYS)


def test_replies_of_a_former_map_are_still_understood() -> None:
    cluster = FakeCluster(shards=1)
    seen = world(cluster)
    seen.holding = True
    call = seen.put(KEYS[0], b"once")
    seen.settle()
    (sent,) = seen.outbox
    seen.outbox = []
    reply = cluster.answer(*sent)
    cluster.split(1, 2, MIDDLE)
    seen.holding = False
    seen.refuse = lambda endpoint, request: (
        WrongShard() if isinstance(request, ReadRequest) and request.epoch == 1 else None
    )
    seen.read(KEYS[1])
    seen.pass_time(1)
    assert seen.core.shard_map == cluster.shard_map
    assert isinstance(reply, WriteReply)
    seen.core.received(sent[0], reply, seen.now_us)
    seen.settle()
    assert call.error is None
    assert cluster.applied == {b"once": 1}
