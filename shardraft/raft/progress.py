"""One follower as its leader sees it (Figure 2, nextIndex and matchIndex; thesis 10.2.1 for the pipeline).

::

    PROBE ------ the follower's log matches ------> REPLICATE
     ^ |                                                |
     | +---- its next entry is compacted --> COPY       |
     |                                        |         |
     +------- copy finished or failed --------+         |
     +------- refused, or its connection closed --------+

*Probe*: one AppendEntries at a time, to find where the logs agree. *Replicate*: entries stream,
``next_index`` advances when they are sent, and what is not answered is bounded by count and
bytes. *Copy*: a snapshot is on its way and no entries are sent.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

from shardraft.config import RaftConfig
from shardraft.types import Index, ReplicaId


class ProgressState(Enum):
    """How the leader feeds one follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    COPY = "copy"


# Every turn asks for these, and a member that is looked up on its class costs five times a constant.
_PROBE: Final = ProgressState.PROBE
_REPLICATE: Final = ProgressState.REPLICATE


class Progress:
    """What one leader knows of one follower during one term.

    ``match_index``: the last index known to match and to be durable there. ``next_index``: what is
    sent next. ``commit_sent``: the commit index that the messages sent so far tell it. ``round``:
    the last round that it acknowledged. ``active_us``: when it was last heard, for check-quorum.
    """

    __slots__ = (
        "_bytes_max",
        "_in_flight",
        "_in_flight_bytes",
        "_messages_max",
        "_nudged",
        "_probing",
        "_sent_us",
        "active_us",
        "commit_sent",
        "match_index",
        "next_index",
        "replica",
        "round",
        "state",
    )

    def __init__(self, replica: ReplicaId, next_index: Index, config: RaftConfig, now_us: int) -> None:
        self.replica = replica
        self.state = ProgressState.PROBE
        self.next_index = next_index
        self.match_index: Index = 0
        self.commit_sent: Index = 0
        self.round = 0
        self.active_us = now_us
        self._messages_max = config.in_flight_messages_max
        self._bytes_max = config.in_flight_bytes_max
        self._in_flight: deque[tuple[Index, int]] = deque()
        self._in_flight_bytes = 0
        self._probing = False
        self._nudged = False
        self._sent_us = now_us

    # What to send

    @property
    def window_full(self) -> bool:
        """Whether as much is unanswered as may be; nothing with entries is sent until an answer comes."""
        return len(self._in_flight) >= self._messages_max or self._in_flight_bytes >= self._bytes_max

    @property
    def in_flight(self) -> tuple[int, int]:
        """AppendEntries with entries that are sent and not answered: how many, and their entry bytes."""
        return len(self._in_flight), self._in_flight_bytes

    @property
    def copying(self) -> bool:
        """Whether a snapshot is on its way."""
        return self.state is ProgressState.COPY

    def wants_append(self, last_index: Index) -> bool:
        """Whether an AppendEntries should leave: for entries, or as a probe."""
        if self.state is _REPLICATE:
            return self._nudged or (self.next_index <= last_index and not self.window_full)
        return self.state is _PROBE and not self._probing

    def fed_us(self, answered_us: int) -> int:
        """When it was last sent an AppendEntries, if it takes them as they come and answered since ``answered_us``."""
        return self._sent_us if self.state is _REPLICATE and self.active_us > answered_us else 0

    def untold_commit(self, commit_index: Index) -> Index:
        """Up to where it holds what is committed and was not told so; 0 when nothing is untold."""
        told = min(commit_index, self.match_index)
        return told if told > self.commit_sent and self.state is _REPLICATE else 0

    def sent(self, last_index: Index, entry_bytes: int, commit_index: Index, now_us: int) -> None:
        """An AppendEntries that ends at ``last_index`` leaves; one with entries counts as in flight."""
        self._nudged = False
        self._sent_us = now_us
        self.commit_sent = max(self.commit_sent, min(commit_index, last_index))
        if self.state is ProgressState.PROBE:
            self._probing = True
        elif entry_bytes:
            self.next_index = last_index + 1
            self._in_flight.append((last_index, entry_bytes))
            self._in_flight_bytes += entry_bytes

    # What comes back

    def acknowledged(self, match_index: Index) -> bool:
        """The follower holds everything up to ``match_index`` durably; True when that was not known yet."""
        in_flight = self._in_flight
        while in_flight and in_flight[0][0] <= match_index:
            self._in_flight_bytes -= in_flight.popleft()[1]
        if self.state is ProgressState.PROBE and match_index >= self.match_index:
            self._enter(ProgressState.REPLICATE, max(self.match_index, match_index) + 1)
        if match_index <= self.match_index:
            return False
        self.match_index = match_index
        self.next_index = max(self.next_index, match_index + 1)
        return True

    def refused(self, prev_log_index: Index, agree_index: Index) -> bool:
        """The follower does not match at ``prev_log_index``; the logs agree at ``agree_index`` at the latest.

        False when the refusal is stale: it answers something that was overtaken by later messages.
        """
        if self.state is ProgressState.REPLICATE:
            if prev_log_index <= self.match_index:
                return False
            # An earlier message was lost, so everything sent after it is refused too.
            self.become_probe()
            return True
        if self.state is ProgressState.COPY or prev_log_index != self.next_index - 1:
            return False
        self.next_index = max(min(prev_log_index, agree_index + 1), self.match_index + 1)
        self._probing = False
        return True

    def heartbeat_answered(self, last_index: Index, quiet_us: int, now_us: int) -> bool:
        """The follower answers. True when something it should have acknowledged may be lost and is asked for again.

        That is so when it lacks entries and nothing was sent to it for ``quiet_us``: the last of a
        row of messages has no successor whose refusal would show the loss.
        """
        if now_us - self._sent_us < quiet_us:
            return False
        if self.state is ProgressState.PROBE:
            self._probing = False
            return True
        if self.state is ProgressState.REPLICATE and self.match_index < last_index:
            self._nudged = True
            return True
        return False

    # Changing state

    def become_probe(self) -> None:
        """Start over from what is known to match."""
        self._enter(ProgressState.PROBE, self.match_index + 1)

    def become_copy(self) -> None:
        """A snapshot is wanted: the entry before ``next_index`` is gone."""
        self._enter(ProgressState.COPY, self.next_index)

    def resume_from_log(self, first_index: Index) -> None:
        """Leave the state copy when the log still holds all that the follower lacks (it was not so far behind)."""
        if self.state is ProgressState.COPY and self.match_index + 1 >= first_index:
            self._enter(ProgressState.REPLICATE, self.match_index + 1)

    def disconnected(self, now_us: int) -> None:
        """The connection closed and what was in flight is likely lost: probe, once there is a sign of life."""
        if self.state is not ProgressState.COPY:
            self.become_probe()
            self._await_sign_of_life(now_us)

    def connected(self) -> None:
        """A connection exists again: probe at once."""
        self._probing = False

    def copy_finished(self, index: Index | None, last_index: Index, now_us: int) -> None:
        """The snapshot at ``index`` is installed there, or failed (None): probe from what is now known.

        After a failure the probe waits for a sign of life, lest a failing copy is wanted again at once. It asks at
        the end of the log: who refuses a copy may hold more than is known, and would refuse the next one, too.
        """
        self.become_probe()
        if index is None:
            self.next_index = last_index + 1
            self._await_sign_of_life(now_us)
        else:
            self.next_index = max(self.next_index, index + 1)

    def _await_sign_of_life(self, now_us: int) -> None:
        self._probing = True
        self._sent_us = now_us

    def _enter(self, state: ProgressState, next_index: Index) -> None:
        self.state = state
        self.next_index = next_index
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._probing = False
        self._nudged = False
