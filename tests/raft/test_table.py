"""The role x message table is complete, and its forbidden cells refuse without any effect."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CommitAdvance,
    Heartbeat,
    HeartbeatReply,
    RaftMessage,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.raft.ready import Ready, Refused, Role
from shardraft.raft.role import RoleState
from shardraft.raft.table import HANDLERS, STALE
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD

MESSAGES = get_args(RaftMessage)
FORBIDDEN = {
    (Role.LEADER, AppendEntries),
    (Role.LEADER, CommitAdvance),
    (Role.LEADER, Heartbeat),
    (Role.LEADER, TimeoutNow),
}
LATE = {
    (Role.FOLLOWER, RequestPreVoteReply),
    (Role.FOLLOWER, RequestVoteReply),
    (Role.FOLLOWER, AppendEntriesReply),
    (Role.FOLLOWER, HeartbeatReply),
    (Role.PRE_CANDIDATE, RequestVoteReply),
    (Role.PRE_CANDIDATE, AppendEntriesReply),
    (Role.PRE_CANDIDATE, HeartbeatReply),
    (Role.CANDIDATE, RequestPreVoteReply),
    (Role.CANDIDATE, AppendEntriesReply),
    (Role.CANDIDATE, HeartbeatReply),
    (Role.LEADER, RequestPreVoteReply),
    (Role.LEADER, RequestVoteReply),
}


def cluster_with(role: Role) -> Cluster:
    """Replica 1 of three in ``role``, in term 2, with everything taken; 2 was never heard of."""
    cluster = Cluster()
    for replica in (1, 2, 3):
        cluster.prepare(replica, (), current_term=2 if role is Role.PRE_CANDIDATE else 1)
    if role is Role.LEADER:
        cluster.elect(1)
    elif role is Role.FOLLOWER:
        cluster.elect(3)
    else:
        cluster.campaign(1)
    if role is Role.CANDIDATE:
        cluster.raft(1).step(RequestPreVoteReply(SHARD, 2, 3, 1, True), cluster.now_us)
    while cluster.raft(1).has_ready:
        cluster.nodes[1].take()
    while cluster.nodes[1].pending:
        cluster.nodes[1].persist()
    raft = cluster.raft(1)
    assert (raft.role, raft.term, raft.has_ready) == (role, 2, False)
    return cluster


def example(kind: type[Any], term: int) -> RaftMessage:
    """A message of ``kind`` from replica 2 to 1 that is possible in itself."""
    fields: dict[type[Any], tuple[Any, ...]] = {
        RequestPreVote: (0, 0),
        RequestPreVoteReply: (False,),
        RequestVote: (0, 0),
        RequestVoteReply: (False,),
        AppendEntries: (0, 0, 0),
        AppendEntriesReply: (True, 1),
        CommitAdvance: (0,),
        Heartbeat: (0, 1),
        HeartbeatReply: (0,),
        TimeoutNow: (),
    }
    message: RaftMessage = kind(SHARD, term, 2, 1, *fields[kind])
    return message


def state_of(cluster: Cluster) -> tuple[object, ...]:
    raft = cluster.raft(1)
    return raft.role, raft.term, raft.voted_for, raft.leader, raft.commit_index, raft.log.last_index, raft.deadline_us


def test_every_role_has_a_row_and_every_message_a_cell_in_it() -> None:
    assert set(HANDLERS) == set(Role)
    for row in (*HANDLERS.values(), STALE):
        assert list(row) == list(MESSAGES)


def test_the_forbidden_and_the_late_cells_are_exactly_these() -> None:
    cells = {(role, kind): handler for role, row in HANDLERS.items() for kind, handler in row.items()}
    assert {cell for cell, handler in cells.items() if handler is RoleState.forbid} == FORBIDDEN
    assert {cell for cell, handler in cells.items() if handler is RoleState.ignore} == LATE


@pytest.mark.parametrize(("role", "kind"), sorted(FORBIDDEN, key=str))
def test_a_forbidden_message_is_refused_and_changes_nothing(role: Role, kind: type[Any]) -> None:
    cluster = cluster_with(role)
    before = state_of(cluster)
    cluster.raft(1).step(example(kind, 2), cluster.now_us)
    assert state_of(cluster) == before
    ready = cluster.raft(1).take_ready()
    (note,) = ready.notes
    assert isinstance(note, Refused)
    assert ready == Ready(notes=ready.notes)


@pytest.mark.parametrize(("role", "kind"), sorted(LATE, key=str))
def test_a_late_answer_is_ignored_and_changes_nothing(role: Role, kind: type[Any]) -> None:
    cluster = cluster_with(role)
    before = state_of(cluster)
    cluster.raft(1).step(example(kind, 2), cluster.now_us)
    assert state_of(cluster) == before
    assert cluster.raft(1).take_ready() == Ready()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_of_an_earlier_term_changes_nothing(role: Role, kind: type[Any]) -> None:
    """Section 5.1: if a server receives a request with a stale term number, it rejects the request."""
    cluster = cluster_with(role)
    before = state_of(cluster)
    cluster.raft(1).step(example(kind, 1), cluster.now_us)
    assert state_of(cluster) == before
    answered = {RequestPreVote, RequestVote, AppendEntries, Heartbeat}
    ready = cluster.raft(1).take_ready()
    assert [message.term for message in ready.messages] == ([2] if kind in answered else [])
    assert not any(getattr(message, "vote_granted", False) for message in ready.messages)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_of_a_later_term_ends_every_role(role: Role, kind: type[Any]) -> None:
    """Section 5.1; except for questions before an election, and elections against a leader that is heard."""
    cluster = cluster_with(role)
    raft = cluster.raft(1)
    before = state_of(cluster)
    raft.step(example(kind, 5), cluster.now_us)
    hears_leader = role in (Role.FOLLOWER, Role.LEADER)
    if kind is RequestPreVote or (kind is RequestVote and hears_leader):
        assert state_of(cluster) == before
    elif kind is TimeoutNow:
        assert (raft.role, raft.term) == (Role.CANDIDATE, 6)
    else:
        leads = kind in (AppendEntries, CommitAdvance, Heartbeat)
        assert (raft.role, raft.term, raft.leader) == (Role.FOLLOWER, 5, 2 if leads else 0)
