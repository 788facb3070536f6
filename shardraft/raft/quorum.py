"""Majorities, plain and joint, as pure functions of numbers (section 6; thesis 4.3).

A configuration has two halves, ``voters`` and ``voters_outgoing``; a decision needs a majority of
each. An empty half agrees with everything, so a plain configuration is a joint one whose second
half is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from shardraft.types import INTEGER_MAX, ReplicaId


class VoteResult(Enum):
    """What the votes that have come in so far decide."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority_index(voters: tuple[ReplicaId, ...], reached: Mapping[ReplicaId, int]) -> int:
    """The largest number that a majority of ``voters`` has reached; a voter not in ``reached`` is at 0.

    No voters at all have reached everything: ``INTEGER_MAX``.
    """
    if not voters:
        return INTEGER_MAX
    ascending = sorted([reached.get(voter, 0) for voter in voters])
    return ascending[(len(ascending) - 1) // 2]


def quorum_index(
    voters: tuple[ReplicaId, ...], voters_outgoing: tuple[ReplicaId, ...], reached: Mapping[ReplicaId, int]
) -> int:
    """The largest number that a majority of each half has reached.

    With match indexes this is the index that counting would commit, with acknowledged rounds the
    last round of which a quorum knows, with times of last contact the time a quorum was heard.
    """
    index = majority_index(voters, reached)
    if voters_outgoing:
        index = min(index, majority_index(voters_outgoing, reached))
    return index


def majority_vote(voters: tuple[ReplicaId, ...], votes: Mapping[ReplicaId, bool]) -> VoteResult:
    """What ``votes`` decide among ``voters``; no voters at all agree to everything."""
    if not voters:
        return VoteResult.WON
    granted = refused = 0
    for voter in voters:
        vote = votes.get(voter)
        granted += vote is True
        refused += vote is False
    quorum = len(voters) // 2 + 1
    if granted >= quorum:
        return VoteResult.WON
    return VoteResult.LOST if len(voters) - refused < quorum else VoteResult.PENDING


def quorum_vote(
    voters: tuple[ReplicaId, ...], voters_outgoing: tuple[ReplicaId, ...], votes: Mapping[ReplicaId, bool]
) -> VoteResult:
    """An election is won in both halves and lost in either (section 6, joint consensus)."""
    halves = (majority_vote(voters, votes), majority_vote(voters_outgoing, votes))
    if VoteResult.LOST in halves:
        return VoteResult.LOST
    return VoteResult.PENDING if VoteResult.PENDING in halves else VoteResult.WON
