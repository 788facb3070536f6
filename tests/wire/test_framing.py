"""Frames are cut from the stream wherever the reads happen to end, and sizes are believed only up to the limit."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.wire.framing import FrameDecoder


def frame(*segment_words: int) -> bytes:
    """A frame with segments of these lengths; its contents tell one place from another."""
    table = struct.pack(f"<{1 + len(segment_words)}I", len(segment_words) - 1, *segment_words)
    table += bytes(-len(table) % 8)
    return table + bytes(place % 251 for place in range(8 * sum(segment_words)))


STREAM = [frame(1), frame(3), frame(2, 0, 1), frame(1, 1), frame(40), frame(1)]


def fed(pieces: list[bytes], decoder: FrameDecoder) -> list[bytes]:
    return [complete for piece in pieces for complete in decoder.feed(piece)]


def test_frames_in_one_read_come_out_together() -> None:
    decoder = FrameDecoder(1 << 20)
    assert decoder.feed(b"".join(STREAM)) == STREAM
    assert decoder.pending_bytes == 0


def test_a_stream_may_be_split_anywhere() -> None:
    stream = b"".join(STREAM)
    for place in range(len(stream) + 1):
        decoder = FrameDecoder(1 << 20)
        assert fed([stream[:place], stream[place:]], decoder) == STREAM
        assert decoder.pending_bytes == 0


def test_a_stream_may_come_byte_by_byte() -> None:
    stream = b"".join(STREAM)
    assert fed([stream[place : place + 1] for place in range(len(stream))], FrameDecoder(1 << 20)) == STREAM


@given(st.lists(st.integers(min_value=0, max_value=sum(map(len, STREAM))), max_size=12).map(sorted))
def test_a_stream_may_be_split_in_many_places(places: list[int]) -> None:
    stream = b"".join(STREAM)
    ends = [*places, len(stream)]
    pieces = [stream[start:end] for start, end in zip([0, *places], ends, strict=True)]
    assert fed(pieces, FrameDecoder(1 << 20)) == STREAM


def test_what_is_held_is_what_arrived_of_the_incomplete_frame() -> None:
    decoder = FrameDecoder(1 << 20)
    assert decoder.feed(frame(2) + frame(40)[:100]) == [frame(2)]
    assert decoder.pending_bytes == 100


def test_a_frame_of_exactly_the_limit_is_accepted_and_one_word_more_is_not() -> None:
    assert FrameDecoder(8 + 8 * 40).feed(frame(40)) == [frame(40)]
    with pytest.raises(ProtocolError, match="above the limit") as raised:
        FrameDecoder(8 + 8 * 40).feed(frame(41)[:8])
    assert raised.value.code is ErrorCode.TOO_LARGE


def test_the_limit_may_be_raised_once_the_other_side_is_known() -> None:
    decoder = FrameDecoder(64)
    assert decoder.feed(frame(2)) == [frame(2)]
    decoder.frame_bytes_max = 1 << 20
    assert decoder.feed(frame(40)) == [frame(40)]


@pytest.mark.parametrize("words", [2**29, 2**32 - 1])
def test_an_announced_size_of_gigabytes_is_refused_before_anything_is_allocated(words: int) -> None:
    decoder = FrameDecoder(16 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as raised:
            decoder.feed(struct.pack("<II", 0, words) + bytes(100))
        assert tracemalloc.get_traced_memory()[1] < 64 << 10
    finally:
        tracemalloc.stop()
    assert raised.value.code is ErrorCode.TOO_LARGE
    assert decoder.pending_bytes == 0


def test_sizes_of_many_segments_are_added_up() -> None:
    with pytest.raises(ProtocolError) as raised:
        FrameDecoder(16 << 20).feed(struct.pack("<4I", 2, 1 << 20, 1 << 20, 1 << 20))
    assert raised.value.code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("segments", [65, 600, 2**32])
def test_too_many_segments_are_refused_from_the_first_four_bytes(segments: int) -> None:
    with pytest.raises(ProtocolError, match="segments") as raised:
        FrameDecoder(16 << 20).feed(struct.pack("<I", segments - 1))
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("words", [(0,), (0, 0), (0, 0, 0)])
def test_a_frame_of_length_0_is_refused(words: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError, match="length 0") as raised:
        FrameDecoder(16 << 20).feed(frame(*words))
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "an HTTP request"),
        (b"POST", "an HTTP request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "an HTTP/2 connection"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a TLS handshake"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH connection"),
    ],
)
def test_another_protocol_is_called_by_its_name(head: bytes, name: str) -> None:
    with pytest.raises(ProtocolError, match=f"this is {name}") as raised:
        FrameDecoder(16 << 20).feed(head)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


@given(st.binary(max_size=200))
def test_any_bytes_give_frames_or_a_typed_error(garbage: bytes) -> None:
    decoder = FrameDecoder(1 << 10)
    fault = None
    frames: list[bytes] = []
    try:
        frames = decoder.feed(garbage)
    except ProtocolError as error:
        fault = error.code
    kept = sum(map(len, frames)) + decoder.pending_bytes
    assert (fault, kept) in ((None, len(garbage)), (ErrorCode.TOO_LARGE, 0), (ErrorCode.INVALID_ARGUMENT, 0))
