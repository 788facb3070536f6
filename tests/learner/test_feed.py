"""Which child a parent feeds, parks, copies to or turns away, told one rule at a time."""

from __future__ import annotations

import pytest

from shardraft.config import Limits
from shardraft.errors import ProtocolError
from shardraft.learner.messages import (
    Attach,
    AttachOutcome,
    AttachReply,
)
from tests.learner.logs import SHARD, ListLog, entries
from tests.learner.parent import ENTRY_BYTES, HELLO, Parent

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
    assert not parent.last.copies_wanted, "a copy is asked for once"
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


def test_a_child_whose_copy_is_ahead_of_its_parent_is_parked_until_the_parent_gets_there() -> None:
    """The parent installs a copy itself: its stored state, of which the child's was made, is there first."""
    parent = Parent(log=ListLog(entries(1, 9)))
    parent.log.compact_to(6)
    parent.attach(9, 3)
    parent.feed.copy_finished(9, SHARD, 12)
    parent.turn()
    assert parent.told(9) == [AttachOutcome.COPYING, AttachOutcome.PARKED]
    parent.commit(14, term=2)
    assert parent.told(9) == [AttachOutcome.COPYING, AttachOutcome.PARKED, AttachOutcome.STREAMING]
    assert parent.given(9) == [13, 14]


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
