"""Raft's rules about commitment, and the log's time, one test per sentence; each names its section."""

from __future__ import annotations

from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.messages import AppendEntries, Heartbeat
from shardraft.raft.ready import HardState, Role
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD


def entry(index: int, term: int) -> Entry:
    return encode_entry(SHARD, index, term, EntryKind.BATCH, index, f"{index}/{term}".encode())


def test_a_leader_commits_only_what_a_majority_has_persisted() -> None:
    """Section 5.3, and PROTOCOL: the leader counts itself only when its own disk is done."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.nodes[1].disk_paused = True
    cluster.isolate(3)
    cluster.propose(1, "x")
    cluster.stabilize()
    assert (cluster.raft(2).log.persisted_index, leader.commit_index) == (2, 1)
    cluster.nodes[1].persist()
    assert leader.commit_index == 2


def test_a_leader_may_commit_before_its_own_disk_when_enough_others_persisted() -> None:
    """Thesis 10.2.1: the leader may even commit an entry before it has been written to its own disk."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.nodes[1].disk_paused = True
    cluster.propose(1, "x")
    cluster.stabilize()
    assert (leader.commit_index, leader.log.persisted_index) == (2, 1)


def test_a_group_of_one_commits_only_after_its_own_sync() -> None:
    """PROTOCOL; etcd #14370 acknowledged before."""
    cluster = Cluster((1,))
    cluster.campaign(1)
    cluster.stabilize()
    cluster.propose(1, "x")
    cluster.nodes[1].take()
    assert cluster.raft(1).commit_index == 1
    cluster.nodes[1].persist()
    assert cluster.raft(1).commit_index == 2


def test_a_new_leader_counts_itself_by_what_was_persisted_before_its_election() -> None:
    """PROTOCOL: a leader's own match_index is its persisted_index, also right after its election."""
    cluster = Cluster()
    node = cluster.nodes[1]
    inherited = tuple(entry(index, 1) for index in (1, 2, 3))
    node.raft.step(AppendEntries(SHARD, 1, 2, 1, 0, 0, 0, inherited), 0)
    node.take()
    cluster.messages.clear()
    node.disk_paused = True
    cluster.isolate(3)
    cluster.campaign(1)
    cluster.stabilize()
    assert (node.raft.role, node.raft.log.persisted_index) == (Role.CANDIDATE, 0)
    node.persist()
    assert (node.raft.role, node.raft.log.persisted_index) == (Role.CANDIDATE, 3)
    node.persist()
    cluster.stabilize()
    assert (node.raft.role, node.raft.log.last_index, node.raft.log.persisted_index) == (Role.LEADER, 4, 3)
    assert cluster.raft(2).log.persisted_index == 4
    assert node.raft.commit_index == 0, "entry 4, the first of its own term, is on one disk only"
    node.persist()
    assert node.raft.commit_index == 4


def test_only_entries_of_the_own_term_are_committed_by_counting() -> None:
    """Section 5.4.2 and Figure 8: entry 2 of term 2 on a majority is not committed by that alone.

    (a) S1 leads term 2 and replicates index 2 to S2 only. (b) S5 leads term 3, unknown to the others.
    (c) S1 leads term 4 and replicates index 2 to S3: it is on a majority. (d) S5 may still overwrite it.
    """
    cluster = Cluster((1, 2, 3, 4, 5))
    for replica, terms in ((1, (1, 2)), (2, (1, 2)), (3, (1,)), (4, (1,)), (5, (1, 3))):
        cluster.prepare(replica, terms, current_term=3)
    cluster.isolate(5)
    leader = cluster.elect_without_stabilizing(1)
    assert (leader.term, cluster.terms(1)) == (4, [1, 2, 4])
    old = leader.log.entries(2, 3, 0)
    cluster.send(AppendEntries(SHARD, 4, 1, 3, 1, 1, 0, old))
    cluster.send(AppendEntries(SHARD, 4, 1, 2, 2, 2, 0))
    cluster.deliver_all()
    for follower in (2, 3):
        cluster.nodes[follower].take()
        while cluster.nodes[follower].pending:
            cluster.nodes[follower].persist()
    cluster.deliver_all()
    assert [cluster.terms(replica) for replica in (1, 2, 3)] == [[1, 2, 4], [1, 2], [1, 2]]
    assert leader.commit_index == 0, "(c): index 2 is on a majority, and not committed"

    cluster.lose(1)
    cluster.heal()
    cluster.isolate(1)
    cluster.campaign(5)
    cluster.stabilize()
    cluster.campaign(5)
    cluster.stabilize()
    assert cluster.raft(5).role is Role.LEADER
    assert cluster.terms(2) == cluster.terms(3) == cluster.terms(5) == [1, 3, 5], "(d): index 2 is overwritten"


def test_an_entry_of_the_own_term_commits_everything_before_it() -> None:
    """Figure 8 (e): once an entry from its term is on a majority, S5 cannot win an election."""
    cluster = Cluster((1, 2, 3, 4, 5))
    for replica, terms in ((1, (1, 2)), (2, (1, 2)), (3, (1,)), (4, (1,)), (5, (1, 3))):
        cluster.prepare(replica, terms, current_term=3)
    cluster.isolate(5)
    leader = cluster.elect(1)
    assert leader.commit_index == 3
    cluster.heal()
    cluster.isolate(1)
    cluster.run(0.5, paused=(1, 2, 3, 4, 5))
    cluster.campaign(5)
    cluster.stabilize()
    assert cluster.raft(5).role is not Role.LEADER


def test_followers_are_told_no_commit_index_beyond_what_they_are_known_to_match() -> None:
    """Heartbeat: a follower whose log ends in another leader's entries must not commit those."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.propose(1, "x")
    cluster.stabilize()
    cluster.now_us = leader.deadline_us
    leader.tick(cluster.now_us)
    beats = {each.to_replica: each for each in leader.take_ready().messages if isinstance(each, Heartbeat)}
    assert (beats[2].commit_index, beats[3].commit_index) == (2, 1)


def test_the_commit_index_is_written_along_with_other_writes_only() -> None:
    """HardState: after a restart it is a lower bound, and it alone is no reason to write."""
    cluster = Cluster()
    cluster.elect(1)
    follower = cluster.nodes[2]
    assert (follower.raft.commit_index, follower.disk.hard_state) == (1, HardState(1, 1, 0))
    cluster.propose(1, "x")
    cluster.stabilize()
    assert (follower.raft.commit_index, follower.disk.hard_state) == (2, HardState(1, 1, 1))
    follower.restart()
    assert follower.raft.commit_index == 1


# The log's time


def test_the_time_in_the_log_never_goes_back_whoever_leads() -> None:
    """Entry: only session expiry uses it, and clocks of two hosts are never compared."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.now_us += 3_000_000
    first = leader.propose(EntryKind.BATCH, b"x", cluster.now_us)
    cluster.stabilize()
    cluster.now_us -= 2_500_000  # Another host's clock may be far behind the former leader's.
    for node in (cluster.nodes[2], cluster.nodes[3]):
        node.restart()
        node.raft.now_us = cluster.now_us
        node.raft.become_follower(1, 0, "its clock is behind")
    cluster.isolate(1)
    second_leader = cluster.elect(2)
    second = second_leader.propose(EntryKind.BATCH, b"y", cluster.now_us + 1000)
    noop = second_leader.log.entries(second.index - 1, second.index, 0)[0]
    assert first.time_us <= noop.time_us < second.time_us
    assert second.time_us == noop.time_us + 1000, "it goes on at the pace of the leader's clock"


def test_a_leader_whose_clock_is_far_ahead_does_not_make_the_logs_time_jump() -> None:
    """Else every session would expire at a change of leader."""
    cluster = Cluster()
    leader = cluster.elect(1)
    first = leader.propose(EntryKind.BATCH, b"x", cluster.now_us)
    cluster.stabilize()
    cluster.isolate(1)
    cluster.now_us += 10**15
    second = cluster.elect(2).log.entries(3, 4, 0)[0]
    assert second.time_us == first.time_us


def test_the_logs_time_survives_compaction_of_the_whole_log() -> None:
    cluster = Cluster((1,))
    cluster.campaign(1)
    cluster.stabilize()
    last = cluster.raft(1).propose(EntryKind.BATCH, b"x", cluster.now_us + 5_000_000)
    cluster.stabilize()
    cluster.raft(1).compact(last.index)
    assert cluster.raft(1).last_time_us() == last.time_us
    cluster.nodes[1].disk.compact_to(last.index)
    cluster.nodes[1].restart()
    assert cluster.raft(1).last_time_us() == last.time_us
