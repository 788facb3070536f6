"""One connection: frames in, a bounded outbox out, and an end that is the same whoever caused it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

import outcome
import trio
from trio.abc import HalfCloseableStream, Stream

from shardraft.config import TransportConfig
from shardraft.errors import ProtocolError
from shardraft.transport.at_once import read_at_once
from shardraft.transport.flow import NO_SOCKET, RECEIVE_BYTES, Flow, Reading

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

    ``remote`` names the other side for a person. ``send`` queues whole frames and never waits: see ``Flow.send``.
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
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        fd = NO_SOCKET if self._socket is None else self._socket.fileno()
        self._wakeup = trio.lowlevel.ParkingLot()
        self._flow = Flow(fd, frame_bytes_max, outbox_bytes_max, trio.current_time, self._wakeup.unpark)
        self.send = self._flow.send
        self._timing = timing or TransportConfig()
        self._unread: list[bytes] = []
        self._body_scope = trio.CancelScope()
        self._writer_ended = trio.Event()
        self._fault: ProtocolError | None = None

    @property
    def bytes_received(self) -> int:
        """Bytes that arrived, whatever they were."""
        return self._flow.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Bytes that were given to the kernel."""
        return self._flow.bytes_sent

    @property
    def incomplete_since(self) -> float | None:
        """The trio time at which the frame that is not complete yet began, or None."""
        return self._flow.incomplete_since

    @property
    def outbox_bytes(self) -> int:
        """Bytes accepted by ``send`` and not given to the kernel yet."""
        return self._flow.outbox_bytes

    @property
    def closing(self) -> bool:
        """Whether nothing more is accepted by ``send``."""
        return self._flow.is_closing

    def set_frame_bytes_max(self, frame_bytes_max: int) -> None:
        """The largest frame accepted from here on; small until the hello is over."""
        self._flow.decoder.frame_bytes_max = frame_bytes_max

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
            completed = self._flow.complete(data)
            if completed is None:
                return []
            if completed:
                return completed

    async def serve_frames(self, take: Callable[[list[bytes]], None], readers: Readers) -> None:
        """Give all frames to ``take``, as they arrive, until the other side is gone; ``readers`` says when to read.

        Raises what ``take`` raised, and ``ProtocolError`` for bytes that are no frames.
        """
        if self._unread:
            take(await self.receive_frames())
        if self._socket is not None:
            await _Reader(self._flow, self._socket.fileno(), take, readers).to_the_end()
            return
        while frames := await self.receive_frames():
            take(frames)
            await readers.room()

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
            data = read_at_once(socket.fileno())
            if data is not None:
                return data

    def unread(self, frames: list[bytes]) -> None:
        """Put back frames that the next ``receive_frames`` is to return first."""
        assert not self._unread, "frames were put back twice"
        self._unread = frames

    async def run_writer(self) -> None:
        """Send what is queued, joined into one write per wake-up, until closed and empty, or broken."""
        flow = self._flow
        try:
            while True:
                while not flow.outbox:
                    if flow.is_closing:
                        return
                    await self._wakeup.park()
                data = flow.take_outbox()
                await self._stream.send_all(data)
                flow.sent(len(data))
        except _GONE:
            flow.has_ended = True
            flow.outbox.clear()
            self.close()
        finally:
            self._writer_ended.set()

    def close(self) -> None:
        """End the connection soon: nothing more is received or accepted, what is queued still leaves.

        It has ``linger_ms`` for that. Under ``run``, the body is cancelled.
        """
        self._flow.is_closing = True
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
        self._flow.outbox.clear()
        self.close()
        await self._close_stream()

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
            await self._close_stream()
        failure = failure or self._fault
        if failure is not None:
            raise failure

    async def _close_stream(self) -> None:
        self._flow.close_socket()
        await trio.aclose_forcefully(self._stream)

    async def _drain(self) -> None:
        """Say that nothing follows, and swallow what still arrives.

        Closing a TCP socket with unread bytes resets it, and the other side may then never see the
        refusal that was sent last.
        """
        if self._flow.has_ended or not isinstance(self._stream, HalfCloseableStream):
            return
        swallowed = 0
        with suppress(*_GONE):
            await self._stream.send_eof()
            while swallowed < _DRAIN_BYTES_MAX:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return
                swallowed += len(data)


class _Reader:
    """One connection whose frames are read when its ``Readers`` says so, while its task waits for the end."""

    def __init__(self, flow: Flow, fd: int, take: Callable[[list[bytes]], None], readers: Readers) -> None:
        self._flow = flow
        self._take = take
        self._fd = fd
        self._readers = readers
        self._task = trio.lowlevel.current_task()
        self._is_over = False

    async def to_the_end(self) -> None:
        # Not an attribute: it knows this reader, and the two would keep what the connection held until a collection.
        self._readers.add(self._fd, Reading(self._flow, self._take, self._end).read)
        await trio.lowlevel.wait_task_rescheduled(self._abandon)

    def _abandon(self, _: Callable[[], object]) -> trio.lowlevel.Abort:
        self._is_over = True
        self._readers.remove(self._fd)
        return trio.lowlevel.Abort.SUCCEEDED

    def _end(self, error: Exception | None) -> None:
        if self._is_over:
            return  # Whoever took the frames closed the connection, before one of them was refused.
        self._is_over = True
        self._readers.remove(self._fd)
        trio.lowlevel.reschedule(self._task, outcome.Value(None) if error is None else outcome.Error(error))
