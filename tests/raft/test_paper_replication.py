"""Raft's rules about the log, replication and commitment, one test per sentence; each names its section."""

from __future__ import annotations

import pytest

from shardraft.config import RaftConfig
from shardraft.errors import NotLeader, Overloaded
from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply, RaftMessage
from shardraft.raft.progress import ProgressState
from shardraft.raft.ready import Truncated
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD


def entry(index: int, term: int) -> Entry:
    return encode_entry(SHARD, index, term, EntryKind.BATCH, index, f"{index}/{term}".encode())


def appends(messages: tuple[RaftMessage, ...], receiver: int) -> list[AppendEntries]:
    return [each for each in messages if isinstance(each, AppendEntries) and each.to_replica == receiver]


def test_a_leader_opens_its_term_with_an_empty_entry() -> None:
    """Section 8: a leader commits a blank no-op entry into the log at the start of its term."""
    cluster = Cluster()
    leader = cluster.elect(1)
    (noop,) = leader.log.entries(1, 2, 0)
    assert (noop.kind, noop.term, noop.payload, leader.commit_index) == (EntryKind.NOOP, 1, b"", 1)


def test_an_entry_is_appended_sent_in_parallel_committed_and_the_commit_is_pushed_at_once() -> None:
    """Section 5.3, and PROTOCOL: commit advances are pushed at once, not at the next heartbeat."""
    cluster = Cluster()
    leader = cluster.elect(1)
    appended = cluster.propose(1, "x")
    assert (appended.index, appended.term, appended.payload) == (2, 1, b"x")
    cluster.stabilize()
    assert [node.raft.commit_index for node in cluster.nodes.values()] == [2, 2, 2]
    assert leader.log.entries(2, 3, 0) == (appended,)


def test_proposals_of_one_turn_leave_in_one_message_per_follower_and_one_write() -> None:
    """DESIGN 1, turns: cost per operation falls as load rises."""
    cluster = Cluster()
    leader = cluster.elect(1)
    proposed = tuple(cluster.propose(1, text) for text in ("x", "y", "z"))
    ready = leader.take_ready()
    assert ready.messages == (
        AppendEntries(SHARD, 1, 1, 2, 1, 1, 1, proposed),
        AppendEntries(SHARD, 1, 1, 3, 1, 1, 1, proposed),
    )
    assert ready.write is not None
    assert (ready.write.entries, ready.messages_after_persist) == (proposed, ())


def test_entries_are_sent_before_earlier_ones_are_answered() -> None:
    """Thesis 10.2.1: the leader pipelines, next_index advances when entries are sent."""
    cluster = Cluster()
    leader = cluster.elect(1)
    first = cluster.propose(1, "x")
    (one,) = appends(leader.take_ready().messages, 2)
    second = cluster.propose(1, "y")
    (two,) = appends(leader.take_ready().messages, 2)
    assert (one.entries, two.entries, two.prev_log_index) == ((first,), (second,), 2)


def test_messages_in_flight_are_bounded_by_count() -> None:
    """``in_flight_messages_max``: at the limit replication to a follower pauses until it answers."""
    cluster = Cluster(config=RaftConfig(in_flight_messages_max=2))
    leader = cluster.elect(1)
    sent = []
    for text in ("a", "b", "c", "d"):
        cluster.propose(1, text)
        sent += appends(leader.take_ready().messages, 2)
    assert [message.entries[-1].index for message in sent] == [2, 3]
    leader.step(AppendEntriesReply(SHARD, 1, 2, 1, True, 2), cluster.now_us)
    (resumed,) = appends(leader.take_ready().messages, 2)
    assert [each.index for each in resumed.entries] == [4, 5]


def test_messages_in_flight_are_bounded_by_bytes() -> None:
    """``in_flight_bytes_max``, in entry bytes."""
    cluster = Cluster(config=RaftConfig(in_flight_bytes_max=1000))
    leader = cluster.elect(1)
    sent = []
    for text in ("a" * 700, "b" * 700, "c"):
        cluster.propose(1, text)
        sent += appends(leader.take_ready().messages, 3)
    assert [message.entries[-1].index for message in sent] == [2, 3]


def test_one_message_carries_a_bounded_number_of_entries_and_bytes_and_the_rest_follows() -> None:
    """``append_entries_max``, ``append_bytes_max``; a single larger entry goes alone."""
    cluster = Cluster(config=RaftConfig(append_entries_max=3, append_bytes_max=1000))
    leader = cluster.elect(1)
    for text in ("a", "b", "c", "d", "e" * 900, "f" * 5000, "g"):
        cluster.propose(1, text)
    sent = []
    while leader.has_ready:
        sent += [[each.index for each in message.entries] for message in appends(leader.take_ready().messages, 2)]
    assert sent == [[2, 3, 4], [5, 6], [7], [8]]


def test_a_follower_refuses_entries_that_do_not_follow_a_matching_one() -> None:
    """Section 5.3: if it does not find an entry with the same index and term, it refuses the new entries.

    End of 5.3: the refusal names the last index whose term is not above the leader's, and its term.
    """
    cluster = Cluster()
    cluster.prepare(2, (1, 1, 2, 2, 2), current_term=5)
    follower = cluster.raft(2)
    follower.step(AppendEntries(SHARD, 5, 1, 2, 9, 4, 0, (entry(10, 5),)), 0)
    follower.step(AppendEntries(SHARD, 5, 1, 2, 4, 1, 0, (entry(5, 5),)), 0)
    beyond, conflicting = follower.take_ready().messages
    assert beyond == AppendEntriesReply(SHARD, 5, 2, 1, False, 9, 5, 2)
    assert conflicting == AppendEntriesReply(SHARD, 5, 2, 1, False, 4, 2, 1)
    assert cluster.terms(2) == [1, 1, 2, 2, 2]


def test_an_existing_entry_that_conflicts_is_deleted_with_all_that_follow_it() -> None:
    """Figure 2, AppendEntries step 3."""
    cluster = Cluster()
    cluster.prepare(2, (1, 1, 2, 2), current_term=3)
    node = cluster.nodes[2]
    node.raft.step(AppendEntries(SHARD, 3, 1, 2, 1, 1, 0, (entry(2, 1), entry(3, 3))), 0)
    ready = node.take()
    assert ready.write is not None
    assert (ready.write.truncate_from, ready.write.entries) == (3, (entry(3, 3),))
    assert Truncated(SHARD, 3, 3) in ready.notes
    assert ready.messages_after_persist == (AppendEntriesReply(SHARD, 3, 2, 1, True, 3),)
    node.persist()
    assert [each.term for each in node.disk.entries] == [1, 1, 3]


def test_entries_that_are_held_already_change_nothing_whatever_follows_them() -> None:
    """Figure 2, AppendEntries steps 3 and 4: a message that was overtaken must not delete later entries."""
    cluster = Cluster()
    cluster.prepare(2, (1, 1, 2, 2), current_term=2)
    follower = cluster.raft(2)
    follower.step(AppendEntries(SHARD, 2, 1, 2, 1, 1, 0, (entry(2, 1), entry(3, 2))), 0)
    ready = follower.take_ready()
    assert (ready.write, cluster.terms(2)) == (None, [1, 1, 2, 2])
    assert ready.messages == (AppendEntriesReply(SHARD, 2, 2, 1, True, 3),)


def test_the_commit_index_follows_the_leader_but_not_past_the_last_new_entry() -> None:
    """Figure 2, AppendEntries step 5: what lies behind it here may be an overwritten tail."""
    cluster = Cluster()
    cluster.prepare(2, (1, 1, 1, 1), current_term=2)
    follower = cluster.raft(2)
    follower.step(AppendEntries(SHARD, 2, 1, 2, 1, 1, 4, (entry(2, 1),)), 0)
    assert follower.commit_index == 2


def test_the_commit_index_never_goes_back() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.propose(1, "x")
    cluster.stabilize()
    follower = cluster.raft(2)
    follower.step(AppendEntries(SHARD, 1, 1, 2, 1, 1, 1), cluster.now_us)
    follower.step(Heartbeat(SHARD, 1, 1, 2, 0, 1), cluster.now_us)
    assert follower.commit_index == 2


def test_a_message_of_a_deposed_leader_is_refused_with_the_later_term() -> None:
    """Section 5.1: a server that receives a request with a stale term number rejects it."""
    cluster = Cluster()
    cluster.prepare(2, (1,), current_term=4)
    follower = cluster.raft(2)
    follower.step(AppendEntries(SHARD, 3, 1, 2, 1, 1, 1), 0)
    follower.step(Heartbeat(SHARD, 3, 1, 2, 1, 7), 0)
    heartbeat_answer, refusal = follower.take_ready().messages
    assert refusal == AppendEntriesReply(SHARD, 4, 2, 1, False, 1)
    assert heartbeat_answer == HeartbeatReply(SHARD, 4, 2, 1, 0), "no round of its own term is acknowledged"
    assert (follower.leader, follower.commit_index) == (0, 0)


def test_whole_terms_are_skipped_when_logs_disagree() -> None:
    """End of section 5.3: one refusal per conflicting term rather than one per entry."""
    cluster = Cluster((1, 2))
    cluster.prepare(1, (1, *(3,) * 40), current_term=4)
    cluster.prepare(2, (1, *(2,) * 60), current_term=4)
    cluster.elect(1)
    refusals = [what for _, what in cluster.trace if isinstance(what, AppendEntriesReply) and not what.success]
    assert len(refusals) == 1
    assert cluster.terms(2) == cluster.terms(1)


def test_a_lost_message_is_noticed_by_the_refusal_of_the_next() -> None:
    """Thesis 10.2.1: when it does not fit, the leader reverts next_index and sends again."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.propose(1, "lost")
    cluster.lose(1)
    cluster.propose(1, "next")
    cluster.stabilize()
    assert [node.raft.log.last_index for node in cluster.nodes.values()] == [3, 3, 3]


def test_a_lost_last_message_is_noticed_at_the_next_heartbeats() -> None:
    """Section 5.3: the leader retries AppendEntries indefinitely; the last one has no successor to be refused."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.propose(1, "lost")
    cluster.lose(1)
    cluster.heartbeat(1)
    assert [node.raft.commit_index for node in cluster.nodes.values()] == [2, 2, 2]


def test_a_follower_that_restarts_is_found_by_the_heartbeat() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(3)
    for text in "abcdefgh":
        cluster.propose(1, text)
        cluster.stabilize()
    cluster.nodes[3].restart()
    cluster.heal()
    cluster.heartbeat(1)
    assert cluster.raft(3).commit_index == 9


def test_a_closed_connection_makes_the_leader_probe_from_what_is_known_to_match() -> None:
    """What was in flight on a closed connection is lost; waiting for a refusal would cost a heartbeat."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.propose(1, "lost")
    cluster.lose(1)
    leader.peer_disconnected(3, cluster.now_us)
    assert leader.leading is not None
    assert leader.leading.progress[3].state is ProgressState.PROBE
    cluster.propose(1, "later")
    assert appends(leader.take_ready().messages, 3) == [], "a dead host is not flooded"
    leader.peer_connected(3, cluster.now_us)
    (probe,) = appends(leader.take_ready().messages, 3)
    assert [each.index for each in probe.entries] == [2, 3]


def test_a_proposal_elsewhere_names_the_leader() -> None:
    cluster = Cluster()
    with pytest.raises(NotLeader) as nobody:
        cluster.propose(2, "x")
    assert (nobody.value.leader, nobody.value.applied, nobody.value.shard) == (0, "no", SHARD)
    cluster.elect(1)
    with pytest.raises(NotLeader) as known:
        cluster.propose(2, "x")
    assert known.value.leader == 1


def test_uncommitted_bytes_are_bounded() -> None:
    """``uncommitted_bytes_max``: above it proposals are refused as Overloaded, and accepted again once committed."""
    cluster = Cluster(config=RaftConfig(uncommitted_bytes_max=1000))
    leader = cluster.elect(1)
    cluster.propose(1, "x" * 5000)
    with pytest.raises(Overloaded):
        cluster.propose(1, "y")
    assert leader.log.last_index == 2
    cluster.stabilize()
    cluster.propose(1, "y" * 500)
    with pytest.raises(Overloaded):
        cluster.propose(1, "z" * 500)


def test_a_new_leader_counts_the_uncommitted_entries_it_inherits() -> None:
    cluster = Cluster(config=RaftConfig(uncommitted_bytes_max=100))
    cluster.prepare(1, (1, 1, 1), current_term=1)
    cluster.prepare(2, (1, 1, 1), current_term=1)
    cluster.elect_without_stabilizing(1)
    with pytest.raises(Overloaded):
        cluster.propose(1, "x")
    cluster.heartbeat(1)
    cluster.propose(1, "x")
