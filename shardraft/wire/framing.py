"""Splits a byte stream into frames: standard Cap'n Proto stream framing, sans I/O.

A frame is one message: a segment table (the number of segments less one, u32; the words of each
segment, u32; padded to a word), then the segments, unpacked. Sizes are checked from the table before
anything is kept, so what a stranger announces costs nothing; only what arrived is held.
"""

from __future__ import annotations

import struct
from typing import Final

from shardraft.errors import ErrorCode, ProtocolError

WORD_BYTES: Final = 8
SEGMENTS_MAX: Final = 64

_COUNT: Final = struct.Struct("<I")
_SINGLE_TABLE: Final = struct.Struct("<II")
_COUNT_BYTES: Final = 4

_FOREIGN: Final[tuple[tuple[bytes, str], ...]] = (
    (b"GET ", "an HTTP request"),
    (b"POST", "an HTTP request"),
    (b"PUT ", "an HTTP request"),
    (b"HEAD", "an HTTP request"),
    (b"DELE", "an HTTP request"),
    (b"OPTI", "an HTTP request"),
    (b"PATC", "an HTTP request"),
    (b"CONN", "an HTTP request"),
    (b"PRI ", "an HTTP/2 connection"),
    (b"HTTP", "an HTTP response"),
    (b"SSH-", "an SSH connection"),
    (b"\x16\x03", "a TLS handshake, and this port speaks no TLS"),
)


class FrameDecoder:
    """Turns received bytes into complete frames; one per connection and direction.

    ``frame_bytes_max`` (bytes, segment table included) may be changed between calls, as when a
    connection has said hello. After a ``ProtocolError`` the stream has no meaning any more: the
    decoder holds nothing and is not fed again.
    """

    __slots__ = ("_pending", "_wanted", "frame_bytes_max", "segments_max")

    def __init__(self, frame_bytes_max: int, segments_max: int = SEGMENTS_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.segments_max = segments_max
        self._pending = bytearray()
        self._wanted = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes held of a frame that is not complete yet."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes, each with its segment table, in order.

        Raises ``ProtocolError``: TOO_LARGE for a frame above ``frame_bytes_max``, INVALID_ARGUMENT for
        what is no segment table (its text names the protocol when it looks like another one). Frames
        completed by the same ``data`` before the fault are dropped with the connection.
        """
        if self._pending:
            self._pending += data
            if len(self._pending) < self._wanted:
                return []
            data = bytes(self._pending)
            self._pending = bytearray()
        frames: list[bytes] = []
        start, end = 0, len(data)
        while start < end:
            size = self._frame_bytes(data, start, end)
            if start + size > end:
                self._pending = bytearray(memoryview(data)[start:])
                self._wanted = size
                break
            frames.append(data[start : start + size])
            start += size
        return frames

    def _frame_bytes(self, data: bytes, start: int, end: int) -> int:
        """The size of the frame at ``start``, or as many bytes as are needed to know more of it."""
        available = end - start
        if available < WORD_BYTES:
            if available >= _COUNT_BYTES:
                self._check_count(data, start)
            return WORD_BYTES
        more_segments, words = _SINGLE_TABLE.unpack_from(data, start)
        if more_segments == 0:
            size: int = WORD_BYTES + words * WORD_BYTES
        else:
            count = self._check_count(data, start)
            table = (_COUNT_BYTES + _COUNT_BYTES * count + WORD_BYTES - 1) // WORD_BYTES * WORD_BYTES
            if available < table:
                return table
            words = sum(struct.unpack_from(f"<{count}I", data, start + _COUNT_BYTES))
            size = table + words * WORD_BYTES
        if words == 0:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "a frame of length 0 is no message")
        if size > self.frame_bytes_max:
            raise ProtocolError(
                ErrorCode.TOO_LARGE, f"a frame of {size} bytes is above the limit of {self.frame_bytes_max} here"
            )
        return size

    def _check_count(self, data: bytes, start: int) -> int:
        count: int = _COUNT.unpack_from(data, start)[0] + 1
        if count > self.segments_max:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, _describe(data[start : start + _COUNT_BYTES], count))
        return count


def _describe(head: bytes, count: int) -> str:
    for prefix, name in _FOREIGN:
        if head.startswith(prefix):
            return f"this is {name}; a shardraft host speaks its own protocol here"
    return f"this is no frame of this protocol: {count} segments"
