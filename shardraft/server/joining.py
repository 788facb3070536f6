"""A learner's first start: it asks its parents which cluster it joins, since its data directory must say so."""

from __future__ import annotations

from typing import Final

import trio

from shardraft.errors import ProtocolError
from shardraft.server.options import ServerOptions
from shardraft.server.telemetry import Telemetry
from shardraft.transport.connection import Connection
from shardraft.transport.handshake import shake_hands_as_client
from shardraft.transport.notes import ConnectFailed, ConnectionRefused
from shardraft.transport.sockets import connect_tcp, why_not_connected
from shardraft.types import Endpoint
from shardraft.wire.hello import HELLO_BYTES_MAX, Hello, HelloReply, Role

_WAIT_SECONDS_MIN: Final = 0.1
_WAIT_SECONDS_MAX: Final = 5.0
"""The wait before the parents are asked again doubles from the one to the other."""


async def hear_cluster_id(options: ServerOptions, telemetry: Telemetry) -> bytes:
    """Ask the parents in turn, again and again, until one of them answers."""
    attempt = 0
    wait_seconds = _WAIT_SECONDS_MIN
    while True:
        attempt += 1
        for parent in options.parents:
            try:
                return (await _greet(parent, options)).cluster_id
            except ProtocolError as error:
                telemetry.record_transport(ConnectionRefused(str(parent), error.code, str(error)))
            except (OSError, UnicodeError, trio.TooSlowError) as error:  # UnicodeError: an impossible host name.
                telemetry.record_transport(ConnectFailed(str(parent), attempt, why_not_connected(error)))
        await trio.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, _WAIT_SECONDS_MAX)


async def _greet(parent: Endpoint, options: ServerOptions) -> HelloReply:
    timing = options.config.transport
    replies: list[HelloReply] = []

    async def ask(connection: Connection) -> None:
        replies.append(await shake_hands_as_client(connection, Hello(role=Role.LEARNER, host=options.host)))

    with trio.fail_after(timing.handshake_timeout_ms / 1000):
        stream = await connect_tcp(parent, timing)
        connection = Connection(
            stream,
            frame_bytes_max=HELLO_BYTES_MAX,
            outbox_bytes_max=options.config.limits.outbox_bytes_max,
            timing=timing,
            remote=str(parent),
        )
        await connection.run(ask)
    return replies[0]
