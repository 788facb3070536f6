"""A learner whose parent does not hold a shard turns to another (decision 0018)."""

from __future__ import annotations

import attrs

from shardraft.config import Limits
from shardraft.learner.messages import AttachOutcome, AttachReply, FeedHeartbeat
from shardraft.learner.ready import LearnerReady
from shardraft.shards.shard_map import HostPlace
from tests.learner.logs import SHARD, ListShard
from tests.learner.test_learner import HELLO, SECOND_US, SHARD_MAP, Child

LACKS_US = Limits().parent_lacks_ms_max * 1000


def tick(child: Child, now_us: int) -> LearnerReady:
    child.now_us = now_us
    child.hear(FeedHeartbeat(()))
    child.learner.tick(now_us)
    return child.turn()


def test_a_parent_that_does_not_hold_a_shard_is_left_for_another() -> None:
    child = Child()
    child.attach(AttachOutcome.UNKNOWN_SHARD)
    tick(child, SECOND_US)
    assert child.learner.next_deadline_us == LACKS_US
    assert tick(child, LACKS_US - 1).closes == ()
    assert tick(child, LACKS_US).closes == (1,)
    assert [note.what for note in child.ready.notes] == ["link closed: the parent holds no replica of shard 1"]


def test_a_parent_that_gets_the_shard_in_time_is_kept() -> None:
    child = Child()
    child.attach(AttachOutcome.UNKNOWN_SHARD)
    tick(child, SECOND_US)
    child.hear(AttachReply(SHARD, AttachOutcome.STREAMING, 0))
    assert tick(child, LACKS_US).closes == ()
    assert child.learner.is_following


def test_a_parent_that_loses_a_shard_later_is_left() -> None:
    child = Child()
    child.attach()
    child.now_us = 5 * SECOND_US
    child.hear(AttachReply(SHARD, AttachOutcome.UNKNOWN_SHARD, 0))
    assert tick(child, 5 * SECOND_US + LACKS_US).closes == (1,)


def test_a_parent_that_lacks_a_shard_is_kept_where_there_is_no_other() -> None:
    child = Child(shard_map=None)
    child.connect()
    child.hear(attrs.evolve(HELLO, shard_map=None), AttachReply(SHARD, AttachOutcome.UNKNOWN_SHARD, 0))
    assert tick(child, LACKS_US).closes == ()
    child.hear(HELLO)
    assert tick(child, 2 * LACKS_US).closes == (1,), "now it knows of one"


def test_a_parent_that_lacks_a_shard_is_kept_until_its_copy_of_another_is_done() -> None:
    child = Child()
    other = ListShard(shard=2)
    child.learner.add_shard(other)
    child.attach(AttachOutcome.UNKNOWN_SHARD)
    child.hear(AttachReply(2, AttachOutcome.COPYING, 9))
    assert tick(child, LACKS_US).closes == ()
    child.hear(AttachReply(2, AttachOutcome.STREAMING, 9))
    assert tick(child, 2 * LACKS_US).closes == (1,)


def test_hosts_that_come_and_go_within_an_epoch_are_heard_of() -> None:
    child = Child()
    child.attach()
    hosts = (*SHARD_MAP.hosts, HostPlace(4, "four:1"))
    told = attrs.evolve(SHARD_MAP, hosts=hosts)
    child.learner.received(1, attrs.evolve(HELLO, shard_map=told), child.now_us)
    assert child.turn().shard_map == told
    assert child.learner.hello is not None
    assert child.learner.hello.shard_map == told, "its own children hear of them, too"
    child.learner.parents.lacks_shard()
    child.learner.parents.endpoint = "one:1"
    child.learner.parents.turn_to_next(0)
    assert child.learner.parents.endpoint == "four:1"
    older = attrs.evolve(SHARD_MAP, epoch=2)
    child.learner.received(1, attrs.evolve(HELLO, shard_map=older), child.now_us)
    assert child.turn().shard_map is None
