"""The hello: who may talk to whom, and in which version."""

from __future__ import annotations

import pytest

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.wire.client import encode_request
from shardraft.wire.hello import (
    HELLO_BYTES_MAX,
    MAGIC,
    Hello,
    HelloRefused,
    HelloReply,
    Role,
    choose_version,
    decode_hello,
    decode_hello_reply,
    encode_hello,
    encode_hello_reply,
)
from shardraft.wire.schema import load
from tests.wire.samples import HELLO, REQUESTS


@pytest.mark.parametrize(("lowest", "highest"), [(1, 1), (0, 1), (1, 9), (0, 65535)])
def test_the_highest_version_that_both_speak_is_chosen(lowest: int, highest: int) -> None:
    assert choose_version(Hello(role=Role.CLIENT, version_min=lowest, version_max=highest)) == 1


@pytest.mark.parametrize(("lowest", "highest"), [(2, 9), (0, 0), (9, 2)])
def test_no_common_version_is_refused_with_a_sentence(lowest: int, highest: int) -> None:
    hello = Hello(role=Role.CLIENT, version_min=lowest, version_max=highest)
    with pytest.raises(ProtocolError, match=f"versions 1 to 1, the other side {lowest} to {highest}") as raised:
        choose_version(hello)
    assert raised.value.code is ErrorCode.UNIMPLEMENTED


def test_a_hello_of_a_newer_version_can_be_read_to_refuse_it() -> None:
    hello = Hello(role=Role.PEER, version_min=7, version_max=9)
    assert decode_hello(encode_hello(hello)) == hello


def test_a_hello_fits_where_a_stranger_may_send() -> None:
    assert len(encode_hello(HELLO)) <= HELLO_BYTES_MAX


@pytest.mark.parametrize("foreign", [encode_request(request) for request in REQUESTS.values()])
def test_any_other_message_is_no_hello(foreign: bytes) -> None:
    with pytest.raises(ProtocolError, match="no hello") as raised:
        decode_hello(foreign)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_an_unknown_role_is_refused_by_its_number() -> None:
    message = load("common").Hello.from_segments([encode_hello(HELLO)[8:]]).as_builder()
    message.role = 5
    with pytest.raises(ProtocolError, match="no role 5") as raised:
        decode_hello(message.to_bytes())
    assert raised.value.code is ErrorCode.UNIMPLEMENTED


def test_a_refusal_for_a_new_reason_keeps_its_sentence() -> None:
    message = load("common").HelloReply.new_message(magic=MAGIC)
    message.error = 77
    message.text = "the moon is full"
    assert decode_hello_reply(message.to_bytes()).error == HelloRefused(ErrorCode.UNIMPLEMENTED, "the moon is full")


def test_a_long_sentence_is_cut() -> None:
    refused = HelloRefused(ErrorCode.OVERLOADED, "x" * 5000)
    error = decode_hello_reply(encode_hello_reply(HelloReply(error=refused))).error
    assert error == HelloRefused(ErrorCode.OVERLOADED, "x" * 1024)


@pytest.mark.parametrize("foreign", [encode_hello(HELLO), encode_request(REQUESTS["status"])])
def test_any_other_message_is_no_answer(foreign: bytes) -> None:
    """A socket may connect to itself: a host does not take its own hello for an answer."""
    with pytest.raises(ProtocolError, match="its magic is wrong") as raised:
        decode_hello_reply(foreign)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
