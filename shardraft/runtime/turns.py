"""The main loop's turns: events into the host, messages, batches and replies out of it.

This module is compiled, since a busy host does nothing else; ``Driver`` is what waits between turns, and what carries
out that which is rare.
"""

from __future__ import annotations

from collections.abc import Callable

from shardraft.host.host import Host
from shardraft.host.messages import PeerMessage
from shardraft.host.turn import Turn
from shardraft.runtime.arrivals import Arrivals, LogCommitted
from shardraft.runtime.clock import now_us
from shardraft.runtime.log_commits import LogCommits
from shardraft.runtime.network import Network
from shardraft.types import HostId


class Turns:
    """Takes turns of ``host`` over what has arrived.

    ``commits`` takes the log batch of a turn, ``carry_out`` everything of it that is neither messages, replies nor log.
    """

    def __init__(
        self,
        host: Host,
        network: Network,
        arrivals: Arrivals,
        turn_events_max: int,
        commits: LogCommits,
        carry_out: Callable[[Turn], None],
    ) -> None:
        self._host = host
        self._network = network
        self._arrivals = arrivals
        self._turn_events_max = turn_events_max
        self._commits = commits
        self._carry_out = carry_out

    def go_on(self, until: Callable[[], bool]) -> None:
        """Take turns while there is one to take and no other task is due, for as long as ``until()`` is not true."""
        while not until() and self._arrivals.come(self.next_deadline_us):
            self.take()

    @property
    def next_deadline_us(self) -> int:
        """When a turn is to be taken at the latest."""
        return min(self._host.next_deadline_us, self._commits.due_us)

    def take(self) -> None:
        """Step what has arrived, begin a turn, carry it out."""
        host = self._host
        self._commits.hear()
        durable: list[tuple[HostId, tuple[PeerMessage, ...]]] = []
        for event in self._arrivals.take(self._turn_events_max):
            if isinstance(event, LogCommitted):
                for number in event.numbers:
                    durable += host.finish_turn(number, now_us()).messages
            else:
                host.step(event)
        self.begin(durable)

    def begin(self, durable: list[tuple[HostId, tuple[PeerMessage, ...]]]) -> None:
        """Begin a turn and carry it out. ``durable``: what rested on finished commits.

        It shares the frames of this turn: a frame costs more than waiting for it.
        """
        turn = self._host.begin_turn(now_us())
        if durable:
            self._network.send((*durable, *turn.messages))
        elif turn.messages:
            self._network.send(turn.messages)
        if turn.log_batch is not None:
            self._commits.commit(turn.number, turn.log_batch)
        elif self._commits.due_us <= now_us():
            self._commits.go_on()
        if turn.replies:
            self._network.reply(turn.replies)
        if turn.link_messages:
            self._network.send_links(turn.link_messages)
        if _has_more(turn):
            self._carry_out(turn)


def _has_more(turn: Turn) -> bool:
    """Whether there is anything of it that is rare."""
    if turn.state_batch is not None or turn.shard_map is not None or turn.places is not None:
        return True
    return bool(turn.copies or turn.replicas or turn.closes or turn.notes)
