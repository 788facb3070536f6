"""Accepts connections and serves each in its own task; no fault of one reaches another (DESIGN promise 7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NoReturn, TypeAlias

import trio

from shardraft.config import Limits, TransportConfig
from shardraft.errors import ErrorCode, ProtocolError
from shardraft.kv.requests import ErrorReply
from shardraft.transport.connection import Connection
from shardraft.transport.handshake import Admission, refuse, shake_hands_as_server
from shardraft.transport.notes import ConnectionRefused, HandlerFailed, Record
from shardraft.transport.sockets import remote_name, tune
from shardraft.wire.client import encode_reply, refusal_of
from shardraft.wire.hello import HELLO_BYTES_MAX, Hello, Role

Handler: TypeAlias = Callable[[Connection, Hello], Awaitable[None]]
"""Serves one connection whose hello was admitted, until it returns or the connection ends (it is then cancelled)."""


class Listener:
    """Serves connections: ``admit`` decides about a hello, ``handle`` does the rest.

    ``Limits`` bounds the number of connections, their frames and their outboxes; ``TransportConfig`` how
    long a hello and a frame may take. A ``ProtocolError`` from ``handle`` is told to a client before the
    close; any other exception is a fault of this program and still ends only this connection.
    """

    def __init__(
        self, admit: Admission, handle: Handler, *, limits: Limits, timing: TransportConfig, record: Record
    ) -> None:
        self._admit = admit
        self._handle = handle
        self._limits = limits
        self._timing = timing
        self._record = record
        self._accepting = trio.CancelScope()
        self._connections: dict[int, Connection] = {}
        self._clients: set[Connection] = set()
        self._accepted = 0
        self._refusing = 0

    @property
    def connections(self) -> int:
        """Connections being served."""
        return len(self._connections)

    async def serve(
        self,
        listeners: list[trio.abc.Listener[trio.abc.Stream]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve until ``stop`` or cancellation; closes the listeners. Returns once all connections ended."""
        async with trio.open_nursery() as handlers:
            with self._accepting:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._close_slow_ones)
                    accept = partial(trio.serve_listeners, handler_nursery=handlers)
                    await nursery.start(accept, self.serve_stream, listeners)
                    task_status.started()

    def stop(self) -> None:
        """Accept nothing more, and close every connection once what is queued for it has left."""
        self._accepting.cancel()
        for connection in self._connections.values():
            connection.close()

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one accepted stream to its end; raises nothing but cancellation."""
        connection = self._connection(stream)
        if self._accepting.cancel_called:
            await connection.aclose()
            return
        if len(self._connections) >= self._limits.connections_max:
            await self._turn_away(connection)
            return
        number = self._accepted
        self._accepted += 1
        self._connections[number] = connection
        try:
            await connection.run(self._converse)
        except ProtocolError as error:
            self._record(ConnectionRefused(connection.remote, error.code, str(error)))
        except Exception as error:
            # Whatever a stranger's bytes provoke must not end the process (DESIGN promise 7).
            self._record(HandlerFailed(connection.remote, error))
        finally:
            del self._connections[number]

    def _connection(self, stream: trio.abc.Stream) -> Connection:
        if isinstance(stream, trio.SocketStream):
            tune(stream, self._timing)
        return Connection(
            stream,
            frame_bytes_max=HELLO_BYTES_MAX,
            outbox_bytes_max=self._limits.outbox_bytes_max,
            timing=self._timing,
            remote=remote_name(stream),
        )

    async def _converse(self, connection: Connection) -> None:
        hello = await self._hello(connection)
        connection.set_frame_bytes_max(self._limits.frame_bytes_max)
        if hello.role is Role.CLIENT:
            self._clients.add(connection)
        try:
            await self._handle(connection, hello)
        except ProtocolError as error:
            if connection in self._clients:
                connection.send(_last_words(error))
            raise
        finally:
            self._clients.discard(connection)

    async def _hello(self, connection: Connection) -> Hello:
        seconds = self._timing.handshake_timeout_ms / 1000
        try:
            with trio.fail_after(seconds):
                return await shake_hands_as_server(connection, self._admit)
        except trio.TooSlowError:
            error = ProtocolError(ErrorCode.DEADLINE_EXCEEDED, f"said no hello within {seconds:g} s")
            refuse(connection, error)
            raise error from None

    async def _turn_away(self, connection: Connection) -> None:
        limit = self._limits.connections_max
        error = ProtocolError(ErrorCode.OVERLOADED, f"this host has its limit of {limit} connections")
        self._record(ConnectionRefused(connection.remote, error.code, str(error)))
        if self._refusing >= self._timing.refusals_max:
            await connection.aclose()
            return

        async def say_so(connection: Connection) -> None:
            refuse(connection, error)

        self._refusing += 1
        try:
            await connection.run(say_so)
        finally:
            self._refusing -= 1

    async def _close_slow_ones(self) -> NoReturn:
        """One task for all connections, since a timeout per receive would cost more than the receive."""
        seconds = self._timing.frame_timeout_ms / 1000
        while True:
            await trio.sleep(seconds / 4)
            began_before = trio.current_time() - seconds
            for connection in list(self._connections.values()):
                since = connection.incomplete_since
                if since is not None and since <= began_before:
                    text = f"a frame was not complete within {seconds:g} s"
                    fault = ProtocolError(ErrorCode.DEADLINE_EXCEEDED, text)
                    connection.fail(fault, _last_words(fault) if connection in self._clients else b"")


def _last_words(fault: ProtocolError) -> bytes:
    """A client is told why its connection ends; hosts and learners find it in the log of the one that closes."""
    return encode_reply(ErrorReply(0, refusal_of(fault)))
