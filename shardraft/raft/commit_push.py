"""How followers learn what is committed when no entries tell them: with another frame, or alone after a moment."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from shardraft.raft.messages import CommitAdvance
from shardraft.raft.progress import Progress
from shardraft.types import INTEGER_MAX, HostId, Index

if TYPE_CHECKING:
    from shardraft.raft.leader import Leader


class CommitPush:
    """One leader's commit index on its way to those who do not know it; ``due_us``: when it leaves alone.

    Entries carry it along, and any frame of the host may (``ride``), so under load no frame is sent for its sake.
    It is not answered. What is lost the next heartbeat repeats.
    """

    __slots__ = ("_leader", "due_us")

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self.due_us = INTEGER_MAX

    @property
    def is_pending(self) -> bool:
        """Whether somebody waits to be told."""
        return self.due_us != INTEGER_MAX

    def soon(self) -> None:
        """Some follower is to learn the commit index, if no entries tell it within ``commit_push_ms``."""
        if not self.is_pending:
            raft = self._leader.raft
            self.due_us = raft.now_us + raft.commit_push_us
            raft.deadline_us = min(raft.deadline_us, self.due_us)

    def at_once(self) -> None:
        """It leaves with the next messages."""
        self.due_us = self._leader.raft.now_us

    def send(self) -> None:
        """Tell it to those who hold what is committed and were not told, if it is time."""
        leader, raft = self._leader, self._leader.raft
        if raft.now_us < self.due_us:
            return
        self._end()
        for progress in leader.followers:
            told = progress.untold_commit(raft.commit_index)
            if told:
                raft.outbox.messages.append(self._advance(progress, told))

    def ride(self, hosts: Container[HostId]) -> list[CommitAdvance]:
        """What may be told now to followers on ``hosts``, for whom frames leave anyway."""
        if not self.is_pending:
            return []
        leader, raft = self._leader, self._leader.raft
        untold = [progress for progress in leader.followers if progress.untold_commit(raft.commit_index)]
        riding = [progress for progress in untold if raft.host_of(progress.replica) in hosts]
        if len(riding) == len(untold):
            self._end()
        return [self._advance(progress, progress.untold_commit(raft.commit_index)) for progress in riding]

    def _advance(self, progress: Progress, told: Index) -> CommitAdvance:
        raft = self._leader.raft
        progress.commit_sent = told
        return CommitAdvance(raft.shard, raft.term, raft.replica, progress.replica, told)

    def _end(self) -> None:
        """Nobody is left to be told."""
        self.due_us = INTEGER_MAX
        self._leader.raft.deadline_us = self._leader.pulse.due_us
