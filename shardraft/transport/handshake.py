"""The hello on both sides (DESIGN section 4): one message each way before anything else is said.

The side that connected sends nothing after its hello before it has the answer, so a stranger's first
bytes are bounded by ``HELLO_BYTES_MAX``. Both functions need the connection's writer running and a
timeout around them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.transport.connection import Connection
from shardraft.wire.hello import (
    Hello,
    HelloRefused,
    HelloReply,
    choose_version,
    decode_hello,
    decode_hello_reply,
    encode_hello,
    encode_hello_reply,
)

Admission: TypeAlias = Callable[[Hello], HelloReply]
"""Decides about a hello whose version is fine; refuses with a ``ProtocolError``. The version is filled in after it."""


async def shake_hands_as_server(connection: Connection, admit: Admission) -> Hello:
    """Receive a hello and answer it.

    Raises ``ProtocolError`` when the other side closed, sent anything else, or was refused; a refusal has
    then been queued for it.
    """
    try:
        frames = await connection.receive_frames()
        if not frames:
            raise ProtocolError(ErrorCode.UNAVAILABLE, "closed before it said hello")
        hello = decode_hello(frames[0])
        if len(frames) > 1:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "it spoke on before its hello was answered")
        version = choose_version(hello)
        reply = attrs.evolve(admit(hello), version=version)
    except ProtocolError as error:
        refuse(connection, error)
        raise
    connection.send(encode_hello_reply(reply))
    return hello


async def shake_hands_as_client(connection: Connection, hello: Hello) -> HelloReply:
    """Say hello and wait for the answer.

    Raises ``ProtocolError`` when the other side closed, refused, answered anything else, or is of another
    cluster than the one that ``hello`` names.
    """
    connection.send(encode_hello(hello))
    frames = await connection.receive_frames()
    if not frames:
        raise ProtocolError(ErrorCode.UNAVAILABLE, "closed before it answered the hello")
    reply = decode_hello_reply(frames[0])
    if reply.error is not None:
        raise ProtocolError(reply.error.code, f"refused the hello: {reply.error.text}")
    if not hello.version_min <= reply.version <= hello.version_max:
        raise ProtocolError(ErrorCode.UNIMPLEMENTED, f"answered with protocol version {reply.version}, not offered")
    if hello.cluster_id:
        check_cluster(reply.cluster_id, hello.cluster_id)
    if len(frames) > 1:
        connection.unread(frames[1:])
    return reply


def check_cluster(theirs: bytes, ours: bytes) -> None:
    """Refuse another cluster than ours; an empty id means that the other side does not know its cluster yet."""
    if theirs and theirs != ours:
        text = f"of cluster {theirs.hex()}, and this is cluster {ours.hex()}: a wrong address?"
        raise ProtocolError(ErrorCode.PERMISSION_DENIED, text)


def refuse(connection: Connection, error: ProtocolError) -> None:
    """Queue the answer that refuses a hello."""
    connection.send(encode_hello_reply(HelloReply(error=HelloRefused(error.code, str(error)))))
