"""One connection: frames in, a bounded outbox out, and an end that is the same whoever caused it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

import outcome
import trio
from trio.abc import HalfCloseableStream, Stream

from shardraft.config import TransportConfig
from shardraft.errors import ProtocolError
from shardraft.wire.framing import FrameDecoder

RECEIVE_BYTES: Final = 64 << 10
"""What one receive takes at most."""
_DRAIN_BYTES_MAX: Final = 1 << 20

_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class Readers(Protocol):
    """Calls those who read when there is something to read for them."""

    def add(self, fd: int, read: Callable[[], None]) -> None:
        """Call ``read`` whenever the socket ``fd`` is readable, or at its end."""
        ...

    def remove(self, fd: int) -> None:
        """Call nobody for ``fd`` any more; twice is once."""
        ...

    async def room(self) -> None:
        """Wait until more may be read: for streams that are no sockets and read themselves."""
        ...


class Connection:
    """Frames over any stream. One task receives, ``run`` sends; any task may ``send`` and ``close``.

    ``remote`` names the other side for a person. ``bytes_received`` and ``bytes_sent`` count.
    ``incomplete_since`` is the trio time at which the frame that is not complete yet began, or None.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        frame_bytes_max: int,
        outbox_bytes_max: int,
        timing: TransportConfig | None = None,
        remote: str = "",
    ) -> None:
        self.remote = remote
        self.outbox_bytes_max = outbox_bytes_max
        self.bytes_received = 0
        self.bytes_sent = 0
        self.incomplete_since: float | None = None
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._timing = timing or TransportConfig()
        self._decoder = FrameDecoder(frame_bytes_max)
        self._unread: list[bytes] = []
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._wakeup = trio.lowlevel.ParkingLot()
        self._body_scope = trio.CancelScope()
        self._closing = False
        self._remote_ended = False
        self._writer_ended = trio.Event()
        self._fault: ProtocolError | None = None

    @property
    def outbox_bytes(self) -> int:
        """Bytes accepted by ``send`` and not given to the kernel yet."""
        return self._outbox_bytes

    @property
    def closing(self) -> bool:
        """Whether nothing more is accepted by ``send``."""
        return self._closing

    def set_frame_bytes_max(self, frame_bytes_max: int) -> None:
        """The largest frame accepted from here on; small until the hello is over."""
        self._decoder.frame_bytes_max = frame_bytes_max

    async def receive_frames(self) -> list[bytes]:
        """All frames that one receive completes, at least one; [] once the other side is gone.

        Raises ``ProtocolError`` for bytes that are no frames. A frame cut off by the end is dropped.
        """
        if self._unread:
            frames, self._unread = self._unread, []
            return frames
        while True:
            try:
                data = await self._receive()
            except _GONE:
                data = b""
            completed = self._complete(data)
            if completed is None:
                return []
            if completed:
                return completed

    def _complete(self, data: bytes) -> list[bytes] | None:
        """The frames that ``data`` completes, maybe none; None when it says that the other side is gone."""
        if not data:
            self._remote_ended = True
            self.incomplete_since = None
            return None
        self.bytes_received += len(data)
        frames = self._decoder.feed(data)
        if not self._decoder.pending_bytes:
            self.incomplete_since = None
        elif frames or self.incomplete_since is None:
            self.incomplete_since = trio.current_time()
        return frames

    async def serve_frames(self, take: Callable[[list[bytes]], None], readers: Readers) -> None:
        """Give all frames to ``take``, as they arrive, until the other side is gone; ``readers`` says when to read.

        Raises what ``take`` raised, and ``ProtocolError`` for bytes that are no frames.
        """
        if self._unread:
            take(await self.receive_frames())
        if self._socket is not None:
            await _Reading(self, self._socket.fileno(), take, readers).to_the_end()
            return
        while frames := await self.receive_frames():
            take(frames)
            await readers.room()

    def read_now(self, fd: int) -> list[bytes] | None:
        """What ``_complete`` says of one read, which does not wait."""
        data = _read_now(fd)
        return [] if data is None else self._complete(data)

    async def _receive(self) -> bytes:
        """What one receive brings; b"" at the end.

        trio tries to read before it waits, and a connection that waits for the next frame has nothing to read
        yet: that attempt, and what handles its failure, cost as much as the receive itself.
        """
        socket = self._socket
        if socket is None:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        while True:
            await trio.lowlevel.wait_readable(socket)
            data = _read_now(socket.fileno())
            if data is not None:
                return data

    def unread(self, frames: list[bytes]) -> None:
        """Put back frames that the next ``receive_frames`` is to return first."""
        assert not self._unread, "frames were put back twice"
        self._unread = frames

    def send(self, data: bytes) -> bool:
        """Queue one or several whole frames; never waits.

        False, and nothing queued, when more than ``outbox_bytes_max`` bytes would wait or the connection
        is closing: a peer's frames are then lost (Raft sends again), a client is to be closed.
        """
        if self._closing or self._outbox_bytes + len(data) > self.outbox_bytes_max:
            return False
        if not self._outbox_bytes and self._socket is not None:
            data = data[self._send_at_once(self._socket, data) :]
            if not data:
                return True
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if self._wakeup:
            self._wakeup.unpark()
        return True

    def _send_at_once(self, socket: trio.socket.SocketType, data: bytes) -> int:
        """Give the kernel what it takes without waiting; how many bytes that was.

        Nearly every frame fits the socket's buffer, and waking the writer for it would cost more than the write.
        A broken connection takes nothing: the writer finds out and ends it.
        """
        try:
            sent = os.write(socket.fileno(), data)
        except OSError:
            return 0
        self.bytes_sent += sent
        return sent

    async def run_writer(self) -> None:
        """Send what is queued, joined into one write per wake-up, until closed and empty, or broken."""
        try:
            while True:
                while not self._outbox:
                    if self._closing:
                        return
                    await self._wakeup.park()
                waiting, self._outbox = self._outbox, []
                data = waiting[0] if len(waiting) == 1 else b"".join(waiting)
                await self._stream.send_all(data)
                self._outbox_bytes -= len(data)
                self.bytes_sent += len(data)
        except _GONE:
            self._remote_ended = True
            self._outbox.clear()
            self.close()
        finally:
            self._writer_ended.set()

    def close(self) -> None:
        """End the connection soon: nothing more is received or accepted, what is queued still leaves.

        It has ``linger_ms`` for that. Under ``run``, the body is cancelled.
        """
        self._closing = True
        self._body_scope.cancel()
        self._wakeup.unpark_all()

    def fail(self, fault: ProtocolError, last_words: bytes = b"") -> None:
        """Close because of ``fault``, which ``run`` then raises; ``last_words`` still leave, if there is room."""
        if self._fault is None:
            self._fault = fault
        if last_words:
            self.send(last_words)
        self.close()

    async def aclose(self) -> None:
        """End the connection at once; what is queued is dropped."""
        self._outbox.clear()
        self.close()
        await trio.aclose_forcefully(self._stream)

    async def run(self, body: Callable[[Connection], Awaitable[None]]) -> None:
        """Run ``body`` with the writer beside it; when either ends, send what is queued and close the stream.

        Raises what ``body`` raised, or the ``ProtocolError`` given to ``fail``. A connection that breaks
        is no error: ``receive_frames`` returns [] or the body is cancelled.
        """
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.run_writer)
                with self._body_scope:
                    try:
                        await body(self)
                    except Exception as error:  # Raised below, outside the nursery: no ExceptionGroup of one.
                        failure = error
                self.close()
                nursery.cancel_scope.deadline = trio.current_time() + self._timing.linger_ms / 1000
                await self._writer_ended.wait()
                await self._drain()
        finally:
            await trio.aclose_forcefully(self._stream)
        failure = failure or self._fault
        if failure is not None:
            raise failure

    async def _drain(self) -> None:
        """Say that nothing follows, and swallow what still arrives.

        Closing a TCP socket with unread bytes resets it, and the other side may then never see the
        refusal that was sent last.
        """
        if self._remote_ended or not isinstance(self._stream, HalfCloseableStream):
            return
        swallowed = 0
        with suppress(*_GONE):
            await self._stream.send_eof()
            while swallowed < _DRAIN_BYTES_MAX:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return
                swallowed += len(data)


def _read_now(fd: int) -> bytes | None:
    """What is there to read; b"" at the end, however it came; None when the kernel thought better of it."""
    try:
        return os.read(fd, RECEIVE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


class _Reading:
    """One connection whose frames are read when its ``Readers`` says so, while its task waits for the end."""

    def __init__(
        self, connection: Connection, fd: int, take: Callable[[list[bytes]], None], readers: Readers
    ) -> None:
        self._connection = connection
        self._fd = fd
        self._take = take
        self._readers = readers
        self._task = trio.lowlevel.current_task()
        self._is_over = False

    async def to_the_end(self) -> None:
        self._readers.add(self._fd, self._read)
        await trio.lowlevel.wait_task_rescheduled(self._abandon)

    def _abandon(self, _: Callable[[], object]) -> trio.lowlevel.Abort:
        self._is_over = True
        self._readers.remove(self._fd)
        return trio.lowlevel.Abort.SUCCEEDED

    def _read(self) -> None:
        try:
            frames = self._connection.read_now(self._fd)
            if frames:
                self._take(frames)
        except Exception as error:
            self._end(outcome.Error(error))  # It is the connection's, and raised in its task.
            return
        if frames is None:
            self._end(outcome.Value(None))

    def _end(self, with_what: outcome.Outcome[None]) -> None:
        if self._is_over:
            return  # Whoever took the frames closed the connection, before one of them was refused.
        self._is_over = True
        self._readers.remove(self._fd)
        trio.lowlevel.reschedule(self._task, with_what)
