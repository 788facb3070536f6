"""What no correct replica sends: impossible terms, indexes and configurations, checked before anything is believed."""

from __future__ import annotations

from typing import Any, Final

from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.membership import MembershipError, decode_membership
from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CommitAdvance,
    Heartbeat,
    HeartbeatReply,
    RequestPreVote,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.types import TERM_MAX

_MEMBERSHIP: Final = int(EntryKind.MEMBERSHIP)

_POSSIBLE: Final = range(TERM_MAX + 1)
"""Terms and indexes that a message may name."""
_NO_LEADER: Final = "nobody campaigns for term 0 or leads it"


def _vote(message: RequestVote | RequestPreVote) -> str | None:
    if message.last_log_index not in _POSSIBLE or not 0 <= message.last_log_term < message.term:
        return "a candidate's log ends in an impossible index or term"
    return None


def _append_entries(message: AppendEntries) -> str | None:
    """Entries follow one another from ``prev_log_index``; their terms never fall nor pass the leader's."""
    index, term = message.prev_log_index, message.prev_log_term
    if not 0 <= index <= TERM_MAX or not 0 <= term <= message.term or not 0 <= message.leader_commit <= TERM_MAX:
        return "an impossible index or term in AppendEntries"
    if (index == 0) != (term == 0):
        return "only the start of a log has index 0 and term 0"
    if message.term == 0:
        return _NO_LEADER
    term = term or 1
    for entry in message.entries:
        index += 1
        if entry.index != index or not term <= entry.term <= message.term:
            return f"{entry!r} where entry {index} of term {term} to {message.term} belongs"
        term = entry.term
        if entry.kind == _MEMBERSHIP and not _is_configuration(entry):
            return f"{entry!r}, which is no configuration"
    return None


def _is_configuration(entry: Entry) -> bool:
    try:
        decode_membership(entry.payload)
    except MembershipError:
        return False
    return True


def _append_entries_reply(message: AppendEntriesReply) -> str | None:
    if message.match_index not in _POSSIBLE or message.conflict_index not in _POSSIBLE:
        return "an impossible index in an AppendEntriesReply"
    if message.term == 0:
        return _NO_LEADER
    return None if message.conflict_term in _POSSIBLE else "an impossible term in an AppendEntriesReply"


def _commit_advance(message: CommitAdvance) -> str | None:
    if message.term == 0:
        return _NO_LEADER
    return None if message.commit_index in _POSSIBLE else "an impossible commit index in a CommitAdvance"


def _heartbeat(message: Heartbeat) -> str | None:
    if message.term == 0 or message.round < 0:
        return _NO_LEADER if message.term == 0 else "an impossible round"
    return None if message.commit_index in _POSSIBLE else "an impossible commit index in a Heartbeat"


def _heartbeat_reply(message: HeartbeatReply) -> str | None:
    if message.term == 0:
        return _NO_LEADER
    return None if message.round >= 0 else "an impossible round"


def _elected(message: RequestVoteReply | TimeoutNow) -> str | None:
    return _NO_LEADER if message.term == 0 else None


_CHECKS: Final[dict[type[Any], Any]] = {
    RequestPreVote: _vote,
    RequestVote: _vote,
    RequestVoteReply: _elected,
    AppendEntries: _append_entries,
    AppendEntriesReply: _append_entries_reply,
    CommitAdvance: _commit_advance,
    Heartbeat: _heartbeat,
    HeartbeatReply: _heartbeat_reply,
    TimeoutNow: _elected,
}


def impossible(message: Any) -> str | None:
    """Why ``message`` cannot come from a correct replica; None when it can. Its addresses are not looked at."""
    if not 0 <= message.term <= TERM_MAX:
        return f"term {message.term} is impossible"
    check = _CHECKS.get(type(message))
    reason: str | None = check(message) if check is not None else None
    return reason
