"""One connection to one endpoint, made again and again for as long as it is wanted."""

from __future__ import annotations

import os
from random import Random
from typing import Final, Protocol

import anyio
from anyio.abc import ByteStream

from shardraft.errors import ProtocolError
from shardraft.kv.requests import ClientReply
from shardraft.types import Endpoint
from shardraft.wire.client import decode_reply
from shardraft.wire.framing import FrameDecoder
from shardraft.wire.hello import HELLO_BYTES_MAX, Hello, Role, decode_hello_reply, encode_hello
from shardraft_router.channels import Channel
from shardraft_router.endpoints import parse_endpoint
from shardraft_router.waiting import Child, Signal

FRAME_BYTES_MAX: Final = 16 << 20
"""A longer reply closes the connection."""
CONNECT_SECONDS_MAX: Final = 2.0
"""An attempt to connect and say hello that takes longer has failed."""
RETRY_SECONDS_MIN: Final = 0.02
RETRY_SECONDS_MAX: Final = 1.0
"""The wait before the next attempt to connect doubles from the one to the other, each time jittered."""


class ConnectionOwner(Protocol):
    """Who hears what happens on a connection."""

    random: Random

    @property
    def cluster_id(self) -> bytes:
        """The cluster that is looked for; empty while it is not known."""
        ...

    def signal(self) -> Signal:
        """A signal of this event loop."""
        ...

    def channel(self, stream: ByteStream) -> Channel:
        """The cheapest way to send and receive on ``stream`` in this event loop."""
        ...

    def guarded(self, child: Child) -> Child:
        """``child`` as a task of this event loop that no Ctrl-C is raised in."""
        ...

    def interrupt(self) -> None:
        """Pass a Ctrl-C on to the program's main task."""
        ...

    def connected(self, connection: Connection, host: int, tier: int) -> None: ...

    def received(self, connection: Connection, replies: list[ClientReply]) -> None: ...

    def disconnected(self, connection: Connection, reason: str) -> None: ...


class Outbox:
    """Frames that go at once, or wait for the writer. The core bounds them: so many batches and reads are in flight."""

    __slots__ = ("busy", "channel", "filled", "frames")

    def __init__(self, channel: Channel, filled: Signal) -> None:
        self.channel = channel
        self.frames: list[bytes] = []
        self.filled = filled
        self.busy = False
        """Something waits for the writer, so what comes after it does too."""

    def put(self, frames: bytes) -> None:
        rest = frames if self.busy else self.channel.send_at_once(frames)
        if rest:
            self.busy = True
            self.frames.append(rest)
            self.filled.set()

    async def keep_sending(self) -> None:
        while True:
            await self.filled.wait()
            while self.frames:
                frames, self.frames = self.frames, []
                await self.channel.send(b"".join(frames))
            self.busy = False


class Connection:
    """Keeps one endpoint connected: one task reads, one writes. The owner never waits for either."""

    def __init__(self, endpoint: str, owner: ConnectionOwner) -> None:
        self.endpoint = endpoint
        self._owner = owner
        self._outbox: Outbox | None = None
        self._life = anyio.CancelScope()
        self._session: anyio.CancelScope | None = None
        self._reason = ""

    def send(self, frames: bytes) -> None:
        """Send requests; only between ``connected`` and ``disconnected``."""
        assert self._outbox is not None, f"{self.endpoint} is not connected"
        self._outbox.put(frames)

    def drop(self) -> None:
        """Close the connection, which the owner counts as disconnected already, and connect anew."""
        self._outbox = None
        if self._session is not None:
            self._session.cancel()

    def close(self) -> None:
        """It is not wanted any more; nothing is reported from here on."""
        self._outbox = None
        self._life.cancel()

    async def keep(self) -> None:
        """Stay connected until closed."""
        failures = 0
        with self._life:
            while True:
                self._reason = "the connection closed"
                if await self._connect_and_serve():
                    failures = 0
                failures += 1
                await anyio.sleep(self._retry_seconds(failures))

    def _retry_seconds(self, failures: int) -> float:
        longest: float = min(RETRY_SECONDS_MIN * 2 ** min(failures - 1, 16), RETRY_SECONDS_MAX)
        return longest * (0.5 + self._owner.random.random() / 2)

    async def _connect_and_serve(self) -> bool:
        """Whether a connection came to be before it ended."""
        try:
            with anyio.fail_after(CONNECT_SECONDS_MAX):
                stream, host, tier = await self._connect()
        except TimeoutError:
            self._reason = f"no answer within {CONNECT_SECONDS_MAX:g} s"
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, ProtocolError) as error:
            self._reason = describe(error)
        else:
            await self._serve(stream, host, tier)
            return True
        self._owner.disconnected(self, self._reason)
        return False

    async def _connect(self) -> tuple[ByteStream, int, int]:
        """A connection, and the host and tier at its other end."""
        place = parse_endpoint(self.endpoint)
        stream = await self._reach(place)
        try:
            host, tier = await self._say_hello(stream)
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise
        return stream, host, tier

    async def _reach(self, place: Endpoint) -> ByteStream:
        try:
            return await anyio.connect_tcp(place.host, place.port)
        except* KeyboardInterrupt:
            self._owner.interrupt()  # The attempts are tasks of anyio's own, which are not guarded.
        raise OSError("interrupted")

    async def _say_hello(self, stream: ByteStream) -> tuple[int, int]:
        """The host and tier at the other end."""
        await stream.send(encode_hello(Hello(role=Role.CLIENT, cluster_id=self._owner.cluster_id)))
        decoder = FrameDecoder(HELLO_BYTES_MAX)
        frames: list[bytes] = []
        while not frames:
            frames = decoder.feed(await stream.receive())
        reply = decode_hello_reply(frames[0])
        if reply.error is not None:
            raise ProtocolError(reply.error.code, reply.error.text)
        return reply.host, reply.tier

    async def _serve(self, stream: ByteStream, host: int, tier: int) -> None:
        channel = self._owner.channel(stream)
        outbox = self._outbox = Outbox(channel, self._owner.signal())
        try:
            async with anyio.create_task_group() as tasks:
                self._session = tasks.cancel_scope
                tasks.start_soon(self._owner.guarded(self._write), outbox, tasks.cancel_scope)
                self._owner.connected(self, host, tier)
                await self._read(channel)
                # Told before anything is awaited, so that nothing more is sent into a closed connection.
                self._end(outbox)
                tasks.cancel_scope.cancel()
        finally:
            self._session = None
            await anyio.aclose_forcefully(stream)

    def _end(self, outbox: Outbox) -> None:
        """Report the end of a connection, once, unless the owner itself ended it."""
        if self._outbox is outbox:
            self._outbox = None
            self._owner.disconnected(self, self._reason)

    async def _read(self, channel: Channel) -> None:
        """Hand over replies until the connection fails or the host sends what no host sends."""
        decoder = FrameDecoder(FRAME_BYTES_MAX)
        try:
            while True:
                frames = decoder.feed(await channel.receive())
                if frames:
                    self._owner.received(self, [decode_reply(frame) for frame in frames])
        except (anyio.EndOfStream, anyio.BrokenResourceError, ProtocolError) as error:
            self._reason = describe(error)

    async def _write(self, outbox: Outbox, session: anyio.CancelScope) -> None:
        try:
            await outbox.keep_sending()
        except anyio.BrokenResourceError as error:
            self._reason = describe(error)
            self._end(outbox)
            session.cancel()


def describe(error: Exception) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, anyio.EndOfStream):
        return "the host closed the connection"
    cause: BaseException = error
    while (deeper := cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__) is not None:
        cause = deeper
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)  # Each library has a longer text of its own for the same.
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
