"""Quiescence: a leader whose group is at rest sends nothing, and leaves the proof of life to its host's rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardraft.raft.contact import Contact, Place
from shardraft.raft.progress import Progress
from shardraft.types import INTEGER_MAX, NO_HOST, NO_REPLICA

if TYPE_CHECKING:
    from shardraft.raft.leader import Leader


class Rest:
    """Whether one leader's group rests, and on which contacts.

    It rests when nothing is under way and every follower that lives holds everything, durably, and
    knows that it is committed. A follower that was silent for an election timeout is left out: it asks
    for an election, or connects, when it is back, and that wakes the group. Rounds between hosts serve
    the timers only. Reads, leases and changes of the membership always rest on rounds of the group's own.
    """

    __slots__ = ("_leader", "_on", "_settled_index", "_settled_round", "resting")

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._on: list[tuple[Contact, Progress]] = []
        self._settled_index = 0
        self._settled_round = 0
        self.resting = False

    def begin(self) -> bool:
        """Rest if nothing speaks against it; asked when a round of the group's own is due."""
        raft = self._leader.raft
        if not self._is_possible() or not self._is_settled():
            return False
        on = self._live_contacts()
        if on is None:
            return False
        self._on = on
        for contact, progress in on:
            contact.lead(Place(raft.shard, raft.term, raft.replica, progress.replica), progress.active_us)
        self.resting = True
        raft.deadline_us = INTEGER_MAX
        return True

    def end(self) -> None:
        """Something happens: go on with the group's own rounds."""
        if not self.resting:
            return
        raft = self._leader.raft
        self.resting = False
        for contact, progress in self._on:
            progress.active_us = max(progress.active_us, contact.answered_us)
            contact.wake(raft.shard)
        self._on = []
        self._leader.pulse.start(raft.now_us)

    def _is_possible(self) -> bool:
        """A lease wants rounds of its own, and so does an eye on a preferred replica that lives and does not lead."""
        leader, raft = self._leader, self._leader.raft
        if raft.contact_of is None or raft.lease_us or leader.engaged or leader.reads.count or leader.push.is_pending:
            return False
        if raft.awaited == NO_REPLICA:
            return True
        preferred = leader.progress.get(raft.awaited)
        return preferred is None or raft.now_us - preferred.active_us > raft.election_timeout_us_max

    def _is_settled(self) -> bool:
        """Whether all is committed, and a round that said so has been sent."""
        raft, last_index = self._leader.raft, self._leader.raft.log.last_index
        if raft.commit_index != last_index or raft.log.persisted_index != last_index:
            return False
        if self._settled_index != last_index:
            self._settled_index, self._settled_round = last_index, self._leader.round + 1
            return False
        return True

    def _live_contacts(self) -> list[tuple[Contact, Progress]] | None:
        """Each follower that lives, with its host; None while one of them may lack anything."""
        raft = self._leader.raft
        assert raft.contact_of is not None
        on = []
        for progress in self._leader.followers:
            host = raft.host_of(progress.replica)
            if host == NO_HOST:
                return None
            silence_us = raft.now_us - progress.active_us
            if silence_us > raft.election_timeout_us_max:
                continue
            if silence_us > 2 * raft.heartbeat_us:
                return None  # It may be dying; resting now would prolong the time until that is known.
            if progress.match_index < self._settled_index or progress.round < self._settled_round:
                return None
            on.append((raft.contact_of(host), progress))
        return on
