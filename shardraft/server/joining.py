"""A process's first start in a running cluster: it asks which one it joins, since its data directory must say so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.kv.requests import MapReply, MapRequest
from shardraft.server.options import ServerOptions
from shardraft.server.telemetry import Telemetry
from shardraft.shards.shard_map import ShardMap
from shardraft.transport.connection import Connection
from shardraft.transport.handshake import shake_hands_as_client
from shardraft.transport.notes import ConnectFailed, ConnectionRefused
from shardraft.transport.sockets import connect_tcp, why_not_connected
from shardraft.types import Endpoint
from shardraft.wire.client import decode_reply, encode_request
from shardraft.wire.hello import HELLO_BYTES_MAX, Hello, Role

Heard = TypeVar("Heard")

_WAIT_SECONDS_MIN: Final = 0.1
_WAIT_SECONDS_MAX: Final = 5.0
"""The wait before those that may know are asked again doubles from the one to the other."""


async def hear_cluster_id(options: ServerOptions, telemetry: Telemetry) -> bytes:
    """Ask the parents of a learner in turn, again and again, until one of them answers."""

    async def ask(connection: Connection) -> bytes:
        return (await shake_hands_as_client(connection, Hello(role=Role.LEARNER, host=options.host))).cluster_id

    return await _ask_in_turn(options.parents, HELLO_BYTES_MAX, ask, options, telemetry)


async def hear_shard_map(options: ServerOptions, telemetry: Telemetry) -> ShardMap:
    """Ask the hosts that are to be joined in turn, again and again, until one of them tells the shard map."""

    async def ask(connection: Connection) -> ShardMap:
        await shake_hands_as_client(connection, Hello(role=Role.CLIENT))
        connection.send(encode_request(MapRequest(1)))
        frames = await connection.receive_frames()
        reply = decode_reply(frames[0]) if frames else None
        if not isinstance(reply, MapReply):
            raise ProtocolError(ErrorCode.UNAVAILABLE, "it told no shard map")
        return reply.shard_map

    return await _ask_in_turn(options.join, options.config.limits.frame_bytes_max, ask, options, telemetry)


async def _ask_in_turn(
    endpoints: tuple[Endpoint, ...],
    frame_bytes_max: int,
    ask: Callable[[Connection], Awaitable[Heard]],
    options: ServerOptions,
    telemetry: Telemetry,
) -> Heard:
    attempt = 0
    wait_seconds = _WAIT_SECONDS_MIN
    while True:
        attempt += 1
        for endpoint in endpoints:
            try:
                return await _ask(endpoint, frame_bytes_max, ask, options)
            except ProtocolError as error:
                telemetry.record_transport(ConnectionRefused(str(endpoint), error.code, str(error)))
            except (OSError, UnicodeError, trio.TooSlowError) as error:  # UnicodeError: an impossible host name.
                telemetry.record_transport(ConnectFailed(str(endpoint), attempt, why_not_connected(error)))
        await trio.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, _WAIT_SECONDS_MAX)


async def _ask(
    endpoint: Endpoint,
    frame_bytes_max: int,
    ask: Callable[[Connection], Awaitable[Heard]],
    options: ServerOptions,
) -> Heard:
    timing = options.config.transport
    heard: list[Heard] = []

    async def converse(connection: Connection) -> None:
        heard.append(await ask(connection))

    with trio.fail_after(timing.handshake_timeout_ms / 1000):
        stream = await connect_tcp(endpoint, timing)
        connection = Connection(
            stream,
            frame_bytes_max=frame_bytes_max,
            outbox_bytes_max=options.config.limits.outbox_bytes_max,
            timing=timing,
            remote=str(endpoint),
        )
        await connection.run(converse)
    return heard[0]
