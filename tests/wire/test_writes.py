"""Writes, batches and frames between hosts do without the Cap'n Proto library, but are never otherwise than by it."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from shardraft.errors import InvalidArgument, ProtocolError
from shardraft.kv.commands import DELETE, PUT, Batch, BatchResult
from shardraft.kv.requests import WriteReply, WriteRequest
from shardraft.learner.messages import ChildHello, ParentHello
from shardraft.octets.layouts import IN_BYTES, ITEMS_MAX, OF_POINTERS
from shardraft.raft.entry import EntryKind, encode_entry
from shardraft.raft.messages import AppendEntries, AppendEntriesReply
from shardraft.wire import batch as batches
from shardraft.wire import peer
from shardraft.wire.client import CapnpBatchCodec, decode_reply, decode_request, encode_reply, encode_request
from shardraft.wire.columns import fill_frame, read_frame
from shardraft.wire.peer import decode_peer_frame, encode_peer_frame
from shardraft.wire.schema import MALFORMED, load, open_message, pack_numbers, pack_positions
from shardraft.wire.words import (
    Layout,
    LibraryReader,
    LibraryWriter,
    OtherLayout,
    QuickReader,
    QuickWriter,
    layout_of,
)
from shardraft.wire.writes import decode_write_reply, decode_write_request
from tests.wire import strategies

ROOM = 4096
FLIPS = 4_000
CODEC = CapnpBatchCodec()
BATCH = Batch(b"s" * 16, 3, 2, True, False, 9, bytes((PUT, DELETE)), [b"key", b"12345678"], [b"value", b""], (5, 6))
REQUEST = WriteRequest(7, 3, 9, 500, CODEC.encode_batch(BATCH))
REPLY = WriteReply(7, BatchResult(12, b"\1\2\3"))
MESSAGES = (
    AppendEntries(7, 1, 1, 2, 0, 0, 0, (encode_entry(7, 1, 1, EntryKind.BATCH, 5, b"payload"),)),
    AppendEntriesReply(7, 1, 1, 2, True, 4, 0, 0),
    AppendEntries(8, 1, 1, 2, 0, 0, 0, ()),
)


def request_of(request: WriteRequest) -> bytes:
    """As the library writes it."""
    message = load("client").Request.new_message(ROOM)
    message.requestId, message.shard = request.request_id, request.shard
    message.epoch, message.timeoutMs = request.epoch, request.timeout_ms
    message.write = request.payload
    framed: bytes = message.to_bytes()
    return framed


def reply_of(reply: WriteReply) -> bytes:
    message = load("client").Reply.new_message(ROOM)
    message.requestId = reply.request_id
    write = message.init("write")
    write.firstRevision, write.outcomes = reply.result.first_revision, reply.result.outcomes
    if reply.result.found_revisions:
        write.foundRevisions = pack_numbers(reply.result.found_revisions)
    if reply.result.revisions:
        write.revisions = pack_numbers(reply.result.revisions)
    framed: bytes = message.to_bytes()
    return framed


def batch_of(batch: Batch, *, head_last: bool = False) -> bytes:
    message = load("client").Batch.new_message(ROOM)
    flags = batch.opens_session | batch.atomic << 1 | bool(batch.conditions) << 2 | bool(batch.positions) << 3
    if batch.conditions:
        message.conditions = pack_numbers(batch.conditions)
    if batch.positions:
        message.positions = pack_positions(batch.positions)
    numbers = (batch.sequence, batch.answered_below, batch.epoch)
    head = batch.session + b"".join(number.to_bytes(8, "little") for number in numbers) + bytes((flags,)) + batch.kinds
    if not head_last:
        message.head = head
    message.keys, message.values = batch.keys, batch.values
    if head_last:
        message.head = head
    framed: bytes = message.to_bytes()
    return framed


def slow_request(frame: bytes) -> Any:
    """As the library reads it; None for what is no write."""
    message = open_message(load("client").Request, frame)
    if str(message.which()) != "write":
        return None
    return WriteRequest(message.requestId, message.shard, message.epoch, message.timeoutMs, message.write)


def slow_reply(frame: bytes) -> Any:
    message = open_message(load("client").Reply, frame)
    if str(message.which()) != "write":
        return None
    write = message.write
    if write.foundRevisions or write.revisions:
        return None
    return WriteReply(message.requestId, BatchResult(write.firstRevision, write.outcomes))


def whole(batch: Batch | None) -> Batch | None:
    if batch is not None and batches._fault(batch):
        raise InvalidArgument("its columns do not fit")
    return batch


def slow_batch(frame: bytes) -> Any:
    return whole(batches._read(LibraryReader(open_message(load("client").Batch, frame))))


def quick_batch(frame: bytes) -> Any:
    return whole(batches._read_quickly(frame))


def slow_messages(frame: bytes) -> Any:
    return read_frame(LibraryReader(open_message(load("peer").PeerFrame, frame)), peer._PEER_BY_NUMBER)


def quick_messages(frame: bytes) -> Any:
    return peer._decode_quickly(peer._PEER_FORM, peer._PEER_BY_NUMBER, frame)


@given(strategies.write_requests)
def test_a_request_is_written_as_the_library_writes_it(request: WriteRequest) -> None:
    assert encode_request(request) == request_of(request)
    assert decode_write_request(encode_request(request)) == request


@given(strategies.write_replies)
def test_a_reply_is_written_as_the_library_writes_it(reply: WriteReply) -> None:
    assert encode_reply(reply) == reply_of(reply)
    assert decode_reply(encode_reply(reply)) == reply
    plain = not (reply.result.found_revisions or reply.result.revisions)
    assert (decode_write_reply(encode_reply(reply)) == reply) is plain


@given(strategies.batches())
def test_a_batch_is_written_as_the_library_writes_it(batch: Batch) -> None:
    encoded = CODEC.encode_batch(batch)
    assert encoded == batch_of(batch)
    assert quick_batch(encoded) == slow_batch(encoded) == batch


@given(strategies.peer_messages)
def test_a_frame_is_written_as_the_library_writes_it(messages: tuple[Any, ...]) -> None:
    by_library = LibraryWriter(load("peer").PeerFrame.new_message(ROOM))
    fill_frame(by_library, [(peer.PEER_KINDS[type(message)], message) for message in messages])
    frame = encode_peer_frame(messages)
    assert frame == (by_library.framed() if messages else b"")
    if messages:
        assert quick_messages(frame) == slow_messages(frame) == messages


@given(strategies.link_messages)
def test_a_frame_of_the_read_tree_is_quick_unless_it_holds_a_hello(messages: tuple[Any, ...]) -> None:
    if not messages:
        return
    found = peer._decode_quickly(peer._LINK_FORM, peer._LINK_BY_NUMBER, peer.encode_link_frame(messages))
    slow = any(isinstance(message, ChildHello | ParentHello) for message in messages)
    assert found == (None if slow else messages)


def test_fields_in_another_order_are_read_as_well() -> None:
    frame = batch_of(BATCH, head_last=True)
    assert frame != CODEC.encode_batch(BATCH)
    assert quick_batch(frame) == BATCH


def test_fields_that_a_later_program_added_are_passed_over() -> None:
    layout = layout_of(load("client").Batch)
    places = {**layout.places, "later": len(layout.kinds) + 1}
    later = QuickWriter(Layout(layout.kinds + bytes((IN_BYTES, IN_BYTES)), places))
    later.put_data("later", b"what we do not know")
    later.put_data("head", batches._HEAD.pack(BATCH.session, 3, 2, 9, 0) + bytes((PUT,)))
    later.put_items("keys", [b"key"])
    later.put_items("values", [b"value"])
    found = quick_batch(later.framed())
    assert found is not None
    assert (found.keys, found.values, found.conditions) == ([b"key"], [b"value"], ())


def test_a_struct_of_an_earlier_program_has_none_of_the_later_fields() -> None:
    earlier = Layout(bytes((IN_BYTES,)), {"first": 0})
    later = Layout(bytes((IN_BYTES, OF_POINTERS, IN_BYTES)), {"first": 0, "second": 1, "third": 2})
    reader = QuickReader(later, QuickWriter(earlier).framed())
    assert (reader.data("first"), reader.items("second"), reader.data("third")) == (b"", [], b"")


@pytest.mark.parametrize("segment_words", [1, 2, 8])
def test_a_message_of_several_segments_is_left_to_the_library(segment_words: int) -> None:
    message = load("client").Batch.new_message(segment_words)
    head = batches._HEAD.pack(BATCH.session, 3, 2, 9, 0) + bytes((PUT,))
    message.head, message.keys, message.values = head, [b"key"], [b"value" * 100]
    frame = message.to_bytes()
    assert frame[0] > 0
    assert quick_batch(frame) is None
    assert CODEC.decode_batch(frame).values == [b"value" * 100]


def test_fields_that_together_are_larger_than_their_message_are_left_to_the_library() -> None:
    layout = Layout(bytes((IN_BYTES, IN_BYTES)), {"first": 0, "second": 1})
    writer = QuickWriter(layout)
    writer.put_data("first", bytes(1000))
    message = bytearray(writer.framed())
    offset, target = struct.unpack_from("<iI", message, 16)
    struct.pack_into("<iI", message, 24, offset - (1 << 2), target)  # The second is where the first is.
    with pytest.raises(OtherLayout):
        QuickReader(layout, bytes(message))


def test_a_list_of_more_items_than_are_wanted_is_left_to_the_library() -> None:
    layout = Layout(bytes((OF_POINTERS,)), {"items": 0})
    for count, items_max in ((3, 3), (ITEMS_MAX, ITEMS_MAX)):
        writer = QuickWriter(layout)
        writer.put_items("items", [b""] * count)
        assert QuickReader(layout, writer.framed()).items("items", items_max) == [b""] * count
    for count, items_max in ((4, 3), (ITEMS_MAX + 1, ITEMS_MAX + 1)):
        writer = QuickWriter(layout)
        writer.put_items("items", [b""] * count)
        with pytest.raises(OtherLayout):
            QuickReader(layout, writer.framed()).items("items", items_max)


def test_a_struct_with_numbers_in_it_has_no_such_layout() -> None:
    with pytest.raises(AssertionError, match="numbers"):
        layout_of(load("client").Request)


FORMS: list[tuple[bytes, Callable[[bytes], Any], Callable[[bytes], Any], Callable[[bytes], Any]]] = [
    (encode_request(REQUEST), decode_write_request, slow_request, decode_request),
    (encode_reply(REPLY), decode_write_reply, slow_reply, decode_reply),
    (CODEC.encode_batch(BATCH), quick_batch, slow_batch, CODEC.decode_batch),
    (encode_peer_frame(MESSAGES), quick_messages, slow_messages, decode_peer_frame),
]


def outcome(read: Callable[[bytes], Any], frame: bytes) -> Any:
    """What was read, or that it was refused."""
    try:
        return read(frame)
    except (*MALFORMED, ProtocolError, InvalidArgument):
        return "refused"


def damage(original: bytes, chance: random.Random) -> bytes:
    """Flip a bit, or let a pointer point elsewhere, at more or less, at something else, or where another points."""
    damaged = bytearray(original)
    if chance.random() < 0.5:
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        return bytes(damaged)
    words = len(damaged) // 8
    word, other = chance.randrange(1, words), chance.randrange(1, words)
    offset, target = struct.unpack_from("<iI", damaged, 8 * word)
    offset >>= 2
    match chance.randrange(5):
        case 0:
            offset = chance.randrange(-word - 1, words)
        case 1:
            offset += chance.choice((-1, 1))
        case 2:
            target = chance.choice((0, 1, 7, 8, 8 * words, 65_536, 2**29 - 1)) << 3 | target & 7
        case 3:
            target = target & ~7 | chance.randrange(8)
        case _:
            their_offset, target = struct.unpack_from("<iI", damaged, 8 * other)
            offset = other + (their_offset >> 2) - word
    offset = max(-(2**29), min(2**29 - 1, offset))
    struct.pack_into("<iI", damaged, 8 * word, offset << 2 | 1, target)
    return bytes(damaged)


@pytest.mark.parametrize("place", range(len(FORMS)))
def test_what_damage_makes_of_a_message_is_what_the_library_reads(place: int) -> None:
    original, quick, slow, door = FORMS[place]
    chance, agreed = random.Random(place), 0
    for _ in range(FLIPS):
        frame = original
        for _ in range(chance.choice((1, 1, 2))):
            frame = damage(frame, chance)
        found, expected = outcome(quick, frame), outcome(slow, frame)
        assert found is None or found == expected
        agreed += found is not None
        if expected is not None:
            assert outcome(door, frame) == expected
    assert FLIPS // 10 < agreed < FLIPS
