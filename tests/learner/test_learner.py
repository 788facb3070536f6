"""What a learner takes from its parent and what it says, told one rule at a time."""

from __future__ import annotations

import attrs
import pytest

from shardraft.config import Limits
from shardraft.learner.learner import Learner
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
from shardraft.learner.ready import Following, LearnerReady
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.types import Index
from tests.learner.logs import SHARD, ListLog, ListShard, entries, entry

US, PARENT, GRANDPARENT = 50, 20, 1
SECOND_US = 1_000_000
SHARD_MAP = attrs.evolve(ShardMap.bootstrap(b"c" * 16, (HostPlace(1, "one:1"),), shards=1), epoch=3)
HELLO = ParentHello(PARENT, 1, (GRANDPARENT, PARENT), SHARD_MAP)


class Child:
    """A learner of one shard; ``said`` is everything it ever sent to its parent."""

    def __init__(self, log: ListLog | None = None, shard_map: ShardMap | None = SHARD_MAP) -> None:
        self.shard = ListShard(log)
        self.learner = Learner(US, "us:1", Limits(), shard_map)
        self.learner.add_shard(self.shard)
        self.said: list[LearnerMessage] = []
        self.ready = LearnerReady()
        self.now_us = 0

    def turn(self) -> LearnerReady:
        self.ready = self.learner.take_ready()
        self.said += self.ready.messages
        return self.ready

    def connect(self, connection: int = 1) -> None:
        self.learner.connected(connection, self.now_us)
        self.turn()

    def hear(self, *messages: LearnerMessage, connection: int = 1) -> None:
        for message in messages:
            self.learner.received(connection, message, self.now_us)
        self.turn()

    def attach(self, outcome: AttachOutcome = AttachOutcome.STREAMING) -> None:
        self.connect()
        self.hear(HELLO, AttachReply(SHARD, outcome, self.shard.last_index))

    def persist(self) -> None:
        self.learner.persisted(SHARD, self.shard.last_index)
        self.turn()

    @property
    def following(self) -> Following:
        return self.learner.shards()[0].following


def feed(low: Index, high: Index, term: int = 1, commit_index: Index | None = None) -> FeedEntries:
    return FeedEntries(SHARD, high if commit_index is None else commit_index, tuple(entries(low, high, term)))


@pytest.fixture
def child() -> Child:
    """A learner that holds entries 1 to 5 of term 1 and has a parent that streams."""
    child = Child(ListLog(entries(1, 5)))
    child.attach()
    child.said.clear()
    return child


# Meeting the parent.


def test_a_learner_says_hello_first_and_attaches_when_it_was_answered() -> None:
    child = Child(ListLog(entries(1, 5)))
    child.shard.applied_hash = 0xABC
    child.connect()
    assert child.said == [ChildHello(US, "us:1", ())]
    assert not child.learner.is_attached
    child.hear(HELLO)
    assert child.said[1:] == [Attach(SHARD, 5, 1, 0xABC, 3)]
    assert child.learner.parent == PARENT


def test_the_hash_is_told_only_when_the_whole_log_is_applied() -> None:
    child = Child(ListLog(entries(1, 5)))
    child.shard.applied_hash = 0xABC
    child.shard.last_applied = 4
    child.connect()
    child.hear(HELLO)
    assert child.said[1:] == [Attach(SHARD, 5, 1, 0, 3)]


def test_a_learner_is_one_tier_below_its_parent_and_adds_itself_to_the_path() -> None:
    child = Child()
    assert (child.learner.tier, child.learner.hello) == (None, None)
    child.attach()
    assert child.learner.tier == 2
    assert child.learner.hello == ParentHello(US, 2, (GRANDPARENT, PARENT, US), SHARD_MAP)


def test_children_stay_where_they_are_while_their_parent_has_none(child: Child) -> None:
    told = child.learner.hello
    child.learner.disconnected(1)
    assert child.learner.parent == 0
    assert child.learner.hello is told


def test_a_learner_that_finds_itself_among_its_ancestors_leaves() -> None:
    child = Child()
    child.connect()
    child.hear(ParentHello(PARENT, 2, (GRANDPARENT, US, PARENT), SHARD_MAP))
    assert child.ready.closes == (1,)
    assert not child.learner.is_attached
    assert child.learner.hello is None


def test_a_loop_that_arises_later_is_left_too(child: Child) -> None:
    child.hear(ParentHello(PARENT, 3, (GRANDPARENT, US, 60, PARENT), SHARD_MAP))
    assert child.ready.closes == (1,)


def test_a_fresh_learner_hears_from_its_parent_which_shards_there_are() -> None:
    learner = Learner(US, "us:1", Limits())
    learner.connected(1, 0)
    learner.received(1, HELLO, 0)
    ready = learner.take_ready()
    assert ready.shard_map == SHARD_MAP
    assert learner.shard_map == SHARD_MAP
    learner.add_shard(ListShard())
    assert learner.take_ready().messages == (Attach(SHARD, 0, 0, 0, 3),)


def test_only_a_later_map_takes_the_place_of_the_one_known(child: Child) -> None:
    assert child.ready.shard_map is None, "the same epoch is no news"
    child.hear(attrs.evolve(HELLO, shard_map=attrs.evolve(SHARD_MAP, epoch=2)))
    assert child.ready.shard_map is None
    later = attrs.evolve(SHARD_MAP, epoch=4)
    child.hear(attrs.evolve(HELLO, shard_map=later))
    assert child.ready.shard_map == later
    assert child.learner.hello is not None
    assert child.learner.hello.shard_map == later


def test_a_parent_of_another_cluster_is_left() -> None:
    child = Child()
    child.connect()
    child.hear(attrs.evolve(HELLO, shard_map=attrs.evolve(SHARD_MAP, cluster_id=b"d" * 16, epoch=9)))
    assert child.ready.closes == (1,)
    assert child.learner.shard_map == SHARD_MAP


def test_descendants_are_told_when_they_change_and_only_then(child: Child) -> None:
    below = (DescendantPlace(60, "below:1", 3, US),)
    child.learner.set_descendants(below)
    child.turn()
    assert child.said == [ChildHello(US, "us:1", below)]
    child.learner.set_descendants(below)
    child.turn()
    assert len(child.said) == 1
    child.learner.disconnected(1)
    child.connect(2)
    assert child.said[1:] == [ChildHello(US, "us:1", below)]


# Entries.


def test_entries_that_follow_the_log_are_accepted(child: Child) -> None:
    child.hear(feed(6, 8, commit_index=12))
    assert child.shard.last_index == 8
    assert child.shard.parent_commit_index == 12
    assert child.learner.shards()[0].parent_commit_index == 12


def test_what_is_known_already_is_dropped_whole_or_in_part(child: Child) -> None:
    child.hear(feed(6, 8))
    child.hear(feed(6, 8), feed(4, 7), feed(7, 10), feed(7, 10))
    assert child.shard.log.kept == entries(1, 10)
    assert child.ready.closes == ()


def test_a_gap_closes_the_link_and_nothing_is_accepted(child: Child) -> None:
    child.hear(feed(7, 9))
    assert child.ready.closes == (1,)
    assert child.shard.last_index == 5
    child.hear(feed(6, 9))
    assert child.shard.last_index == 5, "the link is gone"


def test_after_a_gap_the_next_link_resumes_where_the_log_ends(child: Child) -> None:
    child.hear(feed(7, 9))
    child.connect(2)
    child.hear(HELLO, connection=2)
    assert child.said[-1] == Attach(SHARD, 5, 1, 0, 3)
    child.hear(AttachReply(SHARD, AttachOutcome.STREAMING, 9), feed(6, 9), connection=2)
    assert child.shard.last_index == 9


@pytest.mark.parametrize(
    "wrong",
    [
        FeedEntries(SHARD, 9, (entry(6), entry(8))),
        FeedEntries(SHARD, 9, (entry(6, 3), entry(7, 2))),
        FeedEntries(SHARD, 9, (entry(5, 2), entry(6, 2))),
    ],
    ids=["a hole inside", "a falling term", "another entry at our last index"],
)
def test_entries_that_do_not_fit_the_log_close_the_link(child: Child, wrong: FeedEntries) -> None:
    child.hear(wrong)
    assert child.ready.closes == (1,)
    assert child.shard.last_index == 5


def test_a_term_below_that_of_the_last_entry_closes_the_link() -> None:
    child = Child(ListLog(entries(1, 5, term=4)))
    child.attach()
    child.hear(feed(6, 7, term=3))
    assert child.ready.closes == (1,)


def test_what_a_former_link_still_delivers_is_ignored(child: Child) -> None:
    child.connect(2)
    assert child.ready.closes == (1,), "one parent at a time"
    child.hear(feed(6, 8), connection=1)
    assert child.shard.last_index == 5
    child.learner.disconnected(1)
    child.hear(HELLO, AttachReply(SHARD, AttachOutcome.STREAMING, 8), feed(6, 8), connection=2)
    assert child.shard.last_index == 8


def test_a_message_that_no_parent_sends_closes_the_link(child: Child) -> None:
    child.hear(FeedAck(SHARD, 5))
    assert child.ready.closes == (1,)


def test_heartbeats_move_no_cursor(child: Child) -> None:
    child.hear(FeedHeartbeat(((SHARD, 100), (SHARD + 1, 3))))
    assert child.shard.last_index == 5
    assert child.learner.shards()[0].parent_commit_index == 100
    child.hear(feed(6, 6, commit_index=100))
    assert child.shard.last_index == 6


# Acknowledgements.


def test_entries_are_acknowledged_when_they_are_persisted_and_not_before(child: Child) -> None:
    child.hear(feed(6, 8))
    assert child.said == []
    child.learner.persisted(SHARD, 7)
    child.turn()
    child.learner.persisted(SHARD, 8)
    child.learner.persisted(SHARD, 8)
    child.turn()
    assert child.said == [FeedAck(SHARD, 7), FeedAck(SHARD, 8)]


def test_what_was_received_over_a_former_link_is_not_acknowledged_over_the_next(child: Child) -> None:
    child.hear(feed(6, 8))
    child.learner.disconnected(1)
    child.connect(2)
    child.hear(HELLO, connection=2)
    child.said.clear()
    child.persist()
    assert child.said == [], "the attach said it"


def test_an_acknowledgement_that_its_link_did_not_outlive_is_not_sent_over_the_next(child: Child) -> None:
    child.hear(feed(6, 8))
    child.learner.persisted(SHARD, 8)
    child.learner.disconnected(1)
    child.connect(2)
    assert child.said == [ChildHello(US, "us:1", ())]


# What the parent makes of it.


def test_a_parked_learner_keeps_serving_and_goes_on_when_its_parent_got_there() -> None:
    child = Child(ListLog(entries(1, 5)))
    child.attach(AttachOutcome.PARKED)
    assert child.following is Following.PARKED
    assert child.learner.is_following
    assert not child.learner.has_diverged(SHARD)
    child.hear(AttachReply(SHARD, AttachOutcome.STREAMING, 7), feed(6, 7))
    assert (child.following, child.shard.last_index) == (Following.STREAMING, 7)


def test_a_diverged_shard_serves_nothing_and_takes_nothing_over_any_link() -> None:
    child = Child(ListLog(entries(1, 5)))
    child.attach(AttachOutcome.DIVERGED)
    assert child.learner.has_diverged(SHARD)
    assert [note.what for note in child.ready.notes if note.shard == SHARD] == ["diverged at index 5"]
    child.hear(AttachReply(SHARD, AttachOutcome.STREAMING, 9), feed(6, 7))
    child.learner.disconnected(1)
    child.said.clear()
    child.connect(2)
    child.hear(HELLO, connection=2)
    assert child.said == [ChildHello(US, "us:1", ())]
    assert child.learner.has_diverged(SHARD)
    assert child.shard.last_index == 5


def test_after_a_copy_the_learner_takes_what_follows_it() -> None:
    child = Child(ListLog(entries(1, 5)))
    child.attach(AttachOutcome.COPYING)
    assert child.learner.wants_copy(SHARD)
    assert not child.learner.is_following
    child.shard.log.reset(40, 2)
    child.learner.copy_installed(SHARD)
    child.hear(AttachReply(SHARD, AttachOutcome.STREAMING, 42), feed(41, 42, term=2))
    assert child.shard.last_index == 42
    child.said.clear()
    child.persist()
    assert child.said == [FeedAck(SHARD, 42)]


def test_no_entries_are_asked_for_or_taken_while_a_copy_is_being_installed() -> None:
    child = Child(ListLog(entries(1, 5)))
    child.attach(AttachOutcome.COPYING)
    child.shard.installing = True
    child.hear(feed(6, 7))
    child.learner.disconnected(1)
    child.said.clear()
    child.connect(2)
    child.hear(HELLO, connection=2)
    assert child.said == [ChildHello(US, "us:1", ())]
    assert child.shard.last_index == 5
    child.shard.log.reset(40, 2)
    child.shard.installing = False
    child.learner.copy_installed(SHARD)
    child.turn()
    assert child.said[1:] == [Attach(SHARD, 40, 2, 0, 3)]


def test_a_shard_that_the_parent_does_not_hold_is_asked_for_again_after_a_while() -> None:
    child = Child()
    child.attach(AttachOutcome.UNKNOWN_SHARD)
    asked = len(child.said)
    assert not child.learner.is_following
    child.now_us = SECOND_US - 1
    child.hear(FeedHeartbeat(()))
    child.learner.tick(child.now_us)
    child.turn()
    assert len(child.said) == asked
    assert child.learner.next_deadline_us == SECOND_US
    child.learner.tick(SECOND_US)
    child.turn()
    assert child.said[asked:] == [Attach(SHARD, 0, 0, 0, 3)]


# Silence.


def test_a_parent_that_says_nothing_for_too_long_is_left(child: Child) -> None:
    child.now_us = 600_000
    child.hear(FeedHeartbeat(()))
    assert child.learner.next_deadline_us == 1_600_000
    child.learner.tick(1_599_999)
    assert child.turn().closes == ()
    child.learner.tick(1_600_000)
    assert child.turn().closes == (1,)
    assert child.learner.next_deadline_us is None
    assert child.following is Following.DETACHED


def test_a_parent_that_never_answers_the_hello_is_left() -> None:
    child = Child()
    child.connect()
    child.learner.tick(SECOND_US)
    assert child.turn().closes == (1,)


def test_a_learner_with_nothing_to_say_says_nothing(child: Child) -> None:
    assert child.turn() == LearnerReady()
