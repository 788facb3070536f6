"""Brings log and state together at start: nothing is atomic across the two.

The state may be ahead of the log in one way only: a copy was installed (state first) and the process ended
before the log was reset. Then the log ends below ``last_applied``, or has another term there, and is reset
there (PROTOCOL, "Log, state, snapshots"). Everything else that does not fit means that one of the
two is not the one that was written last.
"""

from __future__ import annotations

import attrs

from shardraft.errors import StorageError
from shardraft.host.ports import RecoveredShard
from shardraft.kv.machine import MachineState
from shardraft.raft.ready import LogSummary
from shardraft.storage.inspection import REPLACE_HOST
from shardraft.storage.log import SegmentedLog, StoredLog
from shardraft.types import Index, ReplicaId, Term


def recover_shard(log: SegmentedLog, stored: StoredLog, state: MachineState, replica: ReplicaId) -> RecoveredShard:
    """One shard with its log reset where it must be, durably. Raises ``StorageError``."""
    summary, hard_state = stored.summary, stored.hard_state
    index, term = state.last_applied, state.last_applied_term
    if index < summary.first_index - 1:
        raise StorageError(
            f"shard {state.shard}: the log begins at {summary.first_index} and the state ends at {index}, entries "
            f"between them are lost (an older copy of the state?): {REPLACE_HOST}"
        )
    if term_at(summary, index) != term:
        hard_state = log.reset(state.shard, index, term)
        summary = LogSummary(index + 1, term)
    if hard_state.commit_index < index:
        # It is written along with other writes only; what was applied was committed.
        hard_state = attrs.evolve(hard_state, commit_index=index)
    if hard_state.commit_index > last_index(summary):
        raise StorageError(
            f"shard {state.shard}: the log ends at {last_index(summary)} and {hard_state.commit_index} was committed, "
            f"entries are lost (an older copy of the log?): {REPLACE_HOST}"
        )
    return RecoveredShard(state.shard, hard_state, summary, state, replica)


def last_index(summary: LogSummary) -> Index:
    return summary.first_index + len(summary.terms) - 1


def term_at(summary: LogSummary, index: Index) -> Term | None:
    """The term of the entry at ``index``, or of the one just before the first; None beyond the log."""
    offset = index - summary.first_index
    if offset == -1:
        return summary.previous_term
    return summary.terms[offset] if 0 <= offset < len(summary.terms) else None


def check_known(logs: dict[int, StoredLog], states: dict[int, MachineState]) -> None:
    """Raises ``StorageError`` for a log whose shard has no state: states are made first."""
    unknown = sorted(logs.keys() - states.keys())
    if unknown:
        raise StorageError(
            f"the log knows shard {unknown[0]} and the state does not (an older copy of the state?): {REPLACE_HOST}"
        )
