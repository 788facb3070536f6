"""Writes and their replies word by word, as ``wire.reads`` does for reads: the library's bytes, without the library.

A write carries a batch that is encoded already, so its request is eight numbers and a copy; most replies are three
numbers and a byte per operation. Each function knows one layout and leaves any other to the library (decision 0027).
"""

from __future__ import annotations

import struct
from typing import Final

from shardraft.kv.commands import BatchResult
from shardraft.kv.requests import WriteReply, WriteRequest
from shardraft.octets.layouts import IN_BYTES
from shardraft.wire.schema import pack_numbers
from shardraft.wire.words import PADDING

_REQUEST: Final = struct.Struct("<2I 2I QIIQQ 2I")
"""Segment table; root pointer; id, shard, timeout, epoch, union; pointer to the batch."""
_REQUEST_BYTES: Final = 56
_REQUEST_ROOT: Final = 0x00010004
"""A struct of four words and one pointer."""
_REPLY: Final = struct.Struct("<2I 2I QQ 2I Q 2I 2I 2I")
"""Segment table; root; id, union; its pointer; first revision; pointers to outcomes, found revisions, revisions."""
_REPLY_READ: Final = struct.Struct("<2I 2I QQ 2I Q 2I Q Q")
"""The same with the last two pointers as one number each, which is 0 for what is not set."""
_REPLY_BYTES: Final = 72
_REPLY_ROOT: Final = 0x00010002
_REPLY_WRITE: Final = 0x00030001
_WRITE: Final = 1
"""The union's number of a write, in requests and in replies alike."""


def pieces_of_write_request(request: WriteRequest) -> tuple[bytes, bytes, bytes]:
    """One framed message of a single segment, in pieces; the second is the payload, which may be large."""
    payload = request.payload
    size = len(payload)
    head = _REQUEST.pack(
        0,
        6 + ((size + 7) >> 3),
        0,
        _REQUEST_ROOT,
        request.request_id,
        request.shard,
        request.timeout_ms,
        request.epoch,
        _WRITE,
        1,
        size << 3 | IN_BYTES,
    )
    return head, payload, PADDING[-size & 7]


def decode_write_request(message: bytes) -> WriteRequest | None:
    """The request in one framed message, None when it is not one of this layout."""
    if len(message) < _REQUEST_BYTES:
        return None
    more, words, zero, root, request_id, shard, timeout_ms, epoch, which, near, kind = _REQUEST.unpack_from(message)
    if which != _WRITE or (more, zero, root, near, kind & 7) != (0, 0, _REQUEST_ROOT, 1, IN_BYTES):
        return None
    end = _REQUEST_BYTES + (kind >> 3)
    if len(message) != 8 + 8 * words or (end + 7) >> 3 != words + 1:
        return None
    return WriteRequest(request_id, shard, epoch, timeout_ms, message[_REQUEST_BYTES:end])


def encode_write_reply(reply: WriteReply) -> bytes:
    """One framed message of a single segment."""
    result = reply.result
    outcomes = len(result.outcomes)
    found = len(result.found_revisions)
    revisions = len(result.revisions)
    words = (outcomes + 7) >> 3
    head = _REPLY.pack(
        0,
        8 + words + found + revisions,
        0,
        _REPLY_ROOT,
        reply.request_id,
        _WRITE,
        0,
        _REPLY_WRITE,
        result.first_revision,
        2 << 2 | 1,
        outcomes << 3 | IN_BYTES,
        (1 + words) << 2 | 1 if found else 0,
        found << 6 | IN_BYTES if found else 0,
        (words + found) << 2 | 1 if revisions else 0,
        revisions << 6 | IN_BYTES if revisions else 0,
    )
    framed = head + result.outcomes + PADDING[-outcomes & 7]
    if found or revisions:
        framed += pack_numbers(result.found_revisions) + pack_numbers(result.revisions)
    return framed


def decode_write_reply(message: bytes) -> WriteReply | None:
    """The reply in one framed message, None when it is not one of this layout or reports more than outcomes."""
    if len(message) < _REPLY_BYTES:
        return None
    more, words, zero, root, request_id, which, near, write, first, place, kind, found, revisions = (
        _REPLY_READ.unpack_from(message)
    )
    if which != _WRITE or (more, zero, root, near, write, place) != (0, 0, _REPLY_ROOT, 0, _REPLY_WRITE, 9):
        return None
    end = _REPLY_BYTES + (kind >> 3)
    if found or revisions or kind & 7 != IN_BYTES or len(message) != 8 + 8 * words or (end + 7) >> 3 != words + 1:
        return None
    return WriteReply(request_id, BatchResult(first, message[_REPLY_BYTES:end]))
