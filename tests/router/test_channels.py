"""What a connection sends and receives through, under both event loops."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from shardraft_router.channels import RECEIVE_BYTES, Channel
from shardraft_router.connection import Outbox
from shardraft_router.waiting import Signal, waiting_here

pytestmark = pytest.mark.anyio

FRAME_BYTES = 100_000
FRAMES = 400
"""More than the buffers of two sockets hold."""


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Channel, SocketStream]]:
    """A channel, and the other end of its connection."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream, await listener.listeners[0].accept() as other:
            yield waiting_here().channel(stream), other


class Narrow:
    """A channel that takes three bytes at once."""

    def __init__(self) -> None:
        self.sent = b""

    def send_at_once(self, data: bytes) -> bytes:
        self.sent += data[:3]
        return data[3:]

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent += data

    async def receive(self) -> bytes:
        raise AssertionError("nothing is received here")


async def test_nothing_overtakes_what_waits() -> None:
    narrow = Narrow()
    outbox = Outbox(narrow, Signal(waiting_here()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.keep_sending)
        for frame in (b"ab", b"cdefg", b"h", b"ij"):
            outbox.put(frame)
        assert narrow.sent == b"abcde"
        await anyio.wait_all_tasks_blocked()
        assert narrow.sent == b"abcdefghij"
        outbox.put(b"klm")
        assert narrow.sent == b"abcdefghijklm"
        tasks.cancel_scope.cancel()


async def test_frames_arrive_in_order_whether_they_go_at_once_or_wait() -> None:
    frames = [bytes([place % 251]) * FRAME_BYTES for place in range(FRAMES)]
    received = bytearray()
    async with connected() as (channel, other), anyio.create_task_group() as tasks:
        outbox = Outbox(channel, Signal(waiting_here()))
        tasks.start_soon(outbox.keep_sending)
        for place, frame in enumerate(frames):
            outbox.put(frame)
            if place % 50 == 49:
                await anyio.wait_all_tasks_blocked()
        assert outbox.busy
        while len(received) < FRAMES * FRAME_BYTES:
            received += await other.receive(1 << 20)
        await anyio.wait_all_tasks_blocked()
        assert not outbox.busy
        outbox.put(b"and then")
        assert await other.receive() == b"and then"
        tasks.cancel_scope.cancel()
    assert received == b"".join(frames)


async def test_under_trio_a_frame_goes_without_any_task(anyio_backend_name: str) -> None:
    async with connected() as (channel, other):
        rest = channel.send_at_once(b"frame")
        if anyio_backend_name == "trio":
            assert rest == b""
            assert await other.receive() == b"frame"
        else:
            assert rest == b"frame"


async def test_a_large_reply_comes_in_parts_that_are_kept() -> None:
    """Each part is the receiver's own, although all come through one buffer."""
    sent = Random(1).randbytes(3 * RECEIVE_BYTES)
    parts: list[bytes] = []
    async with connected() as (channel, other), anyio.create_task_group() as tasks:
        tasks.start_soon(other.send, sent)
        while sum(map(len, parts)) < len(sent):
            parts.append(await channel.receive())
    assert b"".join(parts) == sent
    assert max(map(len, parts)) <= RECEIVE_BYTES


async def test_the_end_and_a_reset_are_told_apart() -> None:
    async with connected() as (channel, other):
        await other.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()
    async with connected() as (channel, other):
        other.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await anyio.aclose_forcefully(other)
        with pytest.raises(anyio.BrokenResourceError):
            await channel.receive()
        assert channel.send_at_once(b"lost") == b"lost"
        with pytest.raises(anyio.BrokenResourceError):
            await channel.send(b"lost")
