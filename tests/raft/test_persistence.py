"""Nothing is promised before it is persisted, also when several writes are under way at once."""

from __future__ import annotations

import pytest

from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.raft.ready import HardState, LogWrite, Ready, Role
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD


def entry(index: int, term: int) -> Entry:
    return encode_entry(SHARD, index, term, EntryKind.BATCH, index, f"{index}/{term}".encode())


def acknowledgements(ready: Ready) -> list[int]:
    replies = (*ready.messages, *ready.messages_after_persist)
    return [each.match_index for each in replies if isinstance(each, AppendEntriesReply) and each.success]


def test_an_acknowledgement_leaves_with_the_write_it_rests_on() -> None:
    """DESIGN 1: votes, acks and replies leave only after the fsync they rest on."""
    follower = Cluster().raft(2)
    follower.step(AppendEntries(SHARD, 1, 1, 2, 0, 0, 0, (entry(1, 1),)), 0)
    ready = follower.take_ready()
    assert ready.messages == ()
    assert ready.write == LogWrite(SHARD, 0, None, (entry(1, 1),), HardState(1, 0, 0))
    assert ready.messages_after_persist == (AppendEntriesReply(SHARD, 1, 2, 1, True, 1),)


def test_an_acknowledgement_of_what_is_still_being_written_waits_for_it() -> None:
    """A message that arrives twice: the second ready writes nothing, and still may not acknowledge."""
    follower = Cluster().raft(2)
    message = AppendEntries(SHARD, 1, 1, 2, 0, 0, 0, (entry(1, 1),))
    follower.step(message, 0)
    first = follower.take_ready()
    follower.step(message, 0)
    assert follower.take_ready() == Ready()
    assert first.write is not None
    follower.persisted(first.write)
    assert follower.has_ready
    assert acknowledgements(follower.take_ready()) == [1]


def test_a_held_message_waits_for_every_write_before_it_and_for_no_later_one() -> None:
    follower = Cluster().raft(2)
    writes = []
    for index in (1, 2):
        message = AppendEntries(SHARD, 1, 1, 2, index - 1, int(index > 1), 0, (entry(index, 1),))
        follower.step(message, 0)
        writes.append(follower.take_ready().write)
    follower.step(message, 0)
    assert follower.take_ready() == Ready()
    follower.step(AppendEntries(SHARD, 1, 1, 2, 2, 1, 0, (entry(3, 1),)), 0)
    writes.append(follower.take_ready().write)
    released = []
    for write in writes:
        assert write is not None
        follower.persisted(write)
        released.append(acknowledgements(follower.take_ready()))
    assert released == [[], [2], []]


def test_an_acknowledgement_is_fixed_when_the_turn_begins_with_the_term_that_accepted_it() -> None:
    """PROTOCOL: a later term, or a truncation, does not change what is acknowledged and to whom."""
    cluster = Cluster()
    node = cluster.nodes[2]
    node.raft.step(AppendEntries(SHARD, 1, 1, 2, 0, 0, 0, (entry(1, 1), entry(2, 1))), 0)
    first = node.take()
    node.raft.step(AppendEntries(SHARD, 2, 3, 2, 1, 1, 0, (entry(2, 2),)), 0)
    second = node.take()
    assert first.messages_after_persist == (AppendEntriesReply(SHARD, 1, 2, 1, True, 2),)
    assert second.messages_after_persist == (AppendEntriesReply(SHARD, 2, 2, 3, True, 2),)


def test_a_late_completion_does_not_make_a_new_entry_look_persisted() -> None:
    """PROTOCOL, generations; etcd-io/raft's append ABA race.

    Entry 2 of term 1 is being written when entry 2 of term 2 replaces it. The first write finishes:
    that says nothing about the second.
    """
    cluster = Cluster()
    node = cluster.nodes[2]
    node.disk_paused = True
    node.raft.step(AppendEntries(SHARD, 1, 1, 2, 0, 0, 0, (entry(1, 1), entry(2, 1))), 0)
    node.take()
    node.raft.step(AppendEntries(SHARD, 2, 3, 2, 1, 1, 0, (entry(2, 2),)), 0)
    node.take()
    assert (node.raft.log.generation, node.raft.log.persisted_index) == (1, 0)
    node.persist()
    assert node.raft.log.persisted_index == 1
    node.persist()
    assert node.raft.log.persisted_index == 2


def test_a_deposed_leaders_own_writes_do_not_count_for_what_replaced_them() -> None:
    """The same race on a leader that is deposed while its disk is slow."""
    cluster = Cluster()
    cluster.elect(1)
    node = cluster.nodes[1]
    node.disk_paused = True
    cluster.isolate(1)
    for text in ("a", "b", "c"):
        cluster.propose(1, text)
    node.take()
    cluster.messages.clear()
    cluster.elect(2)
    cluster.heal()
    cluster.raft(2).peer_connected(1, cluster.now_us)
    cluster.stabilize()
    assert cluster.terms(1) == [1, 2]
    node.persist()
    assert (node.raft.log.persisted_index, node.disk.last_index) == (1, 4), "2 of term 2 is not on this disk yet"
    while node.pending:
        node.persist()
    assert (node.raft.log.persisted_index, node.disk.last_index) == (2, 2)


def test_a_heartbeat_is_answered_at_once_when_the_term_is_durable_whatever_the_disk_does() -> None:
    """PROTOCOL: a hung write must not look like a dead follower."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.nodes[2].disk_paused = True
    follower = cluster.raft(2)
    follower.step(AppendEntries(SHARD, 1, 1, 2, 1, 1, 1, (entry(2, 1),)), cluster.now_us)
    follower.take_ready()
    follower.step(Heartbeat(SHARD, 1, 1, 2, 1, 5), cluster.now_us)
    assert follower.take_ready() == Ready(messages=(HeartbeatReply(SHARD, 1, 2, 1, 5),))


def test_a_heartbeat_of_a_term_that_is_not_durable_is_answered_after_the_write() -> None:
    """PROTOCOL: replies likewise."""
    follower = Cluster().raft(2)
    follower.step(Heartbeat(SHARD, 3, 1, 2, 0, 1), 0)
    ready = follower.take_ready()
    assert ready.messages == ()
    assert ready.messages_after_persist == (HeartbeatReply(SHARD, 3, 2, 1, 1),)
    follower.step(Heartbeat(SHARD, 3, 1, 2, 0, 2), 0)
    assert follower.take_ready() == Ready(), "the term is still being written"
    assert ready.write is not None
    follower.persisted(ready.write)
    assert follower.take_ready().messages == (HeartbeatReply(SHARD, 3, 2, 1, 2),)


def test_a_vote_that_is_asked_for_twice_waits_for_the_same_write() -> None:
    voter = Cluster().raft(2)
    request = RequestVote(SHARD, 1, 1, 2, 0, 0)
    voter.step(request, 0)
    write = voter.take_ready().write
    voter.step(request, 0)
    assert voter.take_ready() == Ready()
    assert write is not None
    voter.persisted(write)
    assert voter.take_ready().messages == (RequestVoteReply(SHARD, 1, 2, 1, True),)


def test_what_was_not_persisted_is_gone_after_a_crash_and_comes_again() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.nodes[3].disk_paused = True
    cluster.propose(1, "x")
    cluster.stabilize()
    assert cluster.raft(3).log.last_index == 2
    cluster.nodes[3].restart()
    cluster.nodes[3].disk_paused = False
    assert cluster.raft(3).log.last_index == 1
    cluster.heartbeat(1)
    assert cluster.nodes[3].disk.last_index == 2


def test_a_leader_whose_write_hangs_for_an_election_timeout_steps_down() -> None:
    """PROTOCOL: a host whose disk stalls neither leads nor campaigns (hashicorp/raft#503)."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.nodes[1].disk_paused = True
    cluster.propose(1, "x")
    cluster.run(0.9)
    assert cluster.leaders() == [1]
    cluster.run(0.2)
    assert cluster.raft(1).role is not Role.LEADER
    cluster.run(3)
    assert cluster.leaders() != []
    assert cluster.raft(1).role is Role.FOLLOWER


def test_a_follower_whose_write_hangs_does_not_campaign() -> None:
    cluster = Cluster()
    cluster.elect(1)
    node = cluster.nodes[2]
    node.disk_paused = True
    cluster.propose(1, "x")
    cluster.stabilize()
    cluster.isolate(2)
    cluster.run(5)
    cluster.raft(2).step(TimeoutNow(SHARD, 1, 1, 2), cluster.now_us)
    assert (node.raft.role, node.raft.term) == (Role.FOLLOWER, 1)
    while node.pending:
        node.persist()
    cluster.run(2)
    assert node.raft.role is Role.PRE_CANDIDATE


def test_reporting_a_write_that_was_never_taken_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="never taken"):
        Cluster().raft(1).persisted(LogWrite(SHARD, 0))


def test_a_term_learned_from_a_snapshot_only_is_adopted_and_written() -> None:
    """PROTOCOL: state first, then the log; a crash in between may leave an older hard state behind."""
    cluster = Cluster()
    node = cluster.nodes[1]
    node.disk.reset(10, 5, 0)
    node.disk.hard_state = HardState(4, 2, 3)
    node.restart()
    assert (node.raft.term, node.raft.voted_for, node.raft.commit_index) == (5, 0, 10)
    ready = node.take()
    assert ready.write is not None
    assert ready.write.hard_state == HardState(5, 0, 10)
