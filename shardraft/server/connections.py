"""Who may connect as what, and what happens to the frames of each: clients, peers and children."""

from __future__ import annotations

import attrs

from shardraft.errors import ErrorCode, ProtocolError, ShardraftError
from shardraft.host.events import (
    ConnectionClosed,
    HostMet,
    PeerConnected,
    PeerDisconnected,
)
from shardraft.host.host import Host
from shardraft.host.met_starts import Start
from shardraft.kv.requests import ErrorReply
from shardraft.runtime.clock import now_us
from shardraft.runtime.inbox import Inbox
from shardraft.runtime.network import Network
from shardraft.server.intake import ClientIntake, Gate, LinkIntake, PeerIntake
from shardraft.server.peer_book import PeerBook
from shardraft.transport.connection import Connection
from shardraft.transport.handshake import check_cluster
from shardraft.types import HostId, Identity
from shardraft.wire.client import encode_reply
from shardraft.wire.hello import Hello, HelloReply, Role


class Connections:
    """Inbound connections of one process. ``admit`` and ``serve`` are what a ``Listener`` asks for.

    Who may speak as a voter host, ``Host.places`` says. While ``gate`` is closed,
    requests are refused as Unavailable, certainly not applied, so that a router takes them elsewhere.
    """

    def __init__(
        self,
        host: Host,
        identity: Identity,
        book: PeerBook,
        inbox: Inbox,
        network: Network,
    ) -> None:
        self._host = host
        self._identity = identity
        self._book = book
        self._inbox = inbox
        self._network = network
        self.gate = Gate()
        self._numbers = 0
        self._peer_links: dict[HostId, int] = {}

    def next_number(self) -> int:
        """A number for one more connection, never used before in this process."""
        self._numbers += 1
        return self._numbers

    def admit(self, hello: Hello) -> HelloReply:
        """Judge a hello (its version is fine); raises ``ProtocolError`` with what the other side is told."""
        check_cluster(hello.cluster_id, self._identity.cluster_id)
        if hello.role is Role.PEER:
            if not self._host.places.welcomes(hello.host, hello.endpoint):
                text = f"host {hello.host} is no voter host of this cluster besides host {self._identity.host}"
                raise ProtocolError(ErrorCode.PERMISSION_DENIED, text)
            self._book.meet(hello.host, Start(hello.incarnation, hello.boot_nonce))
        elif hello.role is Role.LEARNER and (not hello.host or self._host.places.knows(hello.host)):
            text = f"a learner needs an id that no voter host has, not {hello.host}"
            raise ProtocolError(ErrorCode.PERMISSION_DENIED, text)
        identity = self._identity
        return HelloReply(
            cluster_id=identity.cluster_id,
            host=identity.host,
            tier=self._host.tier,
            incarnation=identity.incarnation,
            boot_nonce=identity.boot_nonce,
        )

    async def serve(self, connection: Connection, hello: Hello) -> None:
        """Take in the frames of one connection until it ends."""
        if hello.role is Role.PEER:
            await self._serve_peer(connection, hello.host, hello.endpoint)
            return
        number = self.next_number()
        self._network.connections[number] = connection
        try:
            if hello.role is Role.CLIENT:
                await self._serve_client(connection, number)
            else:
                await self._serve_child(connection, number)
        finally:
            del self._network.connections[number]
            self._inbox.put(ConnectionClosed(now_us(), number))

    async def _serve_peer(self, connection: Connection, host: HostId, endpoint: str) -> None:
        link = self.next_number()
        self._peer_links[host] = link
        if not self._host.places.knows(host):
            self._inbox.put(HostMet(now_us(), host, endpoint))
        self._inbox.put(PeerConnected(now_us(), host))

        try:
            await connection.serve_frames(PeerIntake(self._inbox.put, host).take, self._inbox)
        finally:
            if self._peer_links.get(host) == link:
                # A later connection of the same host may have taken this one's place: then nothing was lost.
                del self._peer_links[host]
                self._inbox.put(PeerDisconnected(now_us(), host))

    async def _serve_client(self, connection: Connection, number: int) -> None:
        def refuse(request_id: int, error: ShardraftError) -> None:
            if not connection.send(encode_reply(ErrorReply(request_id, error))):
                connection.close()  # It does not read its replies.

        intake = ClientIntake(self._inbox.put, number, self.gate, refuse)
        await connection.serve_frames(intake.take, self._inbox)

    async def _serve_child(self, connection: Connection, number: int) -> None:
        await connection.serve_frames(LinkIntake(self._inbox.put, number).take, self._inbox)

    def judge(self, reply: HelloReply, expected: HostId) -> None:
        """Judge the voter host that a dialer reached, as ``admit`` judges one that connects."""
        if reply.host != expected:
            text = f"host {expected} was expected there and host {reply.host} answered: a wrong address?"
            raise ProtocolError(ErrorCode.PERMISSION_DENIED, text)
        self._book.meet(reply.host, Start(reply.incarnation, reply.boot_nonce))


def hello_of(identity: Identity, role: Role, endpoint: str) -> Hello:
    """What this process says when it connects."""
    return attrs.evolve(
        Hello(role=role),
        cluster_id=identity.cluster_id,
        host=identity.host,
        endpoint=endpoint,
        incarnation=identity.incarnation,
        boot_nonce=identity.boot_nonce,
    )
