"""What the tests of the transport share: small frames, connections over memory, a record of notes."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio
import trio.testing

from shardraft.config import Limits, TransportConfig
from shardraft.kv.requests import StatusRequest
from shardraft.transport.connection import Connection
from shardraft.transport.listener import Handler, Listener
from shardraft.transport.notes import TransportNote
from shardraft.wire.client import encode_request
from shardraft.wire.hello import Hello, HelloReply, Role, decode_hello_reply, encode_hello

CLUSTER = b"c" * 16
TIMING = TransportConfig()
FRAMES = [encode_request(StatusRequest(number)) for number in range(5)]
LARGE = 1 << 20


def connection_over(
    stream: trio.abc.Stream, *, outbox_bytes_max: int = LARGE, frame_bytes_max: int = LARGE
) -> Connection:
    return Connection(stream, frame_bytes_max=frame_bytes_max, outbox_bytes_max=outbox_bytes_max, timing=TIMING)


class RoomForAll:
    """Readers of streams that read themselves, and may go on at once. ``rooms`` counts how often they asked."""

    def __init__(self) -> None:
        self.rooms = 0

    def add(self, fd: int, read: Callable[[], None]) -> None:
        raise AssertionError(f"a stream in memory has no file descriptor, and not {fd}")

    def remove(self, fd: int) -> None:
        raise AssertionError(f"a stream in memory has no file descriptor, and not {fd}")

    async def room(self) -> None:
        self.rooms += 1
        await trio.lowlevel.checkpoint()


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    received = bytearray()
    async for piece in stream:
        received += piece
    return bytes(received)


def admit_everybody(_: Hello) -> HelloReply:
    return HelloReply(cluster_id=CLUSTER, host=1)


async def echo(connection: Connection, _: Hello) -> None:
    while frames := await connection.receive_frames():
        for frame in frames:
            connection.send(frame)


class NobodyCalls(trio.abc.Listener[trio.abc.Stream]):
    """A listener at which nobody ever arrives: connections are handed to the server directly."""

    async def accept(self) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError("never woken")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@attrs.define
class Server:
    """A listener served in a nursery over memory streams."""

    nursery: trio.Nursery
    listener: Listener
    notes: list[TransportNote]

    def dial(self) -> trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]:
        """The client's side of one more connection."""
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.listener.serve_stream, theirs)
        return ours

    async def greeted(self, role: Role = Role.CLIENT) -> Connection:
        """A connection whose hello was answered; its writer runs in the nursery."""
        connection = connection_over(self.dial())
        self.nursery.start_soon(connection.run_writer)
        connection.send(encode_hello(Hello(role=role)))
        answer, *rest = await connection.receive_frames()
        assert decode_hello_reply(answer).error is None
        if rest:
            connection.unread(rest)
        return connection


def server_in(
    nursery: trio.Nursery, handle: Handler = echo, limits: Limits | None = None, timing: TransportConfig = TIMING
) -> Server:
    notes: list[TransportNote] = []
    listener = Listener(admit_everybody, handle, limits=limits or Limits(), timing=timing, record=notes.append)
    return Server(nursery, listener, notes)
