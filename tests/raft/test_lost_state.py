"""A replica that lacks what it acknowledged says so, and never answers as if it had it (PROTOCOL)."""

from __future__ import annotations

import pytest

from shardraft.raft.messages import AppendEntries, CommitAdvance, Heartbeat
from shardraft.raft.ready import HardState, StateLost
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD


@pytest.fixture
def cluster() -> Cluster:
    """1 leads term 1, in which 2 acknowledged entries 1 to 3."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster.propose(1, "b")
    cluster.stabilize()
    assert cluster.raft(2).log.last_index == 3
    return cluster


@pytest.mark.parametrize("message", [Heartbeat(SHARD, 1, 1, 2, 4, 9), CommitAdvance(SHARD, 1, 1, 2, 4)])
def test_an_entry_that_the_leader_knows_to_be_held_here_and_is_not_was_lost(
    cluster: Cluster, message: Heartbeat | CommitAdvance
) -> None:
    raft = cluster.raft(2)
    raft.step(message, cluster.now_us)
    ready = raft.take_ready()
    assert ready.notes == (StateLost(SHARD, 1, 4, 3),)
    assert not ready.messages
    assert not ready.messages_after_persist
    assert raft.commit_index == 3


def test_a_term_in_which_it_acknowledged_and_that_it_does_not_know_was_lost(cluster: Cluster) -> None:
    """The log is whole, but the hard state is an earlier one: the vote in term 1 is gone."""
    cluster.nodes[2].disk.hard_state = HardState(0, 0, 0)
    cluster.nodes[2].restart()
    raft = cluster.raft(2)
    assert (raft.term, raft.log.last_index) == (1, 3)
    raft.step(Heartbeat(SHARD, 1, 1, 2, 3, 9), cluster.now_us)
    notes = raft.take_ready().notes
    assert StateLost(SHARD, 1, 3, 3) in notes


def test_whoever_starts_from_all_that_it_acknowledged_is_not_accused(cluster: Cluster) -> None:
    cluster.nodes[2].restart()
    raft = cluster.raft(2)
    raft.step(Heartbeat(SHARD, 1, 1, 2, 3, 9), cluster.now_us)
    ready = raft.take_ready()
    assert not any(isinstance(note, StateLost) for note in ready.notes)
    assert raft.commit_index == 3


def test_a_term_that_begins_accuses_nobody_until_something_was_acknowledged_in_it(cluster: Cluster) -> None:
    raft = cluster.raft(2)
    raft.step(Heartbeat(SHARD, 2, 3, 2, 0, 1), cluster.now_us)
    raft.step(AppendEntries(SHARD, 2, 3, 2, 3, 1, 3), cluster.now_us)
    raft.step(Heartbeat(SHARD, 2, 3, 2, 3, 2), cluster.now_us)
    assert not any(isinstance(note, StateLost) for note in raft.take_ready().notes)
    assert raft.term == 2


def test_another_leader_in_the_same_term_accuses_nobody(cluster: Cluster) -> None:
    raft = cluster.raft(2)
    raft.step(Heartbeat(SHARD, 1, 3, 2, 4, 9), cluster.now_us)
    assert not any(isinstance(note, StateLost) for note in raft.take_ready().notes)
