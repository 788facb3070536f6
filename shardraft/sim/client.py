"""One simulated client: the router's own core, with connections that are simulated streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any, Final, Protocol

from shardraft.kv.requests import ClientRequest
from shardraft.sim.clock import Agenda, DriftingClock
from shardraft.sim.network import Network, Node, Stream, StreamEnd
from shardraft.sim.process import Process
from shardraft_router.core import NEVER_US, RouterCore
from shardraft_router.core.calls import Call

_RETRY_US: Final = (50_000, 250_000)
"""The wait between two attempts to connect to one endpoint."""


class Directory(Protocol):
    """Where endpoints are."""

    def process_at(self, endpoint: str) -> Process:
        """The process that listens at ``endpoint`` while it is up."""
        ...


class SimClient:
    """Drives one ``RouterCore``, as its package describes the driver's loop.

    ``on_completed`` hears of each call that is done; ``on_input`` of what the core takes in, right before.
    """

    def __init__(
        self,
        node: Node,
        core: RouterCore,
        agenda: Agenda,
        random: Random,
        clock: DriftingClock,
        network: Network,
        directory: Directory,
        on_completed: Callable[[Call], None],
        on_input: Callable[[Node, object], None],
    ) -> None:
        self.node = node
        self.core = core
        self.clock = clock
        self._agenda = agenda
        self._random = random
        self._network = network
        self._directory = directory
        self._on_completed = on_completed
        self._on_input = on_input
        self._streams: dict[str, Stream | None] = {}
        """Wanted endpoints; None while there is no connection."""
        self._wake_us: int | None = None
        self._wake_deadline_us = 0
        """The deadline for which it will wake then, on its own clock."""

    def pump(self) -> None:
        """Let the core say what it wants, and do it. Call it after any input."""
        core = self.core
        now_us = self.clock.now_us()
        core.flush(now_us)
        output = core.take()
        for endpoint in output.drops:
            self._drop(endpoint)
        for endpoint, request in output.requests:
            self._send(endpoint, request)
        if output.wanted is not None:
            self._connect_to_exactly(output.wanted)
        for call in output.completed:
            self._on_completed(call)
        self._look_ahead()

    def _look_ahead(self) -> None:
        deadline_us = self.core.next_deadline_us
        if deadline_us >= NEVER_US:
            return
        if self._wake_us is not None and deadline_us >= self._wake_deadline_us:
            return
        world_us = max(self.clock.world_us(deadline_us), self._agenda.now_us)
        if self._wake_us is None or world_us < self._wake_us:
            self._wake_us, self._wake_deadline_us = world_us, deadline_us
            self._agenda.at(world_us, self._wake, world_us)

    def _wake(self, wake_us: int) -> None:
        if wake_us != self._wake_us:
            return
        self._wake_us = None
        self.core.tick(self.clock.now_us())
        self.pump()

    # Connections.

    def _connect_to_exactly(self, wanted: Iterable[str]) -> None:
        kept = dict.fromkeys(wanted)
        for endpoint in [each for each in self._streams if each not in kept]:
            stream = self._streams.pop(endpoint)
            if stream is not None:
                stream.close(0)
                self.core.host_disconnected(endpoint, self.clock.now_us(), "not wanted any more")
        for endpoint in kept:
            if endpoint not in self._streams:
                self._streams[endpoint] = None
                self._connect(endpoint)

    def _connect(self, endpoint: str) -> None:
        node = self._directory.process_at(endpoint).node
        delay_us = self._network.delay_us((self.node, node)) + self._network.delay_us((node, self.node))
        if not self._network.reaches_both_ways(self.node, node):
            delay_us = self._network.notice_us()
        self._agenda.after(delay_us, self._connected, endpoint)

    def _connected(self, endpoint: str) -> None:
        if self._streams.get(endpoint, self) is not None:
            return  # It is not wanted any more, or another attempt was faster.
        process = self._directory.process_at(endpoint)
        now_us = self.clock.now_us()
        if not process.is_up or not self._network.reaches_both_ways(self.node, process.node):
            self.core.host_disconnected(endpoint, now_us, "connection refused")
            self._agenda.after(self._random.randrange(*_RETRY_US), self._try_again, endpoint)
            self.pump()
            return
        number, theirs = process.new_connection()
        ours = StreamEnd(self.node, partial(self._received, endpoint), partial(self._closed, endpoint))
        stream = self._streams[endpoint] = self._network.open_stream(ours, theirs)
        process.opened(number, stream, 1)
        assert process.host is not None
        self._on_input(self.node, process.node)
        self.core.host_connected(endpoint, process.node, process.host.tier, now_us)
        self.pump()

    def _try_again(self, endpoint: str) -> None:
        if self._streams.get(endpoint, self) is None:
            self._connect(endpoint)

    def _send(self, endpoint: str, request: ClientRequest) -> None:
        stream = self._streams.get(endpoint)
        assert stream is not None, f"the core sent to {endpoint}, which is not connected"
        stream.send(0, request)

    def _received(self, endpoint: str, replies: Any) -> None:
        now_us = self.clock.now_us()
        for reply in replies:
            self._on_input(self.node, reply)
            self.core.received(endpoint, reply, now_us)
        self.pump()

    def _closed(self, endpoint: str) -> None:
        if self._streams.get(endpoint) is None:
            return
        self._streams[endpoint] = None
        self.core.host_disconnected(endpoint, self.clock.now_us())
        self._agenda.after(self._random.randrange(*_RETRY_US), self._try_again, endpoint)
        self.pump()

    def _drop(self, endpoint: str) -> None:
        """The core gave the host up and counts it as disconnected already."""
        stream = self._streams.get(endpoint)
        if stream is not None:
            stream.close(0)
            self._streams[endpoint] = None
            self._agenda.after(self._random.randrange(*_RETRY_US), self._try_again, endpoint)
