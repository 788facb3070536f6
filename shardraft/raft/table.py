"""The protocol's table of contents: what each role does with each message of its own term.

A message of a later term makes its receiver a follower in that term first (section 5.1), except
for the question before an election and its grant, which change nobody's term; ``Raft.step`` sees
to that. ``STALE`` says what becomes of a message of an earlier term, whatever the role.

``forbid`` marks the cells that Raft's rules exclude, since they would mean two leaders in one
term; such a message is refused and noted, and nothing changes. ``ignore`` marks answers that come
too late to matter: they were asked for in a former role, maybe in an earlier term.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from shardraft.raft.candidate import Candidate, PreCandidate
from shardraft.raft.follower import Follower
from shardraft.raft.leader import Leader
from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CommitAdvance,
    Heartbeat,
    HeartbeatReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.raft.ready import Role
from shardraft.raft.role import RoleState

# A handler takes a role's object and a message of its row; the table itself pairs their types.
Handler = Callable[[Any, Any], None]

HANDLERS: Final[dict[Role, dict[type[Any], Handler]]] = {
    Role.FOLLOWER: {
        RequestPreVote: Follower.answer_pre_vote,
        RequestPreVoteReply: Follower.ignore,
        RequestVote: Follower.answer_vote,
        RequestVoteReply: Follower.ignore,
        AppendEntries: Follower.append_entries,
        AppendEntriesReply: Follower.ignore,
        CommitAdvance: Follower.commit_advance,
        Heartbeat: Follower.heartbeat,
        HeartbeatReply: Follower.ignore,
        TimeoutNow: Follower.timeout_now,
    },
    Role.PRE_CANDIDATE: {
        RequestPreVote: PreCandidate.answer_pre_vote,
        RequestPreVoteReply: PreCandidate.count_pre_vote,
        RequestVote: PreCandidate.answer_vote,
        RequestVoteReply: PreCandidate.ignore,
        AppendEntries: PreCandidate.append_entries,
        AppendEntriesReply: PreCandidate.ignore,
        CommitAdvance: PreCandidate.commit_advance,
        Heartbeat: PreCandidate.heartbeat,
        HeartbeatReply: PreCandidate.ignore,
        TimeoutNow: PreCandidate.timeout_now,
    },
    Role.CANDIDATE: {
        RequestPreVote: Candidate.answer_pre_vote,
        RequestPreVoteReply: Candidate.ignore,
        RequestVote: Candidate.answer_vote,
        RequestVoteReply: Candidate.count_vote,
        AppendEntries: Candidate.append_entries,
        AppendEntriesReply: Candidate.ignore,
        CommitAdvance: Candidate.commit_advance,
        Heartbeat: Candidate.heartbeat,
        HeartbeatReply: Candidate.ignore,
        TimeoutNow: Candidate.timeout_now,
    },
    Role.LEADER: {
        RequestPreVote: Leader.answer_pre_vote,
        RequestPreVoteReply: Leader.ignore,
        RequestVote: Leader.answer_vote,
        RequestVoteReply: Leader.ignore,
        AppendEntries: Leader.forbid,
        AppendEntriesReply: Leader.count_append,
        CommitAdvance: Leader.forbid,
        Heartbeat: Leader.forbid,
        HeartbeatReply: Leader.count_round,
        TimeoutNow: Leader.forbid,
    },
}

STALE: Final[dict[type[Any], Handler]] = {
    RequestPreVote: RoleState.answer_pre_vote,
    RequestPreVoteReply: RoleState.ignore,
    RequestVote: RoleState.refuse_stale_vote,
    RequestVoteReply: RoleState.ignore,
    AppendEntries: RoleState.refuse_stale_entries,
    AppendEntriesReply: RoleState.ignore,
    CommitAdvance: RoleState.ignore,
    Heartbeat: RoleState.answer_stale_heartbeat,
    HeartbeatReply: RoleState.ignore,
    TimeoutNow: RoleState.ignore,
}
