"""How much a child is sent and what that costs, told one rule at a time."""

from __future__ import annotations

from shardraft.config import Limits
from shardraft.learner.feed import Feed
from shardraft.learner.messages import Attach, AttachOutcome, ChildHello, FeedAck, FeedEntries
from shardraft.learner.ready import FeedReady
from shardraft.types import Index, ShardId
from tests.learner.logs import SHARD, ListLog, entries
from tests.learner.parent import ENTRY_BYTES, VOTER, Parent

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
    assert parent.feed.children()[0].lag_entries == 7, "it holds what it was sent, no more"


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


class TwoShards:
    """One child of two shards whose link has room for six entries, all taken by shard 1."""

    def __init__(self) -> None:
        limits = Limits(
            feed_bytes_in_flight_max=6 * ENTRY_BYTES,
            feed_message_bytes_max=ENTRY_BYTES,
            feed_link_bytes_in_flight_max=6 * ENTRY_BYTES,
        )
        self.logs = {shard: ListLog(entries(1, 6, shard=shard)) for shard in (1, 2)}
        self.feed = Feed(VOTER, limits, heartbeat_ms=50)
        for shard, log in self.logs.items():
            self.feed.add_shard(shard, log, 6, lambda index: None)
        self.feed.greet(9, ChildHello(109, "child:1", ()))
        self.given: dict[ShardId, list[Index]] = {1: [], 2: []}
        for shard in self.logs:
            self.feed.attach(9, Attach(shard, 0, 0, 0, 1))
            self.turn()
        assert self.given == {1: [1, 2, 3, 4, 5, 6], 2: []}

    def turn(self) -> FeedReady:
        ready = self.feed.take_ready()
        for _, messages in ready.messages:
            for message in messages:
                if isinstance(message, FeedEntries):
                    self.given[message.shard] += [item.index for item in message.entries]
        return ready


def test_a_shard_that_attaches_again_leaves_its_part_of_the_link_to_the_others() -> None:
    two = TwoShards()
    two.feed.attach(9, Attach(1, 6, 1, 0, 1))
    two.turn()
    assert two.given[2] == [1, 2, 3, 4, 5, 6]


def test_a_shard_that_is_taken_back_leaves_its_part_of_the_link_to_the_others() -> None:
    two = TwoShards()
    two.feed.remove_shard(1)
    two.turn()
    assert two.given[2] == [1, 2, 3, 4, 5, 6]


def test_a_shard_that_got_a_copy_leaves_its_part_of_the_link_to_the_others() -> None:
    two = TwoShards()
    two.logs[1].append(entries(7, 9, shard=1))
    two.logs[1].compact_to(8)
    two.feed.committed(1, 9)
    assert two.turn().copies_wanted == ((9, 1),)
    assert two.given[2] == []
    two.feed.copy_finished(9, 1, 8)
    two.turn()
    assert two.given == {1: [1, 2, 3, 4, 5, 6, 9], 2: [1, 2, 3, 4, 5]}
    assert [status.acknowledged_index for status in two.feed.children()[0].shards] == [8, 0]


def test_many_small_messages_are_released_to_the_last_byte() -> None:
    limits = Limits(feed_bytes_in_flight_max=600 * ENTRY_BYTES, feed_message_bytes_max=ENTRY_BYTES)
    parent = Parent(limits, ListLog(entries(1, 2000)))
    parent.attach(9, 0, 0)
    for acknowledged in (600, 1200, 1800):
        assert parent.given(9)[-1] == acknowledged
        parent.acknowledge(9, acknowledged)
    assert parent.given(9) == list(range(1, 2001))


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


def test_parked_children_cost_an_advance_nothing_until_it_gets_to_the_nearest() -> None:
    parent = Parent(log=ListLog(entries(1, 5)))
    for connection, index in ((7, 50), (8, 20), (9, 30)):
        parent.attach(connection, index)
    parent.feed.tick(0)
    parent.turn()
    parent.commit(20)
    parent.feed.detach(8)
    parent.feed.detach(9)
    parent.turn()
    parent.log.append(entries(21, 49))
    parent.feed.committed(SHARD, 49)
    assert parent.feed.next_deadline_us == 50_000, "nobody is to be given anything"
    parent.commit(50)
    assert parent.told(7) == [AttachOutcome.PARKED, AttachOutcome.STREAMING]
