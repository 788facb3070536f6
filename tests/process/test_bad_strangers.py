"""Who says no proper hello is told why, if anything it said made sense, and is gone; nobody else notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shardraft.errors import ErrorCode
from shardraft.types import HostId
from shardraft.wire.hello import Hello, Role, encode_hello
from tests.eventually import eventually
from tests.process.attack import hello_refusal, others_unharmed
from tests.process.cluster import ProcessCluster
from tests.process.wire_client import WireClient

pytestmark = pytest.mark.slow

HOST: HostId = 1
FOUR_GIB = b"\x00\x00\x00\x00" + b"\xff\xff\xff\x1f"
"""The segment table of a message with one segment of 2**29 - 1 words."""
TLS_HELLO = bytes.fromhex("16030100b8010000b40303") + bytes(180)


@pytest.fixture
def stranger(attacked: ProcessCluster) -> Iterator[WireClient]:
    """A connection that has said nothing yet."""
    with others_unharmed(attacked, HOST), WireClient(attacked.endpoints[HOST]) as client:
        yield client


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        (b"\xde\xad\xbe\xef" * 1000, ErrorCode.INVALID_ARGUMENT, "this is no frame of this protocol"),
        (b"GET / HTTP/1.1\r\nHost: shardraft\r\n\r\n", ErrorCode.INVALID_ARGUMENT, "this is an HTTP request"),
        (TLS_HELLO, ErrorCode.INVALID_ARGUMENT, "this is a TLS handshake"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ErrorCode.INVALID_ARGUMENT, "this is an SSH connection"),
        (bytes(64), ErrorCode.INVALID_ARGUMENT, "a frame of length 0 is no message"),
        (FOUR_GIB, ErrorCode.TOO_LARGE, "a frame of 4294967296 bytes is above the limit of 4096 here"),
        (b"\x00\x00\x00\x00\x02\x00\x00\x00" + bytes(16), ErrorCode.INVALID_ARGUMENT, "this is no hello"),
        (encode_hello(Hello(role=Role.CLIENT)) * 2, ErrorCode.INVALID_ARGUMENT, "it spoke on before its hello"),
    ],
    ids=["garbage", "HTTP", "TLS", "SSH", "zeros", "4 GiB", "an empty message", "two hellos"],
)
def test_what_is_no_hello_is_refused(stranger: WireClient, said: bytes, code: ErrorCode, text: str) -> None:
    stranger.send(said)
    refused_as, because = hello_refusal(stranger)
    assert refused_as is code
    assert because.startswith(text)


@pytest.mark.parametrize("said", [b"", b"\x00", encode_hello(Hello(role=Role.CLIENT))[:-1]])
def test_a_hello_that_never_ends_is_given_up(stranger: WireClient, said: bytes) -> None:
    stranger.send(said)
    assert hello_refusal(stranger) == (ErrorCode.DEADLINE_EXCEEDED, "said no hello within 0.4 s")


def test_a_hello_that_is_cut_off_ends_the_connection(stranger: WireClient) -> None:
    stranger.send(encode_hello(Hello(role=Role.CLIENT))[:20])
    stranger.end()
    assert hello_refusal(stranger) == (ErrorCode.UNAVAILABLE, "closed before it said hello")


@pytest.mark.parametrize(
    ("hello", "code", "text"),
    [
        (
            Hello(role=Role.CLIENT, version_min=2, version_max=9),
            ErrorCode.UNIMPLEMENTED,
            "one of the two must be upgraded",
        ),
        (Hello(role=Role.CLIENT, cluster_id=b"x" * 16), ErrorCode.PERMISSION_DENIED, "of cluster 7878"),
        (Hello(role=Role.PEER, host=2, cluster_id=b"x" * 16), ErrorCode.PERMISSION_DENIED, "of cluster 7878"),
        (Hello(role=Role.PEER, host=9), ErrorCode.PERMISSION_DENIED, "host 9 is no voter host of this cluster"),
        (
            Hello(role=Role.PEER, host=HOST),
            ErrorCode.PERMISSION_DENIED,
            "host 1 is no voter host of this cluster besides",
        ),
        (Hello(role=Role.PEER), ErrorCode.PERMISSION_DENIED, "host 0 is no voter host of this cluster"),
        (
            Hello(role=Role.PEER, host=2),
            ErrorCode.STALE_DISK,
            "host 2 shows start 0 of its disk and was met in start 1",
        ),
        (Hello(role=Role.LEARNER, host=2), ErrorCode.PERMISSION_DENIED, "a learner needs an id that no voter host has"),
        (Hello(role=Role.LEARNER), ErrorCode.PERMISSION_DENIED, "a learner needs an id that no voter host has, not 0"),
    ],
)
def test_who_does_not_belong_here_is_refused(stranger: WireClient, hello: Hello, code: ErrorCode, text: str) -> None:
    stranger.send(encode_hello(hello))
    refused_as, because = hello_refusal(stranger)
    assert refused_as is code
    assert text in because


def test_above_the_limit_connections_are_turned_away(attacked: ProcessCluster) -> None:
    with others_unharmed(attacked, HOST):
        clients = [WireClient(attacked.endpoints[HOST]) for _ in range(120)]
        try:
            code, text = hello_refusal(clients[-1])
            assert (code, text) == (ErrorCode.OVERLOADED, "this host has its limit of 100 connections")
        finally:
            for client in clients:
                client.__exit__(None, None, None)
        # Places are free again once the host has seen them close.
        eventually(lambda: attacked.status(HOST) is not None)
