"""One learner's replica of a shard: a log of committed entries that a parent sends, and the machine behind it."""

from __future__ import annotations

from shardraft.host.replica import Replica
from shardraft.kv.machine import MachineState
from shardraft.raft.entry import Entry
from shardraft.raft.ready import HardState, LogWrite
from shardraft.types import NO_REPLICA, Index, Term


class LearnerReplica(Replica):
    """A shard outside its Raft configuration. Its log holds committed entries only, so all of it is committed.

    Entries may be served, and given to children, before they are durable here: they are committed.
    """

    @property
    def commit_index(self) -> Index:
        return self.log.last_index

    @property
    def last_index(self) -> Index:
        return self.log.last_index

    @property
    def last_term(self) -> Term:
        return self.log.last_term

    @property
    def last_applied(self) -> Index:
        return self.machine.last_applied

    @property
    def applied_hash(self) -> int:
        return self.machine.applied_hash

    def accept(self, entries: tuple[Entry, ...], commit_index: Index) -> None:
        """Append committed entries that follow the log; this turn writes them."""
        assert not self.installing, "a shard whose state is being replaced takes no entries"
        self.log.append(entries)

    def take_write(self) -> LogWrite | None:
        """What this turn must write. Term and vote mean nothing here; the commit index is the log's end."""
        if not self.log.has_unwritten:
            return None
        return self.log.take_write(HardState(self.log.last_term, NO_REPLICA, self.log.last_index))

    def restore(self, state: MachineState) -> None:
        """A copy replaced state and stored log: go on from there."""
        self.machine.restore(state)
        self.log.reset(state.last_applied, state.last_applied_term)
