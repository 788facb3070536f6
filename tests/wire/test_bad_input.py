"""Bad bytes get one typed error whose text is ours; what other versions send is told apart from damage."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import capnp
import pytest

from shardraft.errors import ErrorCode, InvalidArgument, ProtocolError, StorageError
from shardraft.host.messages import CopyOrderOutcome, CopyOrderReply
from shardraft.kv.commands import DELETE, PUT, Batch, BatchResult
from shardraft.kv.requests import Consistency, ScanRequest, WriteReply
from shardraft.octets.layouts import ITEMS_MAX
from shardraft.wire.client import CapnpBatchCodec, UnknownRequest, decode_reply, decode_request
from shardraft.wire.peer import decode_peer_frame, encode_peer_frame
from shardraft.wire.schema import load
from tests.wire.refusal import TYPED, assert_ours, refused
from tests.wire.samples import CODEC, FORMATS

SCHEMAS = Path(__file__).parents[2] / "schema"
STORED = ("identity", "machine_state", "shard_map")
FLIPS = 20_000


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_flipped_bits_give_a_value_or_a_typed_error(name: str) -> None:
    form, chance = FORMATS[name], random.Random(name)
    original = form.encode(form.sample)
    for _ in range(FLIPS // len(FORMATS)):
        damaged = bytearray(original)
        for _ in range(chance.choice((1, 1, 2, 8))):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            form.decode(bytes(damaged))
        except TYPED as error:
            assert_ours(error)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_truncation_is_refused(name: str) -> None:
    form = FORMATS[name]
    original = form.encode(form.sample)
    for length in range(len(original)):
        refused(form.decode, original[:length])


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_trailing_bytes_are_refused(name: str) -> None:
    form = FORMATS[name]
    refused(form.decode, form.encode(form.sample) + bytes(8))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_random_bytes_are_refused(name: str) -> None:
    chance = random.Random(name)
    for length in (0, 1, 7, 8, 15, 16, 64, 4096):
        refused(FORMATS[name].decode, chance.randbytes(length))


@pytest.mark.parametrize("name", STORED)
def test_damage_below_a_right_checksum_is_refused_too(name: str) -> None:
    form, chance = FORMATS[name], random.Random(name)
    original = form.encode(form.sample)
    for _ in range(1_000):
        damaged = bytearray(original)
        damaged[8 + chance.randrange(len(damaged) - 8)] ^= 1 << chance.randrange(8)
        damaged[:4] = struct.pack("<I", zlib.crc32(damaged[4:]))
        try:
            form.decode(bytes(damaged))
        except StorageError as error:
            assert_ours(error)


def test_packed_messages_are_never_accepted() -> None:
    request = load("client").Request.new_message()
    request.status = None
    refused(decode_request, request.to_bytes_packed())


# What programs of other versions send: the same schemas, altered.


def schema_of_another_version(folder: Path, name: str, old: str, new: str) -> Any:
    for path in SCHEMAS.glob("*.capnp"):
        text = path.read_text()
        if path.stem == name:
            assert text.count(old) == 1
            text = text.replace(old, new)
        (folder / path.name).write_text(text)
    return capnp.SchemaParser().load(str(folder / f"{name}.capnp"))


def test_a_request_of_a_newer_program_names_its_id_and_leaves_the_connection_sound(tmp_path: Path) -> None:
    newer = schema_of_another_version(
        tmp_path, "client", "    place @13 :PlaceRequest;", "    place @13 :PlaceRequest;\n    transmogrify @14 :Void;"
    )
    request = newer.Request.new_message(requestId=55)
    request.transmogrify = None
    error = refused(decode_request, request.to_bytes())
    assert isinstance(error, UnknownRequest)
    assert (error.request_id, error.code) == (55, ErrorCode.UNIMPLEMENTED)


@pytest.mark.parametrize("kind", ["read", "scan"])
@pytest.mark.parametrize("consistency", [2, 3, 9])
def test_an_unknown_consistency_is_an_unknown_request(kind: str, consistency: int) -> None:
    request = load("client").Request.new_message(requestId=55)
    request.init(kind).consistency = consistency
    error = refused(decode_request, request.to_bytes())
    assert isinstance(error, UnknownRequest)
    assert (error.request_id, error.code) == (55, ErrorCode.UNIMPLEMENTED)


def test_a_reply_of_a_newer_program_is_refused_as_unknown(tmp_path: Path) -> None:
    newer = schema_of_another_version(
        tmp_path, "client", "    place @11 :Void;", "    place @11 :Void;\n    riddle @12 :Void;"
    )
    reply = newer.Reply.new_message(requestId=55)
    reply.riddle = None
    error = refused(decode_reply, reply.to_bytes())
    assert isinstance(error, ProtocolError)
    assert error.code is ErrorCode.UNIMPLEMENTED


def test_a_new_field_of_a_newer_program_is_overlooked(tmp_path: Path) -> None:
    newer = schema_of_another_version(
        tmp_path, "client", "  keysOnly @4 :Bool;", "  keysOnly @4 :Bool;\n  colour @5 :Text;"
    )
    request = newer.Request.new_message(requestId=3, shard=7)
    request.init("scan").colour = "green"
    expected = ScanRequest(3, 7, 0, 0, Consistency.LINEARIZABLE, b"", b"", 0)
    assert decode_request(request.to_bytes()) == expected


def test_a_field_that_an_older_program_does_not_send_has_its_default(tmp_path: Path) -> None:
    older = schema_of_another_version(
        tmp_path, "client", "  revisions @3 :Data;\n  # Empty, but for a retry", "  # Empty, but for a retry"
    )
    reply = older.Reply.new_message(requestId=3)
    reply.init("write").outcomes = b"\x01"
    assert decode_reply(reply.to_bytes()) == WriteReply(3, BatchResult(0, b"\x01"))


@pytest.mark.parametrize(("decode", "struct_name"), [(decode_request, "Request"), (decode_reply, "Reply")])
def test_a_message_that_says_nothing_is_refused(decode: Callable[[bytes], Any], struct_name: str) -> None:
    message = getattr(load("client"), struct_name).new_message()
    message.none = None
    error = refused(decode, message.to_bytes())
    assert isinstance(error, ProtocolError)
    assert error.code is ErrorCode.INVALID_ARGUMENT


def test_an_unknown_outcome_of_an_order_is_refused() -> None:
    reply = CopyOrderReply(7, 4, 2, 1, order=5, index=9, outcome=CopyOrderOutcome.SENDING)
    encoded = encode_peer_frame((reply,))
    place = encoded.index(struct.pack("<IIIIQ", 7, 2, 1, 1, 4)) + 12
    damaged = encoded[:place] + struct.pack("<I", 4) + encoded[place + 4 :]
    error = refused(decode_peer_frame, damaged)
    assert isinstance(error, ProtocolError)
    assert error.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["link_frame", "reply_map", "reply_status", "hello"])
def test_bad_text_is_refused(name: str) -> None:
    form = FORMATS[name]
    encoded = form.encode(form.sample)
    text = b"127.0.0.1:5009" if b"127.0.0.1:5009" in encoded else b"127.0.0.1:4001"
    refused(form.decode, encoded.replace(text, b"\xff" + text[1:]))
    refused(form.decode, encoded.replace(text + b"\0", text + b"x"))


# Batches whose columns do not fit together.


def batch_with(**changes: Any) -> Batch:
    columns: dict[str, Any] = {
        "session": bytes(16),
        "sequence": 1,
        "answered_below": 0,
        "opens_session": False,
        "atomic": False,
        "epoch": 1,
        "kinds": bytes((PUT, PUT, DELETE)),
        "keys": [b"a", b"b", b"c"],
        "values": [b"1", b"2", b""],
    }
    return Batch(**{**columns, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kinds": b"", "keys": [], "values": []}, "no operation"),
        ({"keys": [b"a", b"b"]}, "not of one length"),
        ({"values": [b"1", b"2", b"", b""]}, "not of one length"),
        ({"kinds": bytes((PUT, PUT))}, "not of one length"),
        ({"kinds": bytes((PUT, 9, DELETE))}, "a kind that this program does not know"),
        ({"kinds": bytes((PUT, 0, DELETE))}, "a kind that this program does not know"),
        ({"values": [b"1", b"2", b"3"]}, "a delete carries a value"),
        ({"conditions": (1, 2)}, "not one per operation"),
        ({"positions": (1, 2)}, "not one per operation, ascending"),
        ({"positions": (1, 2, 2)}, "not one per operation, ascending"),
        ({"positions": (3, 2, 1)}, "not one per operation, ascending"),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(changes: dict[str, Any], sentence: str) -> None:
    codec = CapnpBatchCodec()
    encoded = codec.encode_batch(batch_with(**changes))
    with pytest.raises(InvalidArgument, match=sentence) as raised:
        codec.decode_batch(encoded)
    assert raised.value.applied == "no"


def altered_batch(column: str, content: bytes) -> bytes:
    batch = batch_with(conditions=(1, 2, 3), positions=(1, 2, 3))
    message = load("client").Batch.from_segments([CODEC.encode_batch(batch)[8:]]).as_builder()
    setattr(message, column, content)
    encoded: bytes = message.to_bytes()
    return encoded


@pytest.mark.parametrize(("column", "length"), [("conditions", 23), ("positions", 5), ("head", 40), ("head", 0)])
def test_a_column_that_ends_inside_a_number_is_refused(column: str, length: int) -> None:
    refused(CODEC.decode_batch, altered_batch(column, bytes(length)))


@pytest.mark.parametrize("flags", [16, 128, 255])
def test_a_batch_with_an_unknown_flag_is_refused(flags: int) -> None:
    error = refused(CODEC.decode_batch, altered_batch("head", bytes(40) + bytes([flags, PUT, PUT, DELETE])))
    assert "a flag that this program does not know" in str(error)


@pytest.mark.parametrize("session", [b"", bytes(15), bytes(17)])
def test_a_session_of_another_length_is_never_written(session: bytes) -> None:
    with pytest.raises(AssertionError, match="a session has 16 bytes"):
        CODEC.encode_batch(batch_with(session=session))


def test_more_operations_than_positions_can_name_are_refused() -> None:
    count = ITEMS_MAX + 1
    batch = batch_with(kinds=bytes([PUT]) * count, keys=[b""] * count, values=[b""] * count)
    refused(CODEC.decode_batch, CODEC.encode_batch(batch))


def test_more_keys_than_any_request_may_have_are_refused_unread() -> None:
    request = load("client").Request.new_message(requestId=1)
    request.init("read").keys = [b""] * (ITEMS_MAX + 1)
    refused(decode_request, request.to_bytes())


@pytest.mark.parametrize("name", ["read", "scan"])
def test_replies_with_columns_of_different_lengths_are_refused(name: str) -> None:
    reply = load("client").Reply.new_message(requestId=1)
    page = reply.init(name)
    page.values = [b"1", b"2"]
    page.revisions = bytes(8)
    refused(decode_reply, reply.to_bytes())
