"""The children of a host: who they are, where they are, and how they keep in touch."""

from __future__ import annotations

import attrs
import pytest

from shardraft.config import Limits
from shardraft.errors import ErrorCode, ProtocolError
from shardraft.learner.feed import Feed
from shardraft.learner.messages import (
    Attach,
    AttachOutcome,
    ChildHello,
    DescendantPlace,
    FeedAck,
    FeedHeartbeat,
    ParentHello,
)
from tests.learner.logs import SHARD, ListLog, entries
from tests.learner.parent import ENTRY_BYTES, HELLO, Parent

# Children, their places and their number.


def test_one_child_more_than_the_limit_is_refused_as_overloaded() -> None:
    parent = Parent(Limits(children_max=2))
    parent.child(1)
    parent.child(2)
    with pytest.raises(ProtocolError) as refused:
        parent.child(3)
    assert refused.value.code is ErrorCode.OVERLOADED
    parent.feed.detach(1)
    parent.child(3)
    assert [child.connection for child in parent.feed.children()] == [2, 3]


def test_a_child_that_connects_again_takes_the_place_of_its_former_connection() -> None:
    parent = Parent(Limits(children_max=1), ListLog(entries(1, 2)))
    parent.child(1, host=50)
    parent.feed.attach(1, Attach(SHARD, 0, 0, 0, 1))
    parent.child(2, host=50)
    parent.turn()
    assert parent.last.closes == (1,)
    assert parent.given(1) == []
    assert [child.connection for child in parent.feed.children()] == [2]


def test_a_child_above_this_host_is_refused_as_a_loop() -> None:
    feed = Feed(5, Limits(), heartbeat_ms=50)
    with pytest.raises(ProtocolError):
        feed.greet(1, ChildHello(5, "us:1", ()))
    with pytest.raises(ProtocolError):
        feed.greet(1, ChildHello(6, "six:1", (DescendantPlace(5, "us:1", 3, 6),)))
    assert feed.children() == ()


def test_a_detached_child_is_given_nothing_more_and_its_late_news_is_ignored() -> None:
    parent = Parent(log=ListLog(entries(1, 2)))
    parent.attach(9, 0, 0)
    parent.feed.detach(9)
    parent.feed.acknowledged(9, FeedAck(SHARD, 2))
    parent.commit(3)
    assert parent.given(9) == [1, 2]
    assert parent.last.messages == ()


def test_descendants_are_the_children_and_what_they_told_of_theirs() -> None:
    feed = Feed(1, Limits(), heartbeat_ms=50)
    feed.set_hello(HELLO)
    grandchild = DescendantPlace(30, "grandchild:1", 2, 20)
    feed.greet(1, ChildHello(20, "child:1", ()))
    feed.greet(1, ChildHello(20, "child:1", (grandchild,)))
    feed.greet(2, ChildHello(10, "other:1", ()))
    assert feed.descendants == (
        DescendantPlace(10, "other:1", 1, 1),
        DescendantPlace(20, "child:1", 1, 1),
        grandchild,
    )
    feed.detach(1)
    assert list(feed.descendants) == [DescendantPlace(10, "other:1", 1, 1)]


def test_descendants_beyond_the_limit_are_not_listed() -> None:
    feed = Feed(1, Limits(descendants_max=3), heartbeat_ms=50)
    below = tuple(DescendantPlace(host, "far:1", 2, 20) for host in range(30, 40))
    feed.greet(1, ChildHello(20, "child:1", below))
    assert [place.host for place in feed.descendants] == [20, 30, 31]


def test_a_host_that_does_not_know_its_place_says_hello_only_when_it_does() -> None:
    feed = Feed(5, Limits(), heartbeat_ms=50)
    feed.greet(1, ChildHello(6, "six:1", ()))
    feed.tick(0)
    assert feed.take_ready().messages == ((1, (FeedHeartbeat(()),)),)
    hello = ParentHello(5, 1, (1, 5))
    feed.set_hello(hello)
    assert feed.take_ready().messages == ((1, (hello,)),)
    feed.set_hello(attrs.evolve(hello))
    assert feed.take_ready().messages == ()
    moved = ParentHello(5, 2, (1, 2, 5))
    feed.set_hello(moved)
    assert feed.take_ready().messages == ((1, (moved,)),)


# Heartbeats and status.


def test_heartbeats_come_at_their_interval_and_move_no_cursor() -> None:
    parent = Parent()
    parent.attach(9, 0, 0)
    parent.sent.clear()
    for now_us in (1_000, 20_000, 50_999, 51_000, 101_000):
        parent.feed.tick(now_us)
        parent.turn()
    assert parent.sent[9] == [FeedHeartbeat(())] * 3
    assert parent.feed.next_deadline_us == 151_000
    parent.commit(1)
    assert parent.given(9) == [1]


def test_a_heartbeat_tells_a_waiting_child_how_far_its_parent_is() -> None:
    limits = Limits(feed_bytes_in_flight_max=ENTRY_BYTES, feed_message_bytes_max=ENTRY_BYTES)
    parent = Parent(limits, ListLog(entries(1, 5)))
    parent.attach(9, 0, 0)
    parent.feed.tick(0)
    parent.turn()
    assert parent.sent[9][-1] == FeedHeartbeat(((SHARD, 5),))


def test_lag_is_what_is_committed_and_not_acknowledged() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.attach(9, 2)
    parent.attach(8, 7)
    assert [child.lag_entries for child in parent.feed.children()] == [3, 0]
    parent.acknowledge(9, 4)
    assert [child.lag_entries for child in parent.feed.children()] == [1, 0]
    (status,) = parent.feed.children()[0].shards
    assert (status.outcome, status.acknowledged_index) == (AttachOutcome.STREAMING, 4)


def test_the_commit_index_never_goes_back() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.feed.committed(SHARD, 5)
    with pytest.raises(AssertionError):
        parent.feed.committed(SHARD, 4)
