"""The first message of every connection and its answer (``schema/common.capnp``)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import attrs

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.types import NO_HOST, HostId
from shardraft.wire.schema import MALFORMED, load, open_message

PROTOCOL_VERSION: Final = 1
"""The highest version that this program speaks."""
PROTOCOL_VERSION_MIN: Final = 1
"""The lowest."""
MAGIC: Final = int.from_bytes(b"shrdraft", "little")
HELLO_BYTES_MAX: Final = 4096
"""A hello and its answer are smaller than this; before the hello nobody may send more."""
_TEXT_CHARACTERS_MAX: Final = 1024


class Role(IntEnum):
    """What the side that connected wants to be on the connection. Numbers are never reused."""

    CLIENT = 0
    PEER = 1
    """A voter host."""
    LEARNER = 2
    """A child of the read tree."""


@attrs.frozen(slots=True, kw_only=True)
class Hello:
    """Who connects, and what for. ``cluster_id`` is empty when it does not know its cluster yet."""

    role: Role
    version_min: int = PROTOCOL_VERSION_MIN
    version_max: int = PROTOCOL_VERSION
    cluster_id: bytes = b""
    host: HostId = NO_HOST
    endpoint: str = ""
    incarnation: int = 0
    boot_nonce: int = 0


@attrs.frozen(slots=True)
class HelloRefused:
    """Why a hello was refused; ``text`` is a sentence for a person."""

    code: ErrorCode
    text: str


@attrs.frozen(slots=True, kw_only=True)
class HelloReply:
    """Who answers. With an ``error`` the connection is closed after it and the rest may be empty."""

    version: int = PROTOCOL_VERSION
    cluster_id: bytes = b""
    host: HostId = NO_HOST
    tier: int = 0
    incarnation: int = 0
    boot_nonce: int = 0
    error: HelloRefused | None = None


def choose_version(hello: Hello) -> int:
    """The highest version that both sides speak; raises ``ProtocolError`` (UNIMPLEMENTED) when there is none."""
    version = min(hello.version_max, PROTOCOL_VERSION)
    if version < max(hello.version_min, PROTOCOL_VERSION_MIN):
        raise ProtocolError(
            ErrorCode.UNIMPLEMENTED,
            f"this host speaks protocol versions {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, "
            f"the other side {hello.version_min} to {hello.version_max}: one of the two must be upgraded",
        )
    return version


def encode_hello(hello: Hello) -> bytes:
    message = load("common").Hello.new_message()
    message.magic = MAGIC
    message.role = int(hello.role)
    message.versionMin = hello.version_min
    message.versionMax = hello.version_max
    message.clusterId = hello.cluster_id
    message.host = hello.host
    message.endpoint = hello.endpoint
    message.incarnation = hello.incarnation
    message.bootNonce = hello.boot_nonce
    encoded: bytes = message.to_bytes()
    return encoded


def decode_hello(frame: bytes) -> Hello:
    """The hello in one frame, whatever its versions.

    Raises ``ProtocolError``: INVALID_ARGUMENT for what is no hello, UNIMPLEMENTED for an unknown role.
    """
    try:
        message = open_message(load("common").Hello, frame)
        if message.magic != MAGIC:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "this is no hello of this protocol: its magic is wrong")
        role: int = message.role.raw
        if role > Role.LEARNER:
            raise ProtocolError(ErrorCode.UNIMPLEMENTED, f"this host knows no role {role}")
        return Hello(
            role=Role(role),
            version_min=message.versionMin,
            version_max=message.versionMax,
            cluster_id=message.clusterId,
            host=message.host,
            endpoint=message.endpoint,
            incarnation=message.incarnation,
            boot_nonce=message.bootNonce,
        )
    except MALFORMED:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "this is no hello of this protocol") from None


def encode_hello_reply(reply: HelloReply) -> bytes:
    message = load("common").HelloReply.new_message()
    message.magic = MAGIC
    message.version = reply.version
    message.clusterId = reply.cluster_id
    message.host = reply.host
    message.tier = reply.tier
    message.incarnation = reply.incarnation
    message.bootNonce = reply.boot_nonce
    if reply.error is not None:
        message.error = int(reply.error.code)
        message.text = reply.error.text[:_TEXT_CHARACTERS_MAX]
    encoded: bytes = message.to_bytes()
    return encoded


def decode_hello_reply(frame: bytes) -> HelloReply:
    """The answer in one frame; raises ``ProtocolError`` (INVALID_ARGUMENT) for what is none."""
    try:
        message = open_message(load("common").HelloReply, frame)
        if message.magic != MAGIC:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "what answered speaks another protocol: its magic is wrong")
        code: int = message.error.raw
        return HelloReply(
            version=message.version,
            cluster_id=message.clusterId,
            host=message.host,
            tier=message.tier,
            incarnation=message.incarnation,
            boot_nonce=message.bootNonce,
            error=HelloRefused(_known(code), message.text) if code else None,
        )
    except MALFORMED:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "the answer to the hello is none of this protocol") from None


def _known(code: int) -> ErrorCode:
    try:
        return ErrorCode(code)
    except ValueError:
        # A newer program's reason: its sentence still tells it.
        return ErrorCode.UNIMPLEMENTED
