"""Outbound connections of one process: to every other voter host, or to a learner's parent."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from shardraft.config import HostConfig
from shardraft.errors import ErrorCode, ProtocolError
from shardraft.host.events import ConnectionClosed, LinkFrameReceived, ParentConnected
from shardraft.runtime.clock import now_us
from shardraft.runtime.inbox import Inbox
from shardraft.runtime.network import Network
from shardraft.server.connections import Connections
from shardraft.transport.connection import Connection
from shardraft.transport.dialer import Dialer
from shardraft.transport.notes import ConnectFailed, ConnectionRefused, Record, TransportNote
from shardraft.types import Endpoint, HostId
from shardraft.wire.hello import Hello, HelloReply
from shardraft.wire.peer import decode_link_frame


class PeerLink:
    """This host's messages to one other voter host; what comes back is the hello's answer and nothing else.

    ``on_stale`` is called with a sentence when the peer says that this host's own disk is not the newest.
    """

    def __init__(
        self,
        host: HostId,
        endpoint: Endpoint,
        connections: Connections,
        greeting: Callable[[], Hello],
        config: HostConfig,
        random: Random,
        record: Record,
        on_stale: Callable[[str], None],
    ) -> None:
        self._host = host
        self._connections = connections
        self._record = record
        self._on_stale = on_stale
        self._judged = False
        self._dialer = Dialer(
            endpoint,
            greeting,
            self,
            random=random,
            limits=config.limits,
            timing=config.transport,
            record=self._note,
        )
        self.run = self._dialer.run

    def send(self, data: bytes) -> bool:
        """Queue whole frames for the peer; False when they are lost."""
        return self._judged and self._dialer.send(data)

    def connected(self, connection: Connection, reply: HelloReply) -> None:
        try:
            self._connections.judge(reply, self._host)
        except ProtocolError as error:
            connection.fail(error)
        else:
            self._judged = True

    async def received(self, frames: list[bytes]) -> None:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "a voter host answers on its own connection")

    def disconnected(self) -> None:
        self._judged = False

    def _note(self, note: TransportNote) -> None:
        self._record(note)
        # A peer that refuses this host for a stale disk says so in the answer to the hello; the same code about
        # the peer's own disk comes from ``judge``, after the hello, and is no reason to stop.
        if isinstance(note, ConnectionRefused) and note.code is ErrorCode.STALE_DISK and "refused the hello" in note.text:
            self._on_stale(note.text)


class ParentLink:
    """A learner's link to its parent, both ways; the next of ``parents`` is tried when one is gone or refuses."""

    def __init__(
        self,
        parents: tuple[Endpoint, ...],
        connections: Connections,
        inbox: Inbox,
        network: Network,
        greeting: Callable[[], Hello],
        config: HostConfig,
        random: Random,
        record: Record,
    ) -> None:
        self._parents = parents
        self._place = 0
        self._connections = connections
        self._inbox = inbox
        self._network = network
        self._record = record
        self._number = 0
        self._dialer = Dialer(
            parents[0], greeting, self, random=random, limits=config.limits, timing=config.transport, record=self._note
        )
        self.run = self._dialer.run

    def connected(self, connection: Connection, reply: HelloReply) -> None:
        self._number = self._connections.next_number()
        self._network.connections[self._number] = connection
        self._inbox.put(ParentConnected(now_us(), self._number))

    async def received(self, frames: list[bytes]) -> None:
        time_us = now_us()
        for frame in frames:
            self._inbox.put(LinkFrameReceived(time_us, self._number, decode_link_frame(frame)))
        await self._inbox.room()

    def disconnected(self) -> None:
        del self._network.connections[self._number]
        self._inbox.put(ConnectionClosed(now_us(), self._number))
        self._try_next()

    def _note(self, note: TransportNote) -> None:
        self._record(note)
        if isinstance(note, ConnectFailed | ConnectionRefused):
            self._try_next()

    def _try_next(self) -> None:
        self._place = (self._place + 1) % len(self._parents)
        self._dialer.endpoint = self._parents[self._place]
