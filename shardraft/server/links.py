"""Outbound connections of one process: to every other voter host, or to a learner's parent."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import attrs
import trio

from shardraft.config import HostConfig
from shardraft.errors import ErrorCode, ProtocolError
from shardraft.host.events import ConnectionClosed, ParentConnected
from shardraft.learner.parents import Parents
from shardraft.runtime.clock import now_us
from shardraft.runtime.inbox import Inbox
from shardraft.runtime.network import Network
from shardraft.server.connections import Connections
from shardraft.server.intake import LinkIntake
from shardraft.server.telemetry import Telemetry
from shardraft.shards.shard_map import HostPlace
from shardraft.transport.connection import Connection
from shardraft.transport.dialer import Caller, Dialer
from shardraft.transport.notes import ConnectFailed, ConnectionRefused, Record, TransportNote
from shardraft.types import Endpoint, HostId
from shardraft.wire.hello import Hello, HelloReply


@attrs.frozen(slots=True)
class Surroundings:
    """What a link needs of the process that it belongs to. ``greeting`` makes the hello of each attempt."""

    connections: Connections
    inbox: Inbox
    network: Network
    greeting: Callable[[], Hello]
    config: HostConfig
    random: Random
    telemetry: Telemetry

    def dialer(self, endpoint: Endpoint, caller: Caller, greeting: Callable[[], Hello], record: Record) -> Dialer:
        """What keeps the link connected."""
        config = self.config
        return Dialer(
            endpoint,
            greeting,
            caller,
            random=self.random,
            limits=config.limits,
            timing=config.transport,
            record=record,
            readers=self.inbox,
        )


class PeerLink:
    """This host's messages to one other voter host; what comes back is the hello's answer and nothing else.

    ``on_stale`` is called with a sentence when the peer says that this host's own disk is not the newest.
    """

    def __init__(
        self, host: HostId, endpoint: Endpoint, surroundings: Surroundings, on_stale: Callable[[str], None]
    ) -> None:
        self._host = host
        self._surroundings = surroundings
        self._on_stale = on_stale
        self._answered = False
        self._connection: Connection | None = None
        self._dialer = surroundings.dialer(endpoint, self, self._greeting, self._note)
        self.run = self._dialer.run

    def connected(self, connection: Connection, reply: HelloReply) -> None:
        self._answered = True
        try:
            self._surroundings.connections.judge(reply, self._host)
        except ProtocolError as error:
            connection.fail(error)
            return
        self._connection = connection
        self._surroundings.network.peers[self._host] = connection
        self._surroundings.telemetry.say("peer-connected", peer=self._host, remote=connection.remote)

    def received(self, frames: list[bytes]) -> None:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "a voter host answers on its own connection")

    def disconnected(self) -> None:
        if self._connection is not None:
            peers = self._surroundings.network.peers
            if peers.get(self._host) is self._connection:  # And not one that a later link made.
                del peers[self._host]
            self._connection = None
            self._surroundings.telemetry.say("peer-disconnected", peer=self._host)

    def _greeting(self) -> Hello:
        self._answered = False
        return self._surroundings.greeting()

    def _note(self, note: TransportNote) -> None:
        self._surroundings.telemetry.record_transport(note)
        # The same code after the hello was answered comes from ``judge``, is about the peer's disk, and is no
        # reason to stop.
        if isinstance(note, ConnectionRefused) and note.code is ErrorCode.STALE_DISK and not self._answered:
            self._on_stale(note.text)


class PeerLinks:
    """A link to each other voter host that there is at the moment; ``connect_to`` says which these are.

    ``on_stale`` is called with a sentence when one of them says that this host's own disk is not the newest.
    """

    def __init__(self, surroundings: Surroundings, on_stale: Callable[[str], None]) -> None:
        self._surroundings = surroundings
        self._on_stale = on_stale
        self._nursery: trio.Nursery | None = None
        self._places: tuple[HostPlace, ...] = ()
        self._scopes: dict[HostPlace, trio.CancelScope] = {}

    async def run(self) -> None:
        """Keep the links until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._follow()
            await trio.sleep_forever()

    def connect_to(self, places: tuple[HostPlace, ...]) -> None:
        """These are all the other hosts from now on; links to hosts, or places, that are gone end."""
        self._places = places
        self._follow()

    def _follow(self) -> None:
        if self._nursery is None:
            return
        for place in [place for place in self._scopes if place not in self._places]:
            self._scopes.pop(place).cancel()
        for place in self._places:
            if place not in self._scopes:
                self._start(place, self._nursery)

    def _start(self, place: HostPlace, nursery: trio.Nursery) -> None:
        try:
            endpoint = Endpoint.of(place.endpoint)
        except ValueError as error:  # It was said by another host, or by an operator.
            self._surroundings.telemetry.warn("peer-place-refused", peer=place.host, reason=str(error))
            return
        link = PeerLink(place.host, endpoint, self._surroundings, self._on_stale)
        scope = self._scopes[place] = trio.CancelScope()

        async def keep() -> None:
            with scope:
                await link.run()

        nursery.start_soon(keep)


class ParentLink:
    """A learner's link to its parent, both ways; the next of ``parents`` is tried when one is gone or refuses."""

    def __init__(self, parents: Parents, surroundings: Surroundings) -> None:
        self._parents = parents
        self._surroundings = surroundings
        self._number = 0
        self._intake = LinkIntake(surroundings.inbox.put, 0)
        self._dialer = surroundings.dialer(Endpoint.of(parents.endpoint), self, surroundings.greeting, self._note)
        self.run = self._dialer.run

    def connected(self, connection: Connection, reply: HelloReply) -> None:
        around = self._surroundings
        self._number = around.connections.next_number()
        self._intake = LinkIntake(around.inbox.put, self._number)
        around.network.connections[self._number] = connection
        around.inbox.put(ParentConnected(now_us(), self._number))

    def received(self, frames: list[bytes]) -> None:
        self._intake.take(frames)

    def disconnected(self) -> None:
        around = self._surroundings
        del around.network.connections[self._number]
        around.inbox.put(ConnectionClosed(now_us(), self._number))
        self._try_next()

    def _note(self, note: TransportNote) -> None:
        self._surroundings.telemetry.record_transport(note)
        # Of a connection that came to be, ``disconnected`` was told first and has chosen the next already.
        if isinstance(note, ConnectFailed | ConnectionRefused) and note.remote == str(self._dialer.endpoint):
            self._try_next()

    def _try_next(self) -> None:
        self._parents.turn_to_next(now_us())
        try:
            self._dialer.endpoint = Endpoint.of(self._parents.endpoint)
        except ValueError as error:  # Another host said it. The attempt at the former one leads on to the next.
            self._surroundings.telemetry.warn("parent-place-refused", reason=str(error))
