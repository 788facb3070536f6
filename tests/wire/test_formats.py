"""The formats on the wire and on disk: fixed bytes, and every value comes back as it went."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import attrs
import pytest

from shardraft.errors import ShardraftError
from shardraft.host.messages import LinkMessage, PeerMessage
from shardraft.kv.requests import ErrorReply, StatusReply
from shardraft.wire.client import decode_reply, encode_reply
from shardraft.wire.framing import FrameDecoder
from shardraft.wire.links import LINK_KINDS
from shardraft.wire.records import PEER_KINDS
from tests.wire import samples
from tests.wire.samples import FORMATS

GOLDEN = Path(__file__).with_name("golden")
GOLDEN_BYTES = {
    **{name: form.encode(form.sample) for name, form in FORMATS.items()},
    "reply_error": encode_reply(samples.REPLIES["error"]),
}
STORED = {"hard_state", "machine_state", "shard_map", "identity"}


@pytest.mark.parametrize("name", sorted(GOLDEN_BYTES))
def test_the_format_is_the_one_that_was_released(name: str) -> None:
    """A change of these bytes breaks running clusters or disks; a new format is a new file beside the old one."""
    assert GOLDEN_BYTES[name] == (GOLDEN / f"{name}.bin").read_bytes()


def test_every_golden_file_is_checked() -> None:
    assert {path.stem for path in GOLDEN.glob("*.bin")} == set(GOLDEN_BYTES)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_was_released_is_still_understood(name: str) -> None:
    decoded = FORMATS[name].decode((GOLDEN / f"{name}.bin").read_bytes())
    assert decoded == FORMATS[name].sample


def test_a_status_from_before_memberships_were_told_is_understood() -> None:
    """What has only gained fields at the end stays readable: the new ones say nothing."""
    decoded = decode_reply((GOLDEN / "older" / "reply_status.bin").read_bytes())
    sample = samples.REPLIES["status"]
    assert isinstance(sample, StatusReply)
    assert decoded == attrs.evolve(sample, shards=sample.shards[:1])


def test_a_frame_from_before_copies_were_ordered_is_understood() -> None:
    assert FORMATS["peer_frame"].decode((GOLDEN / "older" / "peer_frame.bin").read_bytes()) == samples.PEER_MESSAGES


@pytest.mark.parametrize("name", sorted(set(GOLDEN_BYTES) - STORED))
def test_every_message_is_one_frame_of_one_segment(name: str) -> None:
    encoded = GOLDEN_BYTES[name]
    assert FrameDecoder(1 << 20, segments_max=1).feed(encoded) == [encoded]


@pytest.mark.parametrize("error", samples.ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_arrives_as_the_same_class_with_the_same_numbers(error: ShardraftError) -> None:
    reply = decode_reply(encode_reply(ErrorReply(8, error)))
    assert isinstance(reply, ErrorReply)
    assert reply.request_id == 8
    assert type(reply.error) is type(error)
    assert str(reply.error) == str(error)
    assert vars(reply.error) == vars(error)


def test_every_error_class_has_a_sample() -> None:
    on_the_wire = {cls for cls in ShardraftError.__subclasses__() if cls.__name__ != "PartialWrite"}
    assert {type(error) for error in samples.ERRORS} == on_the_wire


def test_every_message_between_hosts_has_a_kind_and_a_sample() -> None:
    of_peers = (*samples.PEER_MESSAGES, *samples.ORDERED_MESSAGES)
    assert set(get_args(PeerMessage)) == set(PEER_KINDS) == {type(message) for message in of_peers}
    assert set(get_args(LinkMessage)) == set(LINK_KINDS) == {type(message) for message in samples.LINK_MESSAGES}


def test_kinds_have_numbers_of_their_own() -> None:
    kinds = {**PEER_KINDS, **LINK_KINDS}
    assert len({kind.number for kind in kinds.values()}) == len(kinds)


def test_entries_pass_through_untouched() -> None:
    frame = GOLDEN_BYTES["peer_frame"]
    assert all(entry.encoded in frame for entry in samples.ENTRIES)


def test_the_payload_of_a_write_is_the_batch_itself() -> None:
    assert samples.CODEC.encode_batch(samples.BATCH) in GOLDEN_BYTES["request_write"]
