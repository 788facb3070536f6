"""What the read tree needs of logs and replicas, which the host owns."""

from __future__ import annotations

from typing import Protocol

from shardraft.raft.entry import Entry
from shardraft.types import Index, ShardId, Term


class CommittedLog(Protocol):
    """The log that a feed reads, and of it only what is committed. ``raft.log.RaftLog`` is one.

    Compaction raises ``first_index`` and a reset moves both ends at any time; the feed pins nothing.
    """

    @property
    def first_index(self) -> Index: ...

    @property
    def last_index(self) -> Index: ...

    def term_at(self, index: Index) -> Term | None:
        """The term of the entry at ``index``, also just before ``first_index`` (0 at 0); None when it is not known."""
        ...

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Entries from ``low`` on, without ``high_exclusive``: at most ``bytes_max`` bytes, but at least one."""
        ...


class LearnerShard(Protocol):
    """One shard of a learner, as the child side of its link sees it."""

    @property
    def shard(self) -> ShardId: ...

    @property
    def last_index(self) -> Index:
        """The last entry in the log, whether durable yet or not; after a restart the last durable one."""
        ...

    @property
    def last_term(self) -> Term: ...

    @property
    def last_applied(self) -> Index: ...

    @property
    def applied_hash(self) -> int:
        """The rolling hash of all entries applied up to ``last_applied``."""
        ...

    @property
    def installing(self) -> bool:
        """A received copy is about to replace state and log; the shard takes no entries until it has."""
        ...

    def accept(self, entries: tuple[Entry, ...], commit_index: Index) -> None:
        """Append committed entries, the first of them at ``last_index + 1``.

        They are in memory, for this host's own feed, when this returns, and written in the same turn;
        when they are durable the host says ``Learner.persisted``. ``commit_index`` is the parent's.
        """
        ...
