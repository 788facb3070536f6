"""Puts that were asked for together: columns as long as all goes well, calls of their own as soon as it does not."""

from __future__ import annotations

import pytest

from shardraft.errors import DeadlineExceeded, InvalidArgument
from shardraft.kv.commands import ANY_REVISION, PUT
from shardraft.kv.requests import ClientRequest
from shardraft_router.core import RouterLimits, WriteGroup
from tests.router.cluster import FakeCluster, World, writes

KEYS = [b"key %d" % number for number in range(40)]
MIDDLE = b"\x00\x08"
"""Halves the 16 slots of a fake cluster."""


def put_all(seen: World, keys: list[bytes] | None = None, seconds: float = 10.0) -> WriteGroup:
    keys = KEYS if keys is None else keys
    return seen.core.put_many(keys, [b"value of " + key for key in keys], seen.deadline(seconds))


def check_written(seen: World, group: WriteGroup, keys: list[bytes] | None = None) -> None:
    """All of ``keys`` are stored once, at the revisions that the group tells."""
    keys = KEYS if keys is None else keys
    revisions = group.revisions()
    assert group.done
    assert revisions is not None
    assert list(revisions) == keys
    for key, revision in revisions.items():
        stored = seen.cluster.stored(key)
        assert stored is not None
        assert (stored.value, stored.revision) == (b"value of " + key, revision)
    assert set(seen.cluster.applied.values()) == {1}


def test_each_key_learns_its_own_revision_in_whatever_order_shards_answer() -> None:
    seen = World(FakeCluster(shards=4)).ready()
    seen.holding = True
    group = put_all(seen)
    seen.settle()
    requests, seen.outbox, seen.holding = seen.outbox[::-1], [], False
    for endpoint, request in requests:
        seen.deliver(endpoint, request)
    seen.settle()
    check_written(seen, group)
    assert seen.completed == [group]


@pytest.mark.parametrize("limits", [{"batch_operations_max": 7}, {"coalesced_bytes_max": 150}])
def test_more_than_a_batch_may_hold_travels_in_several(limits: dict[str, int]) -> None:
    seen = World(FakeCluster(shards=2), limits=RouterLimits(**limits)).ready()
    group = put_all(seen)
    others = [seen.put(b"another %d" % number, b"another value %d" % number) for number in range(5)]
    seen.settle()
    check_written(seen, group)
    assert all(call.done and call.error is None for call in others)
    for batch in seen.cluster.batches:
        assert len(batch.keys) <= limits.get("batch_operations_max", 4096)
        assert sum(map(len, [*batch.keys, *batch.values])) <= limits.get("coalesced_bytes_max", 1 << 20)


def test_one_value_above_what_is_coalesced_travels_alone() -> None:
    seen = World(FakeCluster(shards=1), limits=RouterLimits(coalesced_bytes_max=100)).ready()
    group = seen.core.put_many([b"a", b"b", b"c"], [b"1", b"2" * 500, b"3"], seen.deadline())
    seen.settle()
    assert group.revisions() == {b"a": 1, b"b": 2, b"c": 3}
    assert [len(batch.keys) for batch in seen.cluster.batches] == [1, 1, 1]


def test_puts_and_deletes_of_others_join_the_same_batch_in_order() -> None:
    seen = World(FakeCluster(shards=1)).ready()
    before = seen.put(KEYS[0], b"before")
    group = put_all(seen)
    after = seen.delete(KEYS[1])
    seen.settle()
    assert len(seen.cluster.batches) == 1
    assert before.revision == 1
    assert group.revisions() == {key: place + 2 for place, key in enumerate(KEYS)}
    assert after.revision == len(KEYS) + 2
    assert seen.cluster.stored(KEYS[1]) is None


def test_several_groups_share_a_batch_and_each_learns_its_own_revisions() -> None:
    seen = World(FakeCluster(shards=1)).ready()
    keys = [[b"%d of group %d" % (number, group) for number in range(5)] for group in range(3)]
    groups = [put_all(seen, some) for some in keys]
    single = seen.put(b"single")
    seen.settle()
    assert len(seen.cluster.batches) == 1
    assert [list((group.revisions() or {}).values()) for group in groups] == [
        [1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15],
    ]  # fmt: skip
    assert single.revision == 16


def test_a_lost_reply_is_asked_for_again_and_nothing_applies_twice() -> None:
    seen = World(FakeCluster(shards=2)).ready()
    losses = iter([True, True])
    seen.lose_reply = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    group = put_all(seen)
    seen.pass_time(5)
    check_written(seen, group)
    assert seen.core.writes_retried >= len(KEYS) // 2


def test_what_waits_unsent_when_the_map_changes_is_divided_anew() -> None:
    cluster = FakeCluster(shards=1)
    seen = World(cluster, limits=RouterLimits(batches_in_flight_max=1)).ready()
    seen.holding = True
    first = put_all(seen, [b"first %d" % number for number in range(10)])
    seen.settle()
    group = put_all(seen)
    cluster.split(1, 2, MIDDLE)
    seen.holding = False
    seen.pass_time(5)
    assert first.revisions() is not None
    check_written(seen, group)


def test_what_was_sent_into_a_split_keeps_its_identity() -> None:
    cluster = FakeCluster(shards=1)
    seen = World(cluster).ready()
    group = put_all(seen)
    cluster.split(1, 2, MIDDLE)
    seen.pass_time(1)
    whole, piece = cluster.batches
    assert (piece.session, piece.sequence) == (whole.session, whole.sequence)
    assert piece.keys == tuple(whole.keys[position] for position in piece.positions)
    check_written(seen, group)


def test_each_key_of_a_batch_that_was_lost_in_a_split_learns_what_became_of_it() -> None:
    cluster = FakeCluster(shards=1)
    seen = World(cluster).ready()
    losses = iter([True])
    seen.lose_reply = lambda endpoint, request: writes(endpoint, request) and next(losses, False)
    group = put_all(seen)
    seen.core.flush(seen.now_us)
    for endpoint, request in seen.core.take().requests:
        seen.deliver(endpoint, request)  # It is applied before the split, and nobody hears of it.
    cluster.split(1, 2, MIDDLE)
    seen.pass_time(2)
    check_written(seen, group)


def test_a_deadline_tells_apart_what_was_sent_and_what_was_not() -> None:
    seen = World(FakeCluster(shards=1), limits=RouterLimits(batch_operations_max=10, batches_in_flight_max=1)).ready()
    seen.lose = writes
    group = put_all(seen, seconds=0.5)
    seen.pass_time(1)
    assert group.revisions() is None
    errors = [outcome for outcome in group.outcomes if isinstance(outcome, DeadlineExceeded)]
    assert [error.applied for error in errors] == ["unknown"] * 10 + ["no"] * 30


def test_keys_that_fail_together_have_errors_of_their_own() -> None:
    seen = World(FakeCluster(shards=1)).ready()
    seen.lose = writes
    group = put_all(seen, seconds=0.5)
    seen.pass_time(1)
    assert all(isinstance(outcome, DeadlineExceeded) for outcome in group.outcomes)
    assert len({id(outcome) for outcome in group.outcomes}) == len(KEYS)


def test_nothing_to_put_is_refused_at_once() -> None:
    with pytest.raises(InvalidArgument, match="nothing to put"):
        World(FakeCluster(shards=1)).core.put_many([], [], 1)


def test_a_pace_counts_each_put_and_what_is_all_or_nothing_as_one() -> None:
    seen = World(FakeCluster(shards=1)).ready()
    seen.holding = True
    tagged = [(PUT, b"{t}%d" % number, b"v", ANY_REVISION) for number in range(50)]
    for _ in range(3):
        seen.core.write_atomic(tagged, seen.deadline())
        seen.settle()
    assert len(seen.outbox) == 3, "few batches are under way, and nothing waits"
    put_all(seen)
    seen.settle()
    seen.put(b"later")
    seen.settle()
    assert len(seen.outbox) == 4, "many puts are under way, and what comes next waits for their answers"


def test_a_group_that_never_learned_the_map_failed_as_a_whole() -> None:
    seen = World(FakeCluster(shards=1))
    seen.unreachable.update(["h1:7000", "h2:7000", "h3:7000"])
    group = put_all(seen, seconds=0.5)
    seen.pass_time(1)
    assert group.revisions() is None
    assert isinstance(group.error, DeadlineExceeded)
    assert group.error.applied == "no"
    assert group.outcomes == [None] * len(KEYS)


@pytest.mark.parametrize("loses", [True, False])
def test_cancelled_while_under_way_it_is_told_to_nobody_and_applies_at_most_once(loses: bool) -> None:
    cluster = FakeCluster(shards=1)
    seen = World(cluster).ready()
    seen.holding = True
    group = put_all(seen)
    seen.settle()
    assert seen.core.cancel(group) == "unknown"
    cluster.split(1, 2, MIDDLE)

    def lose(endpoint: str, request: ClientRequest) -> bool:
        return loses

    seen.lose, seen.holding = lose, False
    seen.pass_time(5)
    assert seen.completed == []
    assert set(cluster.applied.values()) <= {1}
    assert bool(cluster.applied) is not loses
    assert len(seen.batches_sent()) == 1, "what nobody waits for is not sent again"
    assert not any(lane.unsettled for lane in seen.core._lanes.writes.values())  # type: ignore[union-attr]
