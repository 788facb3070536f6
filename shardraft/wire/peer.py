"""Frames between hosts: voter to voter (``PeerFrame``), and parent to child (``LinkFrame``).

Entries pass through as they are; each one's checksum is verified on receipt. Impossible terms and
indexes of messages are decoded like any others: Raft refuses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.host.messages import LinkMessage, PeerMessage
from shardraft.wire.columns import FrameForm, Kind, encode_frames, read_frame
from shardraft.wire.links import LINK_KINDS
from shardraft.wire.records import PEER_KINDS
from shardraft.wire.schema import MALFORMED, open_message
from shardraft.wire.words import LibraryReader, OtherLayout, QuickReader

FRAME_BYTES_WANTED: Final = 8 << 20
"""What a turn has for one peer is split into frames of about this; a single larger message goes alone."""

_PEER_FORM: Final = FrameForm("PeerFrame")
_LINK_FORM: Final = FrameForm("LinkFrame")
_PEER_BY_NUMBER: Final[Mapping[int, Kind]] = {kind.number: kind for kind in PEER_KINDS.values()}
_LINK_BY_NUMBER: Final[Mapping[int, Kind]] = {kind.number: kind for kind in LINK_KINDS.values()}


def encode_peer_frame(messages: tuple[PeerMessage, ...]) -> bytes:
    """The frames of these messages, joined: one, unless they are more than ``FRAME_BYTES_WANTED``."""
    return _joined(encode_frames(_PEER_FORM, PEER_KINDS, messages, FRAME_BYTES_WANTED))


def decode_peer_frame(frame: bytes) -> tuple[PeerMessage, ...]:
    """The messages of one frame in their order.

    Raises ``ProtocolError``: INVALID_ARGUMENT for bytes that are no such frame or an entry with a wrong
    checksum, UNIMPLEMENTED for a kind of message that this program does not know.
    """
    return _decode(_PEER_FORM, _PEER_BY_NUMBER, frame)


def encode_link_frame(messages: tuple[LinkMessage, ...]) -> bytes:
    """The frames of these messages, joined: one, unless they are more than ``FRAME_BYTES_WANTED``."""
    return _joined(encode_frames(_LINK_FORM, LINK_KINDS, messages, FRAME_BYTES_WANTED))


def decode_link_frame(frame: bytes) -> tuple[LinkMessage, ...]:
    """The messages of one frame in their order; raises as ``decode_peer_frame`` does."""
    return _decode(_LINK_FORM, _LINK_BY_NUMBER, frame)


def _joined(frames: list[bytes]) -> bytes:
    return frames[0] if len(frames) == 1 else b"".join(frames)


def _decode(form: FrameForm, kinds: Mapping[int, Kind], frame: bytes) -> tuple[Any, ...]:
    try:
        messages = _decode_quickly(form, kinds, frame)
        if messages is None:
            messages = read_frame(LibraryReader(open_message(form.schema, frame)), kinds)
        return messages
    except MALFORMED:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "the frame is none of this protocol") from None


def _decode_quickly(form: FrameForm, kinds: Mapping[int, Kind], frame: bytes) -> tuple[Any, ...] | None:
    try:
        return read_frame(QuickReader(form.layout, frame), kinds)
    except OtherLayout:
        return None
