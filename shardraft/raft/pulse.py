"""When a leader's group is due for a round of its own, which is what a heartbeat is (section 5.2; thesis 6.2, 6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardraft.types import INTEGER_MAX

if TYPE_CHECKING:
    from shardraft.raft.leader import Leader


class Pulse:
    """The beat of one leader: ``due_us`` is when ``beat`` must be called, ``round_wanted`` whether a round is to leave.

    Entries do for a heartbeat: they are messages of the leader, and their acknowledgements answers. So while all
    followers take entries as they come and answer, a beat passes without a round, and the next is due a
    heartbeat's time after the entries that were sent last to whom they were sent first.
    """

    __slots__ = ("_leader", "_round_sent_us", "due_us", "round_wanted")

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._round_sent_us = 0
        self.due_us = INTEGER_MAX
        self.round_wanted = False

    def beat(self) -> None:
        """It is due: want a round, unless everybody has heard of the leader since the last."""
        raft = self._leader.raft
        fed_us = self._all_fed_us()
        if raft.now_us - fed_us >= raft.heartbeat_us:
            self.round_wanted = True
        self.start(raft.now_us if self.round_wanted else fed_us)

    def start(self, since_us: int) -> None:
        """The next beat is due a heartbeat's time after ``since_us``."""
        leader = self._leader
        self.due_us = since_us + leader.raft.heartbeat_us
        leader.raft.deadline_us = min(self.due_us, leader.push.due_us)

    def round_sent(self) -> None:
        """A round leaves, whatever for."""
        self.round_wanted = False
        self._round_sent_us = self._leader.raft.now_us

    def _all_fed_us(self) -> int:
        """Since when every follower was sent something that does for a heartbeat; 0 when a round is needed.

        Entries do where they are taken as they come and answered. A read waits for a round and nothing else, a lease is
        made of rounds, and changes of the membership and handovers rest on them.
        """
        leader, raft = self._leader, self._leader.raft
        if leader.reads.unacknowledged:
            return self._round_sent_us  # Nothing but a round answers them, and this one may have been lost.
        if raft.lease_us or leader.engaged or not leader.followers:
            return 0
        answered_us = raft.now_us - raft.heartbeat_us
        return max(self._round_sent_us, min(progress.fed_us(answered_us) for progress in leader.followers))
