"""Messages that are small and claim to be large cost no more than their own length."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shardraft.wire.client import CapnpBatchCodec, decode_reply, decode_request
from shardraft.wire.peer import decode_link_frame, decode_peer_frame
from tests.wire.refusal import TYPED, assert_ours, refused

BLOB_WORDS = 1 << 14
COPY_CHUNK_BYTES = 56


@contextmanager
def memory_of_at_most(bytes_max: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= bytes_max
    finally:
        tracemalloc.stop()


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def framed(segment: bytes) -> bytes:
    return struct.pack("<II", 0, len(segment) // 8) + segment


def list_pointer(offset_words: int, size_code: int, count: int) -> int:
    return ((offset_words & (2**30 - 1)) << 2 | 1) | (count << 3 | size_code) << 32


def struct_pointer(offset_words: int, data_words: int, pointers: int) -> int:
    return (offset_words & (2**30 - 1)) << 2 | (data_words | pointers << 16) << 32


def copies_of_one_blob(count: int) -> bytes:
    """A PeerFrame with ``count`` CopyChunks whose data is all the same 128 KiB of the message."""
    kinds_words = (count + 7) // 8
    records_words = count * COPY_CHUNK_BYTES // 8
    pointers = [0] * 14
    pointers[0] = list_pointer(13, 2, count)
    pointers[10] = list_pointer(3 + kinds_words, 2, count * COPY_CHUNK_BYTES)
    pointers[13] = list_pointer(kinds_words + records_words, 6, count)
    return framed(
        words(struct_pointer(0, 0, 14), *pointers)
        + (b"\x0a" * count).ljust(8 * kinds_words, b"\0")
        + bytes(8 * records_words)
        + words(*(list_pointer(count - 1 - place, 2, 8 * BLOB_WORDS) for place in range(count)))
        + bytes(8 * BLOB_WORDS)
    )


def test_two_pointers_to_one_place_are_read_twice() -> None:
    """The message is well made, so what follows is refused for its size and for nothing else."""
    assert [len(chunk.data) for chunk in decode_peer_frame(copies_of_one_blob(2))] == [8 * BLOB_WORDS] * 2


def test_a_thousand_pointers_to_one_place_do_not_make_a_thousand_copies() -> None:
    message = copies_of_one_blob(1_000)
    with memory_of_at_most(4 * len(message)):
        refused(decode_peer_frame, message)


@pytest.mark.parametrize("count", [2**20, 2**29 - 1])
def test_a_list_of_nothing_is_not_walked(count: int) -> None:
    """Structs without fields take no bytes, so a short message may claim 2**29 of them."""
    segment = words(
        struct_pointer(0, 2, 1),  # Reply: requestId and the union's tag, one pointer.
        1,
        4,  # The tag: map.
        struct_pointer(0, 0, 2),  # MapReply: shardMap and learners.
        0,
        list_pointer(0, 7, 0),  # learners: a list of composites, of no words in all, ...
        count << 2,  # ... whose tag claims this many structs of size 0.
    )
    with memory_of_at_most(1 << 20):
        refused(decode_reply, framed(segment))


@pytest.mark.parametrize(
    "decode", [decode_peer_frame, decode_link_frame, decode_request, decode_reply, CapnpBatchCodec().decode_batch]
)
@pytest.mark.parametrize("size_code", range(8))
@pytest.mark.parametrize("offset", [0, 1, 2**29 - 1, -(2**29)])
def test_gigantic_lists_everywhere_are_refused_or_empty(
    decode: Callable[[bytes], Any], size_code: int, offset: int
) -> None:
    pointer = list_pointer(offset, size_code, 2**29 - 1)
    with memory_of_at_most(1 << 20):
        try:
            decode(framed(words(struct_pointer(0, 2, 14), 1, 3, *[pointer] * 14)))
        except TYPED as error:
            assert_ours(error)


def test_a_pointer_to_itself_is_refused() -> None:
    loop = struct_pointer(-1, 0, 1)
    refused(decode_request, framed(words(loop)))
    refused(decode_reply, framed(words(struct_pointer(0, 2, 1), 1, 4, loop)))


def test_a_chain_of_500_structs_is_not_followed() -> None:
    refused(decode_request, framed(words(*[struct_pointer(0, 0, 1)] * 500)))


def test_far_pointers_in_a_circle_are_refused() -> None:
    far, double_far = 2, 2 | 4
    refused(decode_request, framed(words(far)))
    refused(decode_request, framed(words(double_far, double_far)))
