"""How followers learn what is committed when no entries tell them: alone, after a moment, and without an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardraft.raft.messages import CommitAdvance
from shardraft.types import INTEGER_MAX

if TYPE_CHECKING:
    from shardraft.raft.leader import Leader


class CommitPush:
    """One leader's commit index on its way to those who do not know it; ``due_us``: when it leaves alone.

    Entries carry it along, so under load nothing is sent for its sake. What is lost the next heartbeat repeats.
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
        self.due_us = INTEGER_MAX
        raft.deadline_us = leader.heartbeat_us
        for progress in leader.followers:
            told = progress.untold_commit(raft.commit_index)
            if told:
                progress.commit_sent = told
                raft.outbox.messages.append(CommitAdvance(raft.shard, raft.term, raft.replica, progress.replica, told))
