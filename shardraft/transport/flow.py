"""What a connection does without waiting: it reads, cuts into frames, writes, and keeps what the socket did not take.

This module is compiled, so nothing in it waits; ``Connection`` is what waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shardraft.transport.at_once import read_at_once, write_at_once
from shardraft.wire.framing import FrameDecoder

RECEIVE_BYTES: Final = 64 << 10
"""What one receive of a stream that is no socket takes at most."""
NO_SOCKET: Final = -1
"""In place of a descriptor, for a stream that only its own methods read and write."""


class Flow:
    """The bytes of one connection, over the socket ``fd`` or, with ``NO_SOCKET``, over a stream that others serve.

    ``clock`` tells in seconds when an incomplete frame began; ``on_queued`` is called when bytes wait for the writer.
    """

    def __init__(
        self,
        fd: int,
        frame_bytes_max: int,
        outbox_bytes_max: int,
        clock: Callable[[], float],
        on_queued: Callable[[], object],
    ) -> None:
        self._fd = fd
        self._clock = clock
        self._on_queued = on_queued
        self.decoder = FrameDecoder(frame_bytes_max)
        self.bytes_received = 0
        self.bytes_sent = 0
        self.incomplete_since: float | None = None
        self.has_ended = False
        """The other side is gone."""
        self.is_closing = False
        """Nothing more is accepted."""
        self.outbox: list[bytes] = []
        self.outbox_bytes = 0
        """Bytes accepted and not given to the kernel yet, those that the writer has taken included."""
        self.outbox_bytes_max = outbox_bytes_max

    def complete(self, data: bytes) -> list[bytes] | None:
        """The frames that ``data`` completes, maybe none; None when it says that the other side is gone.

        Raises ``ProtocolError`` for bytes that are no frames.
        """
        if not data:
            self.has_ended = True
            self.incomplete_since = None
            return None
        self.bytes_received += len(data)
        frames = self.decoder.feed(data)
        if not self.decoder.pending_bytes:
            self.incomplete_since = None
        elif frames or self.incomplete_since is None:
            self.incomplete_since = self._clock()
        return frames

    def read(self) -> list[bytes] | None:
        """What ``complete`` says of one read of the socket, which does not wait."""
        data = read_at_once(self._fd)
        return [] if data is None else self.complete(data)

    def send(self, data: bytes) -> bool:
        """Queue one or several whole frames; never waits.

        False, and nothing queued, when more than ``outbox_bytes_max`` bytes would wait or the connection
        is closing: a peer's frames are then lost (Raft sends again), a client is to be closed.
        """
        if self.is_closing or self.outbox_bytes + len(data) > self.outbox_bytes_max:
            return False
        if not self.outbox_bytes and self._fd != NO_SOCKET:
            sent = self._send_at_once(data)
            if sent == len(data):
                return True
            data = data[sent:]
        self.outbox.append(data)
        self.outbox_bytes += len(data)
        self._on_queued()
        return True

    def _send_at_once(self, data: bytes) -> int:
        """Give the kernel what it takes without waiting; how many bytes that was.

        Nearly every frame fits the socket's buffer, and waking the writer for it would cost more than the write.
        A broken connection takes nothing: the writer finds out and ends it.
        """
        sent = write_at_once(self._fd, data)
        self.bytes_sent += sent
        return sent

    def take_outbox(self) -> bytes:
        """All that waits, joined; it counts as waiting until ``sent`` says that it left."""
        waiting = self.outbox
        self.outbox = []
        return waiting[0] if len(waiting) == 1 else b"".join(waiting)

    def sent(self, count: int) -> None:
        """So many bytes that the writer took have left."""
        self.outbox_bytes -= count
        self.bytes_sent += count

    def close_socket(self) -> None:
        """The socket is closed, and its number may soon be another's."""
        self._fd = NO_SOCKET
        self.is_closing = True


class Reading:
    """Has the frames of a flow taken when it is called, and says once how that ended.

    ``on_end`` hears None when the other side is gone, and else what reading or ``take`` raised.
    """

    def __init__(
        self, flow: Flow, take: Callable[[list[bytes]], None], on_end: Callable[[Exception | None], None]
    ) -> None:
        self._flow = flow
        self._take = take
        self._on_end = on_end

    def read(self) -> None:
        """Read once, without waiting."""
        try:
            frames = self._flow.read()
            if frames:
                self._take(frames)
        except Exception as error:
            self._on_end(error)  # It is the connection's, and raised in its task.
            return
        if frames is None:
            self._on_end(None)
