"""What a parent does for its children, told one rule at a time."""

from __future__ import annotations

import attrs
import pytest

from shardraft.config import Limits
from shardraft.errors import ErrorCode, ProtocolError
from shardraft.learner.feed import Feed
from shardraft.learner.messages import (
    Attach,
    AttachOutcome,
    AttachReply,
    ChildHello,
    DescendantPlace,
    FeedAck,
    FeedEntries,
    FeedHeartbeat,
    LearnerMessage,
    ParentHello,
)
from shardraft.learner.ready import FeedReady
from shardraft.types import Index, ShardId, Term
from tests.learner.logs import SHARD, ListLog, entries, entry

VOTER = 1
HELLO = ParentHello(VOTER, 0, (VOTER,))
ENTRY_BYTES = len(entry(1).encoded)


class Parent:
    """A feed of one shard whose log the test writes; everything sent is kept by connection."""

    def __init__(self, limits: Limits | None = None, log: ListLog | None = None) -> None:
        self.log = log if log is not None else ListLog()
        self.hashes: dict[Index, int] = {}
        self.feed = Feed(VOTER, limits or Limits(), heartbeat_ms=50)
        self.feed.set_hello(HELLO)
        self.feed.add_shard(SHARD, self.log, self.log.last_index, self.hashes.get)
        self.sent: dict[int, list[LearnerMessage]] = {}
        self.last = FeedReady()

    def child(self, connection: int, *, host: int | None = None) -> None:
        self.feed.greet(connection, ChildHello(host or 100 + connection, f"child{connection}:1", ()))

    def attach(self, connection: int, index: Index, term: Term = 1, applied_hash: int = 0) -> AttachOutcome:
        if connection not in {child.connection for child in self.feed.children()}:
            self.child(connection)
        outcome = self.feed.attach(connection, Attach(SHARD, index, term, applied_hash, 1))
        self.turn()
        return outcome

    def commit(self, index: Index, term: Term = 1, *, payload_bytes: int = 0) -> None:
        """Append and commit everything up to ``index``, and take a turn."""
        self.log.append(entries(self.log.last_index + 1, index, term, payload_bytes=payload_bytes))
        self.feed.committed(SHARD, index)
        self.turn()

    def acknowledge(self, connection: int, index: Index) -> None:
        self.feed.acknowledged(connection, FeedAck(SHARD, index))
        self.turn()

    def turn(self) -> None:
        self.last = self.feed.take_ready()
        for connection, messages in self.last.messages:
            self.sent.setdefault(connection, []).extend(messages)

    def given(self, connection: int) -> list[Index]:
        """Every index sent to that child, in order."""
        sent = [m for m in self.sent.get(connection, []) if isinstance(m, FeedEntries)]
        return [item.index for message in sent for item in message.entries]

    def told(self, connection: int) -> list[AttachOutcome]:
        return [m.outcome for m in self.sent.get(connection, []) if isinstance(m, AttachReply)]


# Attaching.


def test_a_child_hears_the_place_of_its_parent_first() -> None:
    parent = Parent()
    parent.attach(9, 0, 0)
    assert parent.sent[9][:2] == [HELLO, AttachReply(SHARD, AttachOutcome.STREAMING, 0)]


def test_a_child_is_given_what_follows_its_last_entry() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    assert parent.attach(9, 3) is AttachOutcome.STREAMING
    assert parent.given(9) == [4, 5]


def test_a_child_that_has_everything_is_given_what_commits_next_and_nothing_twice() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.attach(9, 5)
    assert parent.given(9) == []
    parent.commit(6)
    parent.commit(8)
    assert parent.given(9) == [6, 7, 8]


def test_entries_above_the_commit_index_are_never_sent() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.attach(9, 0, 0)
    parent.log.append(entries(6, 9))
    parent.turn()
    assert parent.given(9) == [1, 2, 3, 4, 5]
    parent.feed.committed(SHARD, 7)
    parent.turn()
    assert parent.given(9) == [1, 2, 3, 4, 5, 6, 7]


def test_a_shard_that_is_not_here_is_unknown() -> None:
    parent = Parent()
    parent.child(9)
    assert parent.feed.attach(9, Attach(SHARD + 1, 0, 0, 0, 1)) is AttachOutcome.UNKNOWN_SHARD
    parent.turn()
    assert parent.sent[9] == [HELLO, AttachReply(SHARD + 1, AttachOutcome.UNKNOWN_SHARD, 0)]


def test_attaching_without_a_hello_is_refused() -> None:
    parent = Parent()
    with pytest.raises(ProtocolError):
        parent.feed.attach(9, Attach(SHARD, 0, 0, 0, 1))


def test_a_child_that_attaches_again_starts_from_where_it_says() -> None:
    parent = Parent(log=ListLog(entries(1, 3)))
    parent.attach(9, 0, 0)
    parent.attach(9, 2)
    assert parent.given(9) == [1, 2, 3, 3]
    parent.commit(4)
    assert parent.given(9) == [1, 2, 3, 3, 4]


def test_a_shard_taken_back_is_unknown_to_those_who_had_it() -> None:
    parent = Parent(log=ListLog(entries(1, 3)))
    parent.attach(9, 3)
    parent.feed.remove_shard(SHARD)
    parent.turn()
    assert parent.told(9) == [AttachOutcome.STREAMING, AttachOutcome.UNKNOWN_SHARD]
    assert parent.attach(9, 3) is AttachOutcome.UNKNOWN_SHARD


# A child ahead of its parent (the parent restarted without its tail, or is itself behind).


def test_a_child_ahead_of_its_parent_is_parked_and_goes_on_once_the_parent_got_there() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    assert parent.attach(9, 8) is AttachOutcome.PARKED
    parent.commit(7)
    assert parent.given(9) == []
    parent.commit(10)
    assert parent.given(9) == [9, 10]
    assert parent.told(9) == [AttachOutcome.PARKED, AttachOutcome.STREAMING]


def test_uncommitted_entries_of_the_parent_prove_nothing_about_a_child_ahead() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.log.append(entries(6, 8, term=2))
    assert parent.attach(9, 7, term=3) is AttachOutcome.PARKED


def test_a_parked_child_whose_entry_has_another_term_diverged() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.attach(9, 7, term=2)
    parent.commit(9, term=3)
    assert parent.told(9) == [AttachOutcome.PARKED, AttachOutcome.DIVERGED]
    assert parent.given(9) == []


def test_a_parked_child_that_the_parent_jumps_over_with_a_copy_gets_a_copy_too() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.attach(9, 8)
    parent.log.reset(20, 2)
    parent.feed.committed(SHARD, 20)
    parent.turn()
    assert parent.told(9) == [AttachOutcome.PARKED, AttachOutcome.COPYING]
    assert parent.last.copies_wanted == ((9, SHARD),)


def test_a_parked_child_exactly_at_the_copy_of_its_parent_goes_on() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.attach(9, 20, term=2)
    parent.log.reset(20, 2)
    parent.feed.committed(SHARD, 20)
    parent.turn()
    parent.commit(21, term=2)
    assert parent.told(9) == [AttachOutcome.PARKED, AttachOutcome.STREAMING]
    assert parent.given(9) == [21]


# A child of another history.


def test_a_child_whose_last_entry_has_another_term_diverged_and_is_given_nothing() -> None:
    parent = Parent(log=ListLog(entries(1, 5, term=2)))
    assert parent.attach(9, 4, term=1) is AttachOutcome.DIVERGED
    assert [note.what for note in parent.last.notes if note.shard == SHARD] == ["the child diverged at index 4"]
    parent.commit(6, term=2)
    assert parent.given(9) == []


def test_a_child_whose_hash_differs_at_the_very_index_applied_here_diverged() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.hashes[4] = 0xABC
    assert parent.attach(9, 4, applied_hash=0xDEF) is AttachOutcome.DIVERGED
    assert parent.attach(9, 4, applied_hash=0xABC) is AttachOutcome.STREAMING
    assert parent.attach(9, 3, applied_hash=0xDEF) is AttachOutcome.STREAMING, "nothing is known about index 3"
    assert parent.attach(9, 4, applied_hash=0) is AttachOutcome.STREAMING, "the child has not applied its whole log"


# A child that needs a full copy.


def test_a_child_whose_next_entry_is_compacted_gets_a_copy_and_then_what_follows() -> None:
    parent = Parent(log=ListLog(entries(1, 9)))
    parent.log.compact_to(6)
    assert parent.attach(9, 3) is AttachOutcome.COPYING
    assert parent.last.copies_wanted == ((9, SHARD),)
    parent.commit(10)
    assert parent.last.copies_wanted == (), "a copy is asked for once"
    assert parent.given(9) == []
    parent.feed.copy_finished(9, SHARD, 8)
    parent.turn()
    assert parent.told(9) == [AttachOutcome.COPYING, AttachOutcome.STREAMING]
    assert parent.given(9) == [9, 10]


def test_a_child_at_the_entry_just_before_the_first_needs_no_copy() -> None:
    parent = Parent(log=ListLog(entries(1, 9)))
    parent.log.compact_to(6)
    assert parent.attach(9, 6) is AttachOutcome.STREAMING
    assert parent.given(9) == [7, 8, 9]


def test_a_copy_that_the_log_no_longer_follows_is_followed_by_another() -> None:
    parent = Parent(log=ListLog(entries(1, 9)))
    parent.log.compact_to(6)
    parent.attach(9, 3)
    parent.log.compact_to(8)
    parent.feed.copy_finished(9, SHARD, 7)
    parent.turn()
    assert parent.told(9) == [AttachOutcome.COPYING, AttachOutcome.COPYING]
    assert parent.last.copies_wanted == ((9, SHARD),)


def test_news_of_a_copy_that_nobody_waits_for_changes_nothing() -> None:
    parent = Parent(log=ListLog(entries(1, 9)))
    parent.attach(9, 9)
    parent.feed.copy_finished(9, SHARD, 4)
    parent.feed.copy_finished(77, SHARD, 4)
    parent.commit(10)
    assert parent.given(9) == [10]


def test_a_feed_pins_nothing_so_a_slow_child_falls_from_the_log_to_a_copy() -> None:
    limits = Limits(feed_bytes_in_flight_max=3 * ENTRY_BYTES, feed_message_bytes_max=ENTRY_BYTES)
    parent = Parent(limits, ListLog(entries(1, 9)))
    parent.attach(9, 0, 0)
    assert parent.given(9) == [1, 2, 3]
    parent.log.compact_to(8)
    parent.acknowledge(9, 3)
    assert parent.told(9) == [AttachOutcome.STREAMING, AttachOutcome.COPYING]
    assert parent.last.copies_wanted == ((9, SHARD),)


def test_a_parent_that_was_itself_replaced_by_a_copy_gives_its_children_one() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    parent.attach(9, 5)
    parent.log.reset(30, 2)
    parent.feed.committed(SHARD, 30)
    parent.turn()
    assert parent.told(9) == [AttachOutcome.STREAMING, AttachOutcome.COPYING]


# Windows.


def test_a_child_is_sent_no_more_bytes_than_its_window_until_it_acknowledges() -> None:
    limits = Limits(feed_bytes_in_flight_max=3 * ENTRY_BYTES, feed_message_bytes_max=ENTRY_BYTES)
    parent = Parent(limits, ListLog(entries(1, 9)))
    parent.attach(9, 0, 0)
    assert parent.given(9) == [1, 2, 3]
    parent.commit(10)
    assert parent.given(9) == [1, 2, 3]
    parent.acknowledge(9, 2)
    assert parent.given(9) == [1, 2, 3, 4, 5]
    parent.acknowledge(9, 2)
    assert parent.given(9) == [1, 2, 3, 4, 5], "an old acknowledgement opens nothing"


def test_an_entry_larger_than_the_window_goes_alone() -> None:
    limits = Limits(feed_bytes_in_flight_max=ENTRY_BYTES, feed_message_bytes_max=ENTRY_BYTES)
    parent = Parent(limits)
    parent.attach(9, 0, 0)
    parent.commit(2, payload_bytes=1000)
    assert parent.given(9) == [1]
    parent.acknowledge(9, 1)
    assert parent.given(9) == [1, 2]


def test_an_acknowledgement_of_what_was_never_sent_counts_as_one_of_all_that_was() -> None:
    limits = Limits(feed_bytes_in_flight_max=2 * ENTRY_BYTES, feed_message_bytes_max=ENTRY_BYTES)
    parent = Parent(limits, ListLog(entries(1, 9)))
    parent.attach(9, 0, 0)
    parent.acknowledge(9, 10**6)
    assert parent.given(9) == [1, 2, 3, 4], "nothing is skipped"


def test_a_slow_child_costs_its_sibling_nothing() -> None:
    limits = Limits(feed_bytes_in_flight_max=2 * ENTRY_BYTES, feed_message_bytes_max=ENTRY_BYTES)
    parent = Parent(limits)
    parent.attach(8, 0, 0)
    parent.attach(9, 0, 0)
    for index in range(1, 20):
        parent.commit(index)
        parent.acknowledge(9, index)
    assert parent.given(8) == [1, 2]
    assert parent.given(9) == list(range(1, 20))


def test_the_window_of_a_whole_link_bounds_all_its_shards_together() -> None:
    limits = Limits(
        feed_bytes_in_flight_max=4 * ENTRY_BYTES,
        feed_message_bytes_max=ENTRY_BYTES,
        feed_link_bytes_in_flight_max=6 * ENTRY_BYTES,
    )
    feed = Feed(VOTER, limits, heartbeat_ms=50)
    for shard in (1, 2, 3):
        feed.add_shard(shard, ListLog(entries(1, 9, shard=shard)), 9, lambda index: None)
    feed.greet(9, ChildHello(109, "child:1", ()))
    held: dict[ShardId, int] = {1: 0, 2: 0, 3: 0}
    for shard in held:
        feed.attach(9, Attach(shard, 0, 0, 0, 1))
    in_flight: list[FeedEntries] = []
    for _ in range(40):
        for _, messages in feed.take_ready().messages:
            in_flight += [message for message in messages if isinstance(message, FeedEntries)]
        assert sum(len(item.encoded) for message in in_flight for item in message.entries) <= 6 * ENTRY_BYTES
        if in_flight:
            message = in_flight.pop(0)
            held[message.shard] += len(message.entries)
            feed.acknowledged(9, FeedAck(message.shard, held[message.shard]))
    assert held == {1: 9, 2: 9, 3: 9}, "no shard is starved"


def test_one_turn_gives_a_bounded_number_of_bytes_and_the_rest_follows() -> None:
    limits = Limits(feed_message_bytes_max=ENTRY_BYTES, feed_turn_bytes_max=3 * ENTRY_BYTES)
    parent = Parent(limits, ListLog(entries(1, 9)))
    parent.child(9)
    parent.feed.attach(9, Attach(SHARD, 0, 0, 0, 1))
    for given in (3, 6, 9):
        assert parent.feed.next_deadline_us == 0, "there is more to give"
        parent.turn()
        assert parent.given(9) == list(range(1, given + 1))


def test_one_message_carries_a_bounded_number_of_bytes() -> None:
    parent = Parent(Limits(feed_message_bytes_max=4 * ENTRY_BYTES), ListLog(entries(1, 9)))
    parent.attach(9, 0, 0)
    sizes = [len(message.entries) for message in parent.sent[9] if isinstance(message, FeedEntries)]
    assert sizes == [4, 4, 1]


# Cost.


def test_siblings_at_the_same_index_share_one_message_made_from_one_read() -> None:
    parent = Parent()
    for connection in (7, 8, 9):
        parent.attach(connection, 0, 0)
    reads = parent.log.reads
    parent.commit(3)
    assert parent.log.reads == reads + 1
    assert parent.sent[7][-1] is parent.sent[8][-1] is parent.sent[9][-1]


def test_an_advance_without_children_reads_and_says_nothing() -> None:
    parent = Parent()
    parent.commit(3)
    assert parent.log.reads == 0
    assert parent.last == FeedReady()
    assert parent.feed.next_deadline_us is None


def test_an_advance_looks_at_no_child_that_waits() -> None:
    limits = Limits(feed_bytes_in_flight_max=ENTRY_BYTES, feed_message_bytes_max=ENTRY_BYTES)
    parent = Parent(limits, ListLog(entries(1, 2)))
    parent.attach(8, 0, 0)
    parent.attach(9, 50)
    reads = parent.log.reads
    parent.commit(10)
    parent.commit(20)
    assert parent.log.reads == reads
    assert parent.given(8) == [1]


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
    assert feed.descendants == (DescendantPlace(10, "other:1", 1, 1),)


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
