"""Compaction, and the snapshot a follower needs when its next entry is gone (section 7)."""

from __future__ import annotations

import pytest

from shardraft.raft.core import Raft
from shardraft.raft.messages import AppendEntries, AppendEntriesReply
from shardraft.raft.ready import Refused, Role
from shardraft.types import TERM_MAX
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD, Copy


def cluster_with_a_follower_behind(*, terms: int = 4) -> Cluster:
    """3 holds entry 1; 1 leads, committed to 1 + ``terms``, and compacted all of it."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    for number in range(terms):
        cluster.propose(1, str(number))
    cluster.stabilize()
    leader.compact(leader.commit_index)
    cluster.nodes[1].disk.compact_to(leader.commit_index)
    cluster.heal()
    return cluster


def wish(cluster: Cluster) -> Raft:
    """Let the leader find out that 3 needs a snapshot, and keep it from being sent."""
    leader = cluster.raft(1)
    cluster.now_us = leader.deadline_us
    leader.tick(cluster.now_us)
    for _ in range(5):
        for node in cluster.nodes.values():
            node.take()
            while node.pending:
                node.persist()
        cluster.deliver_all()
    return leader


def test_only_committed_entries_are_compacted() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    with pytest.raises(AssertionError, match="only committed"):
        leader.compact(2)


def test_a_follower_whose_next_entry_is_compacted_is_named_once() -> None:
    cluster = cluster_with_a_follower_behind()
    leader = wish(cluster)
    assert cluster.nodes[1].copies_wanted == [3]
    cluster.propose(1, "x")
    cluster.nodes[1].take()
    assert cluster.nodes[1].copies_wanted == [3]
    assert leader.role is Role.LEADER


def test_after_a_snapshot_replication_goes_on_from_its_index() -> None:
    cluster = cluster_with_a_follower_behind()
    cluster.heartbeat(1)
    follower = cluster.raft(3)
    assert (follower.commit_index, follower.log.first_index, follower.log.last_index) == (5, 6, 5)
    cluster.propose(1, "x")
    cluster.stabilize()
    assert follower.commit_index == 6


def test_a_failed_snapshot_is_wanted_again_after_a_sign_of_life() -> None:
    cluster = cluster_with_a_follower_behind()
    leader = wish(cluster)
    cluster.nodes[1].copies_wanted.clear()
    leader.copy_finished(3, None)
    cluster.stabilize()
    assert cluster.nodes[1].copies_wanted == []
    cluster.heartbeat(1)
    assert cluster.raft(3).commit_index == 5


def test_a_follower_that_needs_no_snapshot_and_refuses_it_is_found_out() -> None:
    """A new leader whose connection closes before anybody has answered knows of nothing that matches."""
    cluster = Cluster()
    cluster.elect(1)
    for number in range(4):
        cluster.propose(1, str(number))
    cluster.stabilize()
    cluster.heartbeat(1)
    cluster.isolate(1)
    leader = cluster.elect_without_stabilizing(2)
    leader.compact(leader.commit_index)
    node = cluster.nodes[2]
    node.disk.compact_to(leader.commit_index)
    leader.peer_disconnected(3, cluster.now_us)
    leader.peer_connected(3, cluster.now_us)
    node.take()
    assert node.copies_wanted == [3]
    node.copies_wanted.clear()
    leader.copy_finished(3, None)
    cluster.heartbeat(2)
    assert leader.leading is not None
    assert leader.leading.progress[3].match_index == leader.log.last_index == 6


def test_the_end_of_a_snapshot_that_nobody_waits_for_changes_nothing() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    for replica in (2, 9):
        leader.copy_finished(replica, 7)
    cluster.raft(2).copy_finished(3, 7)
    assert not leader.has_ready
    assert leader.leading is not None
    assert leader.leading.progress[2].next_index == 2


def test_a_snapshot_counts_as_hearing_from_the_leader() -> None:
    """Section 7: the election timer starts over, candidates step down, a later term is adopted."""
    cluster = Cluster()
    raft = cluster.raft(3)
    cluster.campaign(3)
    assert raft.accept_copy(1, 4, cluster.now_us)
    assert (raft.role, raft.term, raft.leader) == (Role.FOLLOWER, 4, 1)
    deadline_us = raft.deadline_us
    assert raft.accept_copy(1, 4, cluster.now_us + 1000)
    assert raft.deadline_us == deadline_us + 1000


def test_a_snapshot_of_an_earlier_term_is_stale() -> None:
    cluster = Cluster()
    cluster.prepare(3, (), current_term=4)
    raft = cluster.raft(3)
    assert not raft.accept_copy(1, 3, 0)
    assert (raft.leader, raft.has_ready) == (0, False)


@pytest.mark.parametrize(("sender", "term"), [(1, TERM_MAX + 1), (1, 0), (3, 4), (0, 4)])
def test_an_impossible_snapshot_is_refused(sender: int, term: int) -> None:
    cluster = Cluster()
    raft = cluster.raft(3)
    assert not raft.accept_copy(sender, term, 0)
    (note,) = raft.take_ready().notes
    assert isinstance(note, Refused)
    assert (raft.term, raft.leader) == (0, 0)


def test_two_leaders_snapshots_in_one_term_are_refused() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    assert not leader.accept_copy(2, 1, cluster.now_us)
    assert not cluster.raft(3).accept_copy(2, 1, cluster.now_us)
    for raft in (leader, cluster.raft(3)):
        (note,) = raft.take_ready().notes
        assert isinstance(note, Refused)


def test_a_snapshot_of_what_is_held_already_is_not_installed() -> None:
    """Section 7, rule 6: what follows it was acknowledged, and resetting the log would forget that."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.nodes[1].disk_paused = True
    cluster.isolate(3)
    cluster.propose(1, "acknowledged by 2, not committed")
    cluster.stabilize()
    raft = cluster.raft(2)
    assert (raft.commit_index, raft.log.last_index) == (1, 2)
    assert not raft.begin_restore(2, 1)
    assert not raft.begin_restore(1, 1)
    assert raft.begin_restore(2, 9)


def test_a_leader_needs_no_snapshot() -> None:
    assert not Cluster((1,)).raft(1).begin_restore(0, 0)
    assert not Cluster().elect(1).begin_restore(50, 1)


def test_nothing_is_acknowledged_while_a_snapshot_is_being_installed() -> None:
    """Else the reset that follows would forget it."""
    cluster = Cluster()
    cluster.elect(1)
    raft = cluster.raft(2)
    proposed = cluster.propose(1, "x")
    assert raft.begin_restore(50, 1)
    raft.step(AppendEntries(SHARD, 1, 1, 2, 1, 1, 1, (proposed,)), cluster.now_us)
    assert raft.log.last_index == 1
    assert not raft.has_ready
    raft.abandon_restore()
    raft.step(AppendEntries(SHARD, 1, 1, 2, 1, 1, 1, (proposed,)), cluster.now_us)
    assert raft.log.last_index == 2


def test_a_replica_does_not_campaign_while_it_installs_a_snapshot() -> None:
    cluster = Cluster()
    raft = cluster.raft(3)
    assert raft.begin_restore(50, 1)
    cluster.campaign(3)
    assert raft.role is Role.FOLLOWER


def test_restoring_resets_the_log_and_tells_the_leader() -> None:
    cluster = cluster_with_a_follower_behind()
    wish(cluster)
    node = cluster.nodes[3]
    generation = node.raft.log.generation
    assert node.raft.accept_copy(1, 1, cluster.now_us)
    assert node.raft.begin_restore(5, 1)
    node.install(Copy(1, 1, 3, 5, 1, 0, cluster.membership))
    log = node.raft.log
    assert (node.raft.commit_index, log.first_index, log.last_index, log.last_term) == (5, 6, 5, 1)
    assert (log.persisted_index, log.generation) == (5, generation + 1)
    ready = node.take()
    assert ready.messages == (AppendEntriesReply(SHARD, 1, 3, 1, True, 5),)


def test_restoring_over_a_conflicting_tail_drops_it() -> None:
    """Section 7, rule 7: discard the entire log."""
    cluster = Cluster()
    cluster.prepare(3, (1, 2, 2, 2), current_term=3)
    node = cluster.nodes[3]
    assert node.raft.accept_copy(1, 3, 0)
    assert node.raft.begin_restore(3, 3)
    node.install(Copy(3, 1, 3, 3, 3, 0, cluster.membership))
    assert (node.raft.log.first_index, node.raft.log.last_index, node.raft.log.last_term) == (4, 3, 3)


def test_installing_against_the_advice_is_a_bug() -> None:
    cluster = Cluster()
    cluster.elect(1)
    raft = cluster.raft(2)
    with pytest.raises(AssertionError, match="committed here"):
        raft.restore(1, 1, cluster.membership)
    with pytest.raises(AssertionError, match="no snapshot"):
        cluster.raft(1).restore(9, 1, cluster.membership)


def test_the_logs_time_goes_on_from_the_snapshots() -> None:
    cluster = Cluster()
    node = cluster.nodes[1]
    assert node.raft.accept_copy(2, 1, 0)
    assert node.raft.begin_restore(5, 1)
    node.install(Copy(1, 2, 1, 5, 1, 123_456_789, cluster.membership))
    assert node.raft.last_time_us() == 123_456_789
    leader = cluster.elect(1)
    assert leader.log.entries(6, 7, 0)[0].time_us >= 123_456_789
