"""Reads are written and read without the Cap'n Proto library, but never otherwise than by it."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given

from shardraft.errors import ProtocolError
from shardraft.kv.requests import STALE, ClientReply, ClientRequest, Consistency, ReadReply, ReadRequest
from shardraft.types import INTEGER_MAX
from shardraft.wire.client import decode_reply, decode_request, encode_reply, encode_request
from shardraft.wire.reads import decode_read_reply, decode_read_request
from shardraft.wire.schema import MALFORMED, data_list, load, open_message, pack_numbers, unpack_numbers
from tests.wire import strategies

ROOM = 4096
FLIPS = 4_000
REQUEST = ReadRequest(7, 3, 9, 500, STALE, [b"\0\1key", b"", b"\0\2longer key"])
REPLY = ReadReply(7, 12, None, 1, [b"value", None, b"12345678"], (5, 0, 6))


def request_of(request: ReadRequest) -> Any:
    """As the library writes it."""
    message = load("client").Request.new_message(ROOM)
    message.requestId, message.shard = request.request_id, request.shard
    message.epoch, message.timeoutMs = request.epoch, request.timeout_ms
    read = message.init("read")
    read.consistency = int(request.consistency)
    read.keys = list(request.keys)
    return message


def reply_of(reply: ReadReply, *, revisions_first: bool = False) -> Any:
    message = load("client").Reply.new_message(ROOM)
    message.requestId = reply.request_id
    read = message.init("read")
    read.appliedIndex, read.tier = reply.applied_index, reply.tier
    if reply.age_us is not None:
        read.ageUs = reply.age_us
    if revisions_first:
        read.revisions = pack_numbers(reply.revisions)
    read.values = [value or b"" for value in reply.values]
    if not revisions_first:
        read.revisions = pack_numbers(reply.revisions)
    return message


def read_request(frame: bytes) -> ClientRequest | None:
    """As the library reads it; None for what is no read, or none that this program knows."""
    try:
        message = open_message(load("client").Request, frame)
        if str(message.which()) != "read":
            return None
        consistency = message.read.consistency.raw
        keys = data_list(message.read.keys)
        fields = (message.requestId, message.shard, message.epoch, message.timeoutMs)
        return ReadRequest(*fields, Consistency(consistency), keys)
    except MALFORMED:
        return None


def read_reply(frame: bytes) -> ClientReply | None:
    try:
        message = open_message(load("client").Reply, frame)
        if str(message.which()) != "read":
            return None
        read = message.read
        revisions, values = unpack_numbers(read.revisions), data_list(read.values)
        found = [value if revision else None for value, revision in zip(values, revisions, strict=True)]
        age_us = None if read.ageUs == INTEGER_MAX else read.ageUs
        return ReadReply(message.requestId, read.appliedIndex, age_us, read.tier, found, revisions)
    except MALFORMED:
        return None


@given(strategies.read_requests)
def test_a_request_is_written_as_the_library_writes_it(request: ReadRequest) -> None:
    assert encode_request(request) == request_of(request).to_bytes()
    assert decode_read_request(encode_request(request)) == request


@given(strategies.read_replies())
def test_a_reply_is_written_as_the_library_writes_it(reply: ReadReply) -> None:
    assert encode_reply(reply) == reply_of(reply).to_bytes()
    assert decode_read_reply(encode_reply(reply)) == reply


def test_another_layout_is_left_to_the_library() -> None:
    frame = reply_of(REPLY, revisions_first=True).to_bytes()
    assert frame != encode_reply(REPLY)
    assert decode_read_reply(frame) is None
    assert decode_reply(frame) == REPLY


def test_a_message_of_several_segments_is_left_to_the_library() -> None:
    message = load("client").Request.new_message(1)
    message.requestId, message.shard, message.epoch, message.timeoutMs = 7, 3, 9, 500
    read = message.init("read")
    read.consistency = int(STALE)
    read.keys = list(REQUEST.keys)
    frame = message.to_bytes()
    assert frame[0] > 0
    assert decode_read_request(frame) is None
    assert decode_request(frame) == REQUEST


def test_what_flipped_bits_make_of_a_read_is_what_the_library_reads() -> None:
    chance = random.Random(1)
    agreed = 0
    for _ in range(FLIPS):
        for original, quick, slow, door in (
            (encode_request(REQUEST), decode_read_request, read_request, decode_request),
            (encode_reply(REPLY), decode_read_reply, read_reply, decode_reply),
        ):
            damaged = bytearray(original)
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            frame = bytes(damaged)
            found, expected = quick(frame), slow(frame)
            assert found is None or found == expected
            agreed += found is not None
            if expected is None:
                continue
            try:
                assert door(frame) == expected
            except ProtocolError as error:
                raise AssertionError(f"the library reads {expected}") from error
    assert FLIPS // 2 < agreed < 2 * FLIPS
