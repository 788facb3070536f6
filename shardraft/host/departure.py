"""How a host leaves office before it stops: every shard that it leads is handed to another voter (thesis 3.10)."""

from __future__ import annotations

from collections.abc import Callable

from shardraft.errors import Conflict
from shardraft.host.events import StopAsked
from shardraft.host.voter import Voter
from shardraft.raft.ready import Role
from shardraft.types import NO_REPLICA, ShardId


class Departure:
    """The leaderships that a host is giving up; the host goes on serving, and the driver ends it.

    Without it, clients wait for an election; with it, for the one round in which the successor is elected.
    """

    def __init__(self, voters: dict[ShardId, Voter], touch: Callable[[Voter], None]) -> None:
        self._voters = voters
        self._touch = touch
        self._asked = False
        self._leaving: list[Voter] = []

    def asked(self, event: StopAsked) -> None:
        """Hand over everything that is led at this moment; what nobody else can lead is kept."""
        self._asked = True
        self._leaving = [voter for voter in self._voters.values() if voter.raft.role is Role.LEADER]
        for voter in self._leaving:
            try:
                voter.raft.transfer(None, event.now_us)
            except Conflict:
                continue  # It is the only voter, or hears no other: there is nobody to hand over to.
            self._touch(voter)

    @property
    def is_done(self) -> bool:
        """Whether every successor is known here, so that clients are sent to it, or was given up on."""
        return self._asked and all(_has_left_office(voter) for voter in self._leaving)


def _has_left_office(voter: Voter) -> bool:
    raft = voter.raft
    if raft.role is Role.LEADER:
        return raft.transferee == NO_REPLICA
    return raft.leader != NO_REPLICA
