"""Keeps one outbound connection alive: connect, say hello, serve, wait, again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import NoReturn, Protocol, TypeAlias

import trio

from shardraft.config import Limits, TransportConfig
from shardraft.errors import ErrorCode, ProtocolError
from shardraft.transport.connection import Connection, Readers
from shardraft.transport.handshake import shake_hands_as_client
from shardraft.transport.notes import ConnectFailed, ConnectionRefused, HandlerFailed, Record
from shardraft.transport.sockets import connect_tcp, why_not_connected
from shardraft.types import Endpoint
from shardraft.wire.hello import Hello, HelloReply

Connect: TypeAlias = Callable[[Endpoint, TransportConfig], Awaitable[trio.abc.Stream]]
"""Opens a stream or raises ``OSError``; resolves the endpoint's name each time."""


class Caller(Protocol):
    """What a dialer tells its owner. ``connected`` and ``disconnected`` come in pairs and must not raise."""

    def connected(self, connection: Connection, reply: HelloReply) -> None:
        """The hello was answered; ``connection`` may be sent to."""
        ...

    def received(self, frames: list[bytes]) -> None:
        """Frames in order. A ``ProtocolError`` from here closes the connection."""
        ...

    def disconnected(self) -> None:
        """The connection is gone; the next attempt follows after a wait."""
        ...


class Dialer:
    """One outbound connection to ``endpoint`` for as long as ``run`` runs.

    ``greeting`` makes the hello of each attempt, ``readers`` says when to read what follows. Between attempts it
    waits from ``reconnect_ms_min``, doubling up to ``reconnect_ms_max``, each wait shortened by up to half at
    ``random``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        greeting: Callable[[], Hello],
        caller: Caller,
        *,
        random: Random,
        limits: Limits,
        timing: TransportConfig,
        record: Record,
        readers: Readers,
        connect: Connect = connect_tcp,
    ) -> None:
        self.endpoint = endpoint
        self._greeting = greeting
        self._caller = caller
        self._random = random
        self._limits = limits
        self._timing = timing
        self._record = record
        self._readers = readers
        self._connect = connect
        self._connection: Connection | None = None
        self._failures = 0

    @property
    def connected(self) -> bool:
        """Whether the hello was answered on a connection that still stands."""
        return self._connection is not None

    def close(self) -> None:
        """Drop the connection, if any; ``run`` connects again."""
        if self._connection is not None:
            self._connection.close()

    async def run(self) -> NoReturn:
        """Connect again and again until cancelled."""
        while True:
            stream = await self._open()
            if stream is not None:
                await self._serve(stream)
            await trio.sleep(self._wait_seconds())

    async def _open(self) -> trio.abc.Stream | None:
        try:
            with trio.fail_after(self._timing.connect_timeout_ms / 1000):
                return await self._connect(self.endpoint, self._timing)
        except (OSError, UnicodeError, trio.TooSlowError) as error:  # UnicodeError: an impossible host name.
            self._failures += 1
            self._record(ConnectFailed(str(self.endpoint), self._failures, why_not_connected(error)))
            return None

    async def _serve(self, stream: trio.abc.Stream) -> None:
        remote = str(self.endpoint)
        connection = Connection(
            stream,
            frame_bytes_max=self._limits.frame_bytes_max,
            outbox_bytes_max=self._limits.outbox_bytes_max,
            timing=self._timing,
            remote=remote,
        )
        self._failures += 1
        try:
            await connection.run(self._converse)
        except ProtocolError as error:
            self._record(ConnectionRefused(remote, error.code, str(error)))
        except Exception as error:
            # What the other side sent must not end this process (DESIGN promise 7).
            self._record(HandlerFailed(remote, error))

    async def _converse(self, connection: Connection) -> None:
        reply = await self._hello(connection)
        self._failures = 0
        self._connection = connection
        self._caller.connected(connection, reply)
        try:
            await connection.serve_frames(self._caller.received, self._readers)
        finally:
            self._connection = None
            self._caller.disconnected()

    async def _hello(self, connection: Connection) -> HelloReply:
        seconds = self._timing.handshake_timeout_ms / 1000
        try:
            with trio.fail_after(seconds):
                return await shake_hands_as_client(connection, self._greeting())
        except trio.TooSlowError:
            text = f"did not answer the hello within {seconds:g} s"
            raise ProtocolError(ErrorCode.DEADLINE_EXCEEDED, text) from None

    def _wait_seconds(self) -> float:
        low, high = self._timing.reconnect_ms_min, self._timing.reconnect_ms_max
        longest = min(low << min(self._failures, 16), high)
        return self._random.uniform(longest / 2, longest) / 1000
