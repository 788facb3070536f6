"""Frames between hosts: what is split, what is refused, and what is Raft's business."""

from __future__ import annotations

import struct

import pytest

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.host.messages import CopyChunk
from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.messages import AppendEntries, Heartbeat, TimeoutNow
from shardraft.wire.columns import MESSAGES_MAX
from shardraft.wire.framing import FrameDecoder
from shardraft.wire.peer import FRAME_BYTES_WANTED, decode_peer_frame, encode_peer_frame
from shardraft.wire.schema import load

ENTRY = encode_entry(7, 1, 1, EntryKind.BATCH, 5, b"payload" * 10)


def append(*entries: Entry) -> AppendEntries:
    return AppendEntries(7, 1, 1, 2, 0, 0, 0, entries)


def frame_of(entries: list[bytes], count: int) -> bytes:
    """A frame with one AppendEntries that speaks of ``count`` entries and carries these bytes as such."""
    frame = load("peer").PeerFrame.new_message()
    frame.kinds = b"\x05"
    frame.appendEntries = struct.pack("<IIIIQQQQ", 7, 1, 2, count, 1, 0, 0, 0)
    frame.entries = entries
    encoded: bytes = frame.to_bytes()
    return encoded


def test_a_turn_of_many_megabytes_becomes_several_frames_in_order() -> None:
    chunk = CopyChunk(7, 1, 1, 2, 3, 4, 5, 6, 7, 8, bytes(1 << 20))
    messages = (chunk,) * 12
    frames = FrameDecoder(16 << 20).feed(encode_peer_frame(messages))
    assert [len(frame) <= FRAME_BYTES_WANTED for frame in frames] == [True, True]
    assert tuple(message for frame in frames for message in decode_peer_frame(frame)) == messages


def test_a_single_message_above_the_wanted_size_goes_alone() -> None:
    large = encode_entry(7, 2, 1, EntryKind.BATCH, 5, bytes(FRAME_BYTES_WANTED))
    messages = (append(ENTRY), append(large), append(ENTRY))
    frames = FrameDecoder(16 << 20).feed(encode_peer_frame(messages))
    assert [decode_peer_frame(frame) for frame in frames] == [(message,) for message in messages]


def test_more_messages_than_a_frame_may_hold_become_two_frames() -> None:
    messages = (TimeoutNow(7, 1, 1, 2),) * (MESSAGES_MAX + 1)
    frames = FrameDecoder(16 << 20).feed(encode_peer_frame(messages))
    assert [len(decode_peer_frame(frame)) for frame in frames] == [MESSAGES_MAX, 1]


def test_more_messages_than_a_frame_may_hold_are_refused() -> None:
    frame = load("peer").PeerFrame.new_message()
    frame.kinds = b"\x09" * (MESSAGES_MAX + 1)
    frame.timeoutNows = bytes(24 * (MESSAGES_MAX + 1))
    with pytest.raises(ProtocolError, match="messages in one frame") as raised:
        decode_peer_frame(frame.to_bytes())
    assert raised.value.code is ErrorCode.TOO_LARGE


def test_no_messages_are_no_bytes() -> None:
    assert encode_peer_frame(()) == b""


def test_a_kind_of_a_newer_program_is_refused_by_its_number() -> None:
    frame = load("peer").PeerFrame.new_message()
    frame.kinds = b"\x63"
    with pytest.raises(ProtocolError, match="unknown kind 99") as raised:
        decode_peer_frame(frame.to_bytes())
    assert raised.value.code is ErrorCode.UNIMPLEMENTED


def test_a_flipped_byte_in_an_entry_is_noticed_on_receipt() -> None:
    damaged = bytearray(ENTRY.encoded)
    damaged[-1] ^= 1
    with pytest.raises(ProtocolError, match="bad entry: the checksum") as raised:
        decode_peer_frame(frame_of([bytes(damaged)], 1))
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_an_entry_of_another_shard_is_refused() -> None:
    foreign = encode_entry(8, 1, 1, EntryKind.BATCH, 5)
    with pytest.raises(ProtocolError, match="another shard"):
        decode_peer_frame(frame_of([foreign.encoded], 1))


@pytest.mark.parametrize(("carried", "announced"), [(1, 0), (1, 2), (0, 1), (3, 2), (1, 2**32 - 1)])
def test_another_number_of_entries_than_announced_is_refused(carried: int, announced: int) -> None:
    with pytest.raises(ProtocolError, match="none of this protocol"):
        decode_peer_frame(frame_of([ENTRY.encoded] * carried, announced))


@pytest.mark.parametrize(("kinds", "records_bytes"), [(b"\x09\x09", 24), (b"\x09", 48), (b"\x09", 23), (b"\x09", 0)])
def test_another_number_of_records_than_kinds_is_refused(kinds: bytes, records_bytes: int) -> None:
    frame = load("peer").PeerFrame.new_message()
    frame.kinds = kinds
    frame.timeoutNows = bytes(records_bytes)
    with pytest.raises(ProtocolError, match="none of this protocol"):
        decode_peer_frame(frame.to_bytes())


@pytest.mark.parametrize("number", [2**62 + 1, 2**64 - 1])
def test_impossible_terms_and_indexes_are_decoded_for_raft_to_refuse(number: int) -> None:
    messages = (
        Heartbeat(7, number, 1, 2, number, number),
        AppendEntries(7, number, 1, 2, number, number, number),
    )
    assert decode_peer_frame(encode_peer_frame(messages)) == messages


def test_an_empty_frame_holds_no_messages() -> None:
    assert decode_peer_frame(load("peer").PeerFrame.new_message().to_bytes()) == ()
