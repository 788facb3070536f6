"""What no correct replica sends is refused and noted: no crash, no change of term, no effect."""

from __future__ import annotations

import pytest

from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    RaftMessage,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    TimeoutNow,
)
from shardraft.raft.ready import Ready, Refused, Role
from shardraft.types import TERM_MAX
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD

TOO_LATE = TERM_MAX + 1


def entry(index: int, term: int) -> Entry:
    return encode_entry(SHARD, index, term, EntryKind.BATCH, index, b"")


def follower() -> Cluster:
    """2 follows 1 in term 1; entries 1 and 2 are committed, 3 is not."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.propose(1, "x")
    cluster.stabilize()
    cluster.nodes[1].disk_paused = True
    cluster.isolate(3)
    cluster.propose(1, "y")
    cluster.stabilize()
    raft = cluster.raft(2)
    assert (raft.commit_index, raft.log.last_index, raft.has_ready) == (2, 3, False)
    return cluster


def leader() -> Cluster:
    cluster = Cluster()
    cluster.elect(1)
    return cluster


def check_refused(cluster: Cluster, replica: int, message: RaftMessage) -> None:
    raft = cluster.raft(replica)

    def state() -> tuple[object, ...]:
        log = raft.log
        role = (raft.role, raft.term, raft.voted_for, raft.leader, raft.deadline_us)
        return (*role, raft.commit_index, log.last_index, log.last_term, log.generation)

    before = state()
    raft.step(message, cluster.now_us)
    assert state() == before
    ready = raft.take_ready()
    assert ready == Ready(notes=ready.notes)
    (note,) = ready.notes
    assert isinstance(note, Refused)
    assert note.reason


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(AppendEntries(SHARD, TOO_LATE, 1, 2, 3, 1, 0), id="a term above the limit"),
        pytest.param(AppendEntries(SHARD, -1, 1, 2, 3, 1, 0), id="a negative term"),
        pytest.param(RequestVote(SHARD, 2**64 - 1, 3, 2, 9, 9, True), id="a vote in the last term there is"),
        pytest.param(RequestPreVote(SHARD, TOO_LATE, 3, 2, 9, 9), id="a question about a term above the limit"),
        pytest.param(RequestVote(SHARD, 9, 3, 2, TOO_LATE, 8, True), id="a log that ends above the limit"),
        pytest.param(RequestVote(SHARD, 9, 3, 2, 9, 9, True), id="a log that ends in the term being voted for"),
        pytest.param(AppendEntries(SHARD, 1, 1, 2, TOO_LATE, 1, 0), id="an index above the limit"),
        pytest.param(AppendEntries(SHARD, 1, 1, 2, -1, 0, 0), id="a negative index"),
        pytest.param(AppendEntries(SHARD, 1, 1, 2, 3, 2, 0), id="a previous term above the leader's"),
        pytest.param(AppendEntries(SHARD, 1, 1, 2, 0, 1, 0), id="a term before the first entry"),
        pytest.param(AppendEntries(SHARD, 1, 1, 2, 3, 1, TOO_LATE), id="a commit index above the limit"),
        pytest.param(AppendEntries(SHARD, 1, 1, 2, 3, 1, 0, (entry(5, 1),)), id="a gap before the entries"),
        pytest.param(AppendEntries(SHARD, 1, 1, 2, 3, 1, 0, (entry(4, 1), entry(6, 1))), id="a gap in the entries"),
        pytest.param(AppendEntries(SHARD, 1, 1, 2, 3, 1, 0, (entry(4, 2),)), id="an entry of a later term"),
        pytest.param(AppendEntries(SHARD, 5, 1, 2, 3, 1, 0, (entry(4, 3), entry(5, 2))), id="terms that fall"),
        pytest.param(AppendEntries(SHARD, 1, 3, 2, 3, 1, 0), id="another leader in the same term"),
        pytest.param(Heartbeat(SHARD, 1, 3, 2, 0, 1), id="another leader's round in the same term"),
        pytest.param(TimeoutNow(SHARD, 1, 3, 2), id="another leader's transfer in the same term"),
        pytest.param(Heartbeat(SHARD, 1, 1, 2, TOO_LATE, 1), id="a heartbeat's commit index above the limit"),
        pytest.param(AppendEntries(SHARD, 1, 1, 3, 3, 1, 0), id="another replica's message"),
        pytest.param(AppendEntries(SHARD + 1, 1, 1, 2, 3, 1, 0), id="another shard's message"),
        pytest.param(AppendEntries(SHARD, 1, 2, 2, 3, 1, 0), id="a message from oneself"),
        pytest.param(AppendEntries(SHARD, 1, 0, 2, 3, 1, 0), id="a message from nobody"),
    ],
)
def test_a_follower_refuses(message: RaftMessage) -> None:
    check_refused(follower(), 2, message)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(AppendEntriesReply(SHARD, 1, 2, 1, True, 2), id="an acknowledgement of what was never sent"),
        pytest.param(AppendEntriesReply(SHARD, 1, 2, 1, True, TOO_LATE), id="one above the limit"),
        pytest.param(AppendEntriesReply(SHARD, 1, 2, 1, False, 1, TOO_LATE, 1), id="a conflict above the limit"),
        pytest.param(AppendEntriesReply(SHARD, 1, 2, 1, False, 1, 1, TOO_LATE), id="a conflicting term above it"),
        pytest.param(HeartbeatReply(SHARD, 1, 2, 1, 1), id="a round that was never sent"),
        pytest.param(HeartbeatReply(SHARD, 1, 2, 1, -1), id="a negative round"),
        pytest.param(HeartbeatReply(SHARD, TOO_LATE, 2, 1, 1), id="a term above the limit"),
        pytest.param(RequestPreVoteReply(SHARD, TOO_LATE, 2, 1, False), id="a refusal in a term above the limit"),
    ],
)
def test_a_leader_refuses(message: RaftMessage) -> None:
    check_refused(leader(), 1, message)


def test_a_follower_refuses_to_overwrite_what_is_committed() -> None:
    """Section 5.4.3: no leader lacks a committed entry. Nothing is truncated, and nothing acknowledged."""
    cluster = follower()
    raft = cluster.raft(2)
    cluster.now_us += 1_000_000
    raft.step(AppendEntries(SHARD, 2, 3, 2, 1, 1, 0, (entry(2, 2), entry(3, 2))), cluster.now_us)
    ready = raft.take_ready()
    assert [note.reason for note in ready.notes if isinstance(note, Refused)] == [
        "replica 3 would overwrite committed entry 2"
    ]
    assert (ready.messages, ready.messages_after_persist) == ((), ())
    assert cluster.terms(2) == [1, 1, 1]


def test_a_follower_refuses_a_leader_that_disagrees_about_what_is_committed() -> None:
    cluster = Cluster()
    cluster.prepare(2, (1, 2, 2), current_term=2)
    raft = cluster.raft(2)
    raft.step(AppendEntries(SHARD, 3, 3, 2, 3, 2, 2), 0)
    raft.step(AppendEntries(SHARD, 3, 3, 2, 2, 1, 3, (entry(3, 3),)), 0)
    ready = raft.take_ready()
    assert [note.reason for note in ready.notes if isinstance(note, Refused)] == [
        "replica 3 disagrees about committed entry 2"
    ]
    assert cluster.terms(2) == [1, 2, 2]


def test_a_follower_refuses_a_leader_that_disagrees_about_the_last_compacted_entry() -> None:
    """Its term is all that is left of it; what follows must continue from there."""
    cluster = Cluster()
    cluster.prepare(2, (1, 2, 2), current_term=2)
    raft = cluster.raft(2)
    raft.step(AppendEntries(SHARD, 3, 3, 2, 3, 2, 3), 0)
    raft.compact(3)
    raft.step(AppendEntries(SHARD, 3, 3, 2, 1, 1, 3, (entry(2, 1), entry(3, 1), entry(4, 1))), 0)
    ready = raft.take_ready()
    assert [note.reason for note in ready.notes if isinstance(note, Refused)] == [
        "replica 3 disagrees about committed entry 3"
    ]
    assert (raft.log.last_index, raft.log.last_term) == (3, 2)


def test_entries_below_the_start_of_the_log_are_acknowledged_as_committed() -> None:
    """A late message about compacted entries: they are committed, so they match."""
    cluster = Cluster()
    cluster.elect(1)
    for text in "abc":
        cluster.propose(1, text)
    cluster.stabilize()
    sent = cluster.raft(1).log.entries(2, 5, 1 << 20)
    cluster.raft(2).compact(3)
    cluster.raft(2).step(AppendEntries(SHARD, 1, 1, 2, 1, 1, 4, sent), cluster.now_us)
    assert cluster.raft(2).take_ready().messages == (AppendEntriesReply(SHARD, 1, 2, 1, True, 4),)
    cluster.raft(2).step(AppendEntries(SHARD, 1, 1, 2, 1, 1, 4, sent[:1]), cluster.now_us)
    assert cluster.raft(2).take_ready().messages == (AppendEntriesReply(SHARD, 1, 2, 1, True, 4),)
    assert cluster.refusals(2) == []


def test_answers_of_replicas_outside_the_configuration_are_not_counted() -> None:
    """A removed replica may answer late; that is no fault of it."""
    cluster = leader()
    raft = cluster.raft(1)
    cluster.propose(1, "x")
    cluster.nodes[1].take()
    raft.step(AppendEntriesReply(SHARD, 1, 9, 1, True, 2), cluster.now_us)
    raft.step(HeartbeatReply(SHARD, 1, 9, 1, 0), cluster.now_us)
    assert (raft.commit_index, raft.role, raft.take_ready()) == (1, Role.LEADER, Ready())
