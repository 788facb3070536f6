"""What the bytes of a connection go through once it serves, under each event loop.

A stream of anyio sends from a task, which is woken for it and again afterwards, and reads once in vain before it waits.
Under trio the socket itself is used: what it takes at once is sent by whoever has something to send, and it is read
when it is ready. Under asyncio its transport does so already.
"""

from __future__ import annotations

import socket
from typing import Any, Final, Protocol

import anyio
from anyio.abc import ByteStream, SocketAttribute

RECEIVE_BYTES: Final = 256 << 10
"""What one receive takes at most."""


class Channel(Protocol):
    """One connection; one task receives, and one sends what did not go at once. Both raise as anyio's streams do."""

    async def receive(self) -> bytes: ...

    def send_at_once(self, data: bytes) -> bytes:
        """Send without waiting; what is left."""
        ...

    async def send(self, data: bytes) -> None: ...


class StreamChannel:
    """Any stream: nothing goes at once."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.send = stream.send

    async def receive(self) -> bytes:
        return await self._stream.receive(RECEIVE_BYTES)

    def send_at_once(self, data: bytes) -> bytes:
        return data


class SocketChannel:
    """A socket that does not block, whose ``stream`` sends what does not go at once."""

    def __init__(self, stream: ByteStream, wait_readable: Any) -> None:
        self._socket: socket.socket = stream.extra(SocketAttribute.raw_socket)
        self._wait_readable = wait_readable
        # Bytes of that size, made for each receive and cut to what came, would be mapped and unmapped each time.
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self.send = stream.send

    async def receive(self) -> bytes:
        while True:
            await self._wait_readable(self._socket)
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                continue
            except OSError as error:
                raise anyio.BrokenResourceError from error
            if not size:
                raise anyio.EndOfStream
            return bytes(self._buffer[:size])

    def send_at_once(self, data: bytes) -> bytes:
        try:
            sent = self._socket.send(data)
        except OSError:
            return data  # It takes nothing, or is broken: the sending task finds out which.
        return data[sent:] if sent < len(data) else b""
