"""The hello on both sides: nothing is said before it, and every refusal is a sentence that arrives."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.transport.connection import Connection
from shardraft.transport.handshake import Admission, check_cluster, shake_hands_as_client, shake_hands_as_server
from shardraft.wire.hello import (
    Hello,
    HelloReply,
    Role,
    decode_hello_reply,
    encode_hello,
    encode_hello_reply,
)
from tests.transport.streams import CLUSTER, FRAMES, admit_everybody, connection_over, read_to_end

pytestmark = pytest.mark.trio

HELLO = Hello(role=Role.PEER, cluster_id=CLUSTER, host=2, endpoint="127.0.0.1:4002", incarnation=3, boot_nonce=4)


async def refusal_by_server(first_bytes: bytes, admit: Admission = admit_everybody) -> tuple[ProtocolError, HelloReply]:
    """What the server raises, and what it answers, when these bytes arrive first."""
    ours, theirs = memory_stream_pair()
    raised: list[ProtocolError] = []

    async def serve(connection: Connection) -> None:
        with pytest.raises(ProtocolError) as caught:
            await shake_hands_as_server(connection, admit)
        raised.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection_over(theirs).run, serve)
        await ours.send_all(first_bytes)
        answer = await read_to_end(ours)
        await ours.aclose()
    return raised[0], decode_hello_reply(answer)


async def refusal_by_client(answer: bytes, hello: Hello = HELLO) -> ProtocolError:
    """What the client raises when it is answered with these bytes and then with the end."""
    ours, theirs = memory_stream_pair()
    await theirs.send_all(answer)
    await theirs.send_eof()
    with pytest.raises(ProtocolError) as caught:
        await shake_hands_as_client(connection_over(ours), hello)
    return caught.value


async def test_both_sides_learn_who_the_other_is() -> None:
    ours, theirs = memory_stream_pair()
    heard: list[Hello] = []

    async def serve(connection: Connection) -> None:
        heard.append(await shake_hands_as_server(connection, admit_everybody))
        connection.send(FRAMES[0])

    async def call(connection: Connection) -> None:
        reply = await shake_hands_as_client(connection, HELLO)
        assert reply == HelloReply(version=1, cluster_id=CLUSTER, host=1)
        assert await connection.receive_frames() == [FRAMES[0]], "what came along with the answer is not lost"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection_over(theirs).run, serve)
        nursery.start_soon(connection_over(ours).run, call)
    assert heard == [HELLO]


async def test_what_comes_along_with_the_answer_is_kept() -> None:
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    await theirs.send_all(encode_hello_reply(HelloReply(cluster_id=CLUSTER, host=1)) + FRAMES[0] + FRAMES[1])
    await shake_hands_as_client(connection, HELLO)
    assert await connection.receive_frames() == FRAMES[:2]


async def test_a_newer_client_is_told_which_versions_there_are() -> None:
    error, reply = await refusal_by_server(encode_hello(Hello(role=Role.CLIENT, version_min=2, version_max=3)))
    assert error.code is ErrorCode.UNIMPLEMENTED
    assert reply.error is not None
    assert reply.error.text == str(error)
    assert "versions 1 to 1, the other side 2 to 3" in reply.error.text


@pytest.mark.parametrize(
    ("first_bytes", "code", "sentence"),
    [
        (FRAMES[0], ErrorCode.INVALID_ARGUMENT, "no hello of this protocol"),
        (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.INVALID_ARGUMENT, "an HTTP request"),
        (b"\x16\x03\x01\x02\x00\x01", ErrorCode.INVALID_ARGUMENT, "a TLS handshake"),
        (bytes(8), ErrorCode.INVALID_ARGUMENT, "length 0"),
        (b"\0\0\0\0\xff\xff\xff\xff", ErrorCode.TOO_LARGE, "above the limit"),
        (encode_hello(HELLO) + FRAMES[0], ErrorCode.INVALID_ARGUMENT, "before its hello was answered"),
    ],
)
async def test_anything_but_a_hello_is_refused_with_a_sentence(
    first_bytes: bytes, code: ErrorCode, sentence: str
) -> None:
    error, reply = await refusal_by_server(first_bytes)
    assert error.code is code
    assert sentence in str(error)
    assert reply.error is not None
    assert (reply.error.code, reply.error.text) == (code, str(error))


async def test_a_refused_admission_reaches_the_other_side() -> None:
    def nobody(hello: Hello) -> HelloReply:
        raise ProtocolError(ErrorCode.PERMISSION_DENIED, f"host {hello.host} was removed")

    error, reply = await refusal_by_server(encode_hello(HELLO), nobody)
    assert str(error) == "host 2 was removed"
    assert reply.error is not None
    assert reply.error.text == "host 2 was removed"


async def test_a_side_that_closes_without_a_word_is_no_hello() -> None:
    ours, theirs = memory_stream_pair()
    await ours.aclose()
    with pytest.raises(ProtocolError, match="before it said hello") as caught:
        await shake_hands_as_server(connection_over(theirs), admit_everybody)
    assert caught.value.code is ErrorCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (b"", ErrorCode.UNAVAILABLE, "before it answered the hello"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ErrorCode.INVALID_ARGUMENT, "an HTTP response"),
        (encode_hello_reply(HelloReply(version=2, cluster_id=CLUSTER)), ErrorCode.UNIMPLEMENTED, "version 2"),
        (encode_hello_reply(HelloReply(cluster_id=b"d" * 16)), ErrorCode.PERMISSION_DENIED, "a wrong address"),
        (encode_hello(HELLO), ErrorCode.INVALID_ARGUMENT, "speaks another protocol"),
    ],
)
async def test_a_wrong_answer_is_refused(answer: bytes, code: ErrorCode, sentence: str) -> None:
    error = await refusal_by_client(answer)
    assert error.code is code
    assert sentence in str(error)


async def test_a_client_that_knows_no_cluster_yet_takes_any() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(encode_hello_reply(HelloReply(cluster_id=CLUSTER, host=1)))
    reply = await shake_hands_as_client(connection_over(ours), Hello(role=Role.CLIENT))
    assert reply.cluster_id == CLUSTER


async def test_another_cluster_is_refused_and_an_unknown_one_is_not() -> None:
    check_cluster(CLUSTER, CLUSTER)
    check_cluster(b"", CLUSTER)
    with pytest.raises(ProtocolError, match=r"of cluster 6464.*this is cluster 6363"):
        check_cluster(b"d" * 16, CLUSTER)
