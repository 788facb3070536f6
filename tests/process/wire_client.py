"""A client of one endpoint on a blocking socket: what a program without the router would send, good or bad."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from shardraft.kv.requests import ClientReply, ClientRequest
from shardraft.types import Endpoint
from shardraft.wire.client import decode_reply, encode_request
from shardraft.wire.framing import FrameDecoder
from shardraft.wire.hello import Hello, HelloReply, Role, decode_hello_reply, encode_hello

ANSWER_SECONDS_MAX = 15.0
FRAME_BYTES_MAX = 16 << 20


class WireClient:
    """One connection. Nothing is said before ``hello``; every wait is bounded."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._socket = socket.create_connection((endpoint.host, endpoint.port), ANSWER_SECONDS_MAX)
        self._decoder = FrameDecoder(FRAME_BYTES_MAX)
        self._frames: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def end(self) -> None:
        """Say that nothing more follows, while still listening."""
        self._socket.shutdown(socket.SHUT_WR)

    def frame(self) -> bytes:
        """The next frame; fails when the other side closes instead."""
        while not self._frames:
            data = self._socket.recv(1 << 16)
            assert data, "the host closed the connection"
            self._frames = self._decoder.feed(data)
        return self._frames.pop(0)

    def is_closed(self) -> bool:
        """Wait until the host says something or closes; whether it closed."""
        try:
            return not self._frames and self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def say_hello(self, hello: Hello) -> HelloReply:
        self.send(encode_hello(hello))
        return decode_hello_reply(self.frame())

    def hello(self) -> Self:
        """Be an ordinary client from here on."""
        assert self.say_hello(Hello(role=Role.CLIENT)).error is None
        return self

    def ask(self, request: ClientRequest) -> ClientReply:
        self.send(encode_request(request))
        return self.reply()

    def reply(self) -> ClientReply:
        return decode_reply(self.frame())


def ask(endpoint: Endpoint, request: ClientRequest) -> ClientReply:
    """One request on a connection of its own."""
    with WireClient(endpoint) as client:
        return client.hello().ask(request)
