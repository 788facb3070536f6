"""A disk that hangs is every group's: whoever leads here steps down, also where nothing is being written."""

from __future__ import annotations

from collections.abc import Callable

from shardraft.config import RaftConfig
from shardraft.host.commits import Commits
from shardraft.host.voter import Voter
from shardraft.types import ShardId


class DiskWatch:
    """Whether the oldest log commit of the host is not durable after an election timeout.

    A group knows of its own writes only. One that is idle would go on leading on a disk that takes nothing
    any more, until a client's write finds out, and would then lose another election timeout
    (PROTOCOL, "Terms, votes, turns in flight"; hashicorp/raft#503). ``stalled`` is false again when that commit is
    durable, however long it took.
    """

    __slots__ = ("_commits", "_stall_us_max", "_touch", "_voters", "stalled")

    def __init__(
        self, commits: Commits, voters: dict[ShardId, Voter], config: RaftConfig, touch: Callable[[Voter], None]
    ) -> None:
        self._commits = commits
        self._voters = voters
        self._stall_us_max = 2000 * config.election_timeout_ms
        self._touch = touch
        self.stalled = False

    @property
    def deadline_us(self) -> int | None:
        """When the disk counts as hanging, unless the commit is durable by then."""
        begun_us = self._commits.oldest_begun_us
        return None if begun_us is None or self.stalled else begun_us + self._stall_us_max + 1

    def tick(self, now_us: int) -> None:
        """Tell every group when the disk begins to hang, and when it works again."""
        begun_us = self._commits.oldest_begun_us
        stalled = begun_us is not None and now_us - begun_us > self._stall_us_max
        if stalled is self.stalled:
            return
        self.stalled = stalled
        for voter in self._voters.values():
            voter.raft.host_disk_is_stalled = stalled
            if stalled:
                voter.raft.wake(now_us)  # A leader at rest would look at nothing.
                self._touch(voter)
