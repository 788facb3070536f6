"""Who is connected to whom: the links between voter hosts, and each learner's link to its parent.

What a runtime's transport does in the background: it notices that a connection closed, tries again
after a while, and says so to the host.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from shardraft.errors import ProtocolError
from shardraft.host.events import ParentConnected, PeerConnected, PeerDisconnected
from shardraft.learner.parents import Parents
from shardraft.sim.clock import Agenda
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.network import Network
from shardraft.sim.process import Process
from shardraft.types import HostId

_CONNECT_US: Final = (1_000, 40_000)
_RECONNECT_US: Final = (20_000, 200_000)
_RESET_US: Final = (100, 3_000)
"""A dying process closes its sockets; its peers hear of it after this."""


class PeerLinks:
    """One link per pair of voter hosts. A link is up when both ends are and neither direction is cut.

    Whoever connects shows its start, as in a hello. ``on_refused`` hears of a host whose disk another one
    knows not to be its newest, and why.
    """

    def __init__(
        self,
        agenda: Agenda,
        random: Random,
        network: Network,
        voters: dict[HostId, Process],
        on_refused: Callable[[Process, str], None],
    ) -> None:
        self._agenda = agenda
        self._random = random
        self._network = network
        self._voters = voters
        self._on_refused = on_refused
        self._up: set[tuple[HostId, HostId]] = set()
        """Both directions of each link that is up. Only asked for membership, so its order never matters."""

    def are_connected(self, one: HostId, other: HostId) -> bool:
        """Whether frames may travel between the two."""
        return (one, other) in self._up

    def process_started(self, process: Process) -> None:
        """It connects to every peer that it can reach."""
        for host in self._voters:
            if host != process.node:
                self._connect_later(process.node, host)

    def process_died(self, process: Process) -> None:
        """Its sockets close: peers that can be reached hear of it soon, the others when their links time out."""
        for host in self._voters:
            if self.are_connected(process.node, host):
                self._set_down(process.node, host)
                reset = self._network.reaches(process.node, host)
                delay_us = self._random.randrange(*_RESET_US) if reset else self._network.notice_us()
                self._agenda.after(delay_us, self._tell_lost, host, process.node)

    def links_changed(self) -> None:
        """Links were cut or healed: cut connections break in a while, or never; healed ones come back."""
        hosts = sorted(self._voters)
        for one in hosts:
            for other in hosts:
                if one < other:
                    self._link_changed(one, other)

    def _link_changed(self, one: HostId, other: HostId) -> None:
        if self._network.reaches_both_ways(one, other):
            if not self.are_connected(one, other):
                self._connect_later(one, other)
        elif self.are_connected(one, other) and self._random.random() < 0.5:
            # Half of all cuts are silent: the connection stays, and nothing arrives on it.
            self._agenda.after(self._network.notice_us(), self._break, one, other)

    def reset(self, one: HostId, other: HostId) -> None:
        """A connection is reset: ``one`` hears of it at once, ``other`` only when it next notices anything."""
        if self.are_connected(one, other):
            self._set_down(one, other)
            self._agenda.after(self._random.randrange(*_RESET_US), self._tell_lost, one, other)
            self._agenda.after(self._network.notice_us(), self._tell_lost, other, one)

    def _break(self, one: HostId, other: HostId) -> None:
        if self.are_connected(one, other) and not self._network.reaches_both_ways(one, other):
            self._set_down(one, other)
            self._tell_lost(one, other)
            self._tell_lost(other, one)

    def _set_down(self, one: HostId, other: HostId) -> None:
        self._up.difference_update(((one, other), (other, one)))

    def _tell_lost(self, host: HostId, peer: HostId) -> None:
        if not self.are_connected(host, peer):
            self._voters[host].take(PeerDisconnected, peer)

    def _connect_later(self, one: HostId, other: HostId) -> None:
        self._agenda.after(self._random.randrange(*_CONNECT_US), self._connect, one, other)

    def _connect(self, one: HostId, other: HostId) -> None:
        possible = self._voters[one].is_up and self._voters[other].is_up and self._network.reaches_both_ways(one, other)
        if possible and not self.are_connected(one, other) and self._greet(one, other) and self._greet(other, one):
            self._up.update(((one, other), (other, one)))
            self._voters[one].take(PeerConnected, other)
            self._voters[other].take(PeerConnected, one)

    def _greet(self, host: HostId, judge: HostId) -> bool:
        """Whether ``judge`` lets ``host`` in; a host that is not let in is told so and ends."""
        process, theirs = self._voters[host], self._voters[judge]
        try:
            theirs.disk.store.met.meet(host, process.disk.store.start)
        except ProtocolError as error:
            self._on_refused(process, str(error))
            return False
        if process.impersonates and not theirs.impersonates:
            raise SimulationFailure(f"host {judge} lets host {host} in, which does not run from its newest disk")
        return True


class ParentLink:
    """A learner's link to its parent, the one that the learner names; ``process_at`` finds it."""

    def __init__(
        self,
        agenda: Agenda,
        random: Random,
        network: Network,
        child: Process,
        process_at: Callable[[str], Process],
    ) -> None:
        self.child = child
        self._agenda = agenda
        self._random = random
        self._network = network
        self._process_at = process_at
        self._connection = 0

    @property
    def _parents(self) -> Parents:
        host = self.child.host
        assert host is not None, "the child runs"
        assert host.tree.learner is not None, "the child is a learner"
        return host.tree.learner.parents

    def process_started(self) -> None:
        """The child looks for a parent."""
        self._connection = 0
        self._agenda.after(self._random.randrange(*_CONNECT_US), self._connect, self.child.boot)

    def connection_closed(self, number: int) -> None:
        """If it was the one to the parent, another is sought."""
        if number == self._connection:
            self._connection = 0
            self._try_again(self.child.boot)

    def _try_again(self, boot: int) -> None:
        if self.child.host is not None:
            self._parents.turn_to_next(self.child.clock.now_us())
        self._agenda.after(self._random.randrange(*_RECONNECT_US), self._connect, boot)

    def _connect(self, boot: int) -> None:
        child = self.child
        if boot != child.boot or self._connection or child.host is None:
            return
        parent = self._process_at(self._parents.endpoint)
        if not parent.is_up or not self._network.reaches_both_ways(child.node, parent.node):
            self._try_again(boot)
            return
        number, ours = child.new_connection()
        their_number, theirs = parent.new_connection()
        stream = self._network.open_stream(ours, theirs)
        child.opened(number, stream, 0)
        parent.opened(their_number, stream, 1)
        self._connection = number
        child.take(ParentConnected, number)
