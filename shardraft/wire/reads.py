"""Reads and their replies word by word: the same bytes that the Cap'n Proto library makes, in a third of the time.

A read is the smallest thing that travels, so what the library takes for each field, once for a request and once for
its reply, was a quarter of a client's time and much of a learner's. Encoding writes what the library would write for
these structs (tests compare the bytes). Decoding knows that one layout only, in which everything follows in the order
of the schema without gaps; it returns None for any other, and the library decides what that is. So what another program
wrote, what a later schema added and what is damaged all take the general way.

Sizes are in words of 8 bytes, as Cap'n Proto counts. A pointer is two 32-bit halves: how many words lie between it and
its target, and its kind; then what the target is.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from shardraft.kv.requests import Consistency, ReadReply, ReadRequest
from shardraft.octets.functions import pack_items, unpack_items
from shardraft.octets.layouts import IN_BYTES, OF_POINTERS
from shardraft.types import INTEGER_MAX
from shardraft.wire.schema import pack_numbers

_REQUEST: Final = struct.Struct("<2I 2I QIIQQ 2I Q 2I")
"""Segment table; root pointer; id, shard, timeout, epoch, union; its pointer; consistency; pointer to the keys."""
_REQUEST_WORDS: Final = 8
_REQUEST_ROOT: Final = 0x00010004
"""A struct of four words and one pointer."""
_REQUEST_READ: Final = 0x00010001
_REPLY: Final = struct.Struct("<2I 2I QQ 2I QQQ 2I 2I")
"""Segment table; root pointer; id, union; its pointer; applied index, age, tier; pointers to values and revisions."""
_REPLY_WORDS: Final = 9
_REPLY_ROOT: Final = 0x00010002
_REPLY_READ: Final = 0x00020003
_READ: Final = 2
"""The union's number of a read, in requests and in replies alike."""
_CONSISTENCIES: Final = {int(consistency): consistency for consistency in Consistency}


def encode_read_request(request: ReadRequest) -> bytes:
    """One framed message of a single segment."""
    keys = request.keys
    items = pack_items(keys)
    return (
        _REQUEST.pack(
            0,
            _REQUEST_WORDS + (len(items) >> 3),
            0,
            _REQUEST_ROOT,
            request.request_id,
            request.shard,
            request.timeout_ms,
            request.epoch,
            _READ,
            0,
            _REQUEST_READ,
            int(request.consistency),
            1,
            len(keys) << 3 | OF_POINTERS,
        )
        + items
    )


def decode_read_request(message: bytes) -> ReadRequest | None:
    """The request in one framed message, None when it is not one of this layout."""
    if len(message) < 8 + 8 * _REQUEST_WORDS:
        return None
    more, words, zero, root, request_id, shard, timeout_ms, epoch, which, near, read, number, place, kind = (
        _REQUEST.unpack_from(message)
    )
    if which != _READ or (more, zero, root, near, read, place) != (0, 0, _REQUEST_ROOT, 0, _REQUEST_READ, 1):
        return None
    consistency = _CONSISTENCIES.get(number)
    if len(message) != 8 + 8 * words or consistency is None:
        return None
    keys: list[Any] = []
    if _unpack_list(message, _REQUEST_WORDS, kind, keys) != words:
        return None
    return ReadRequest(request_id, shard, epoch, timeout_ms, consistency, keys)


def encode_read_reply(reply: ReadReply) -> bytes:
    """One framed message of a single segment."""
    # An absent key's revision is 0, so presence needs no column of its own.
    values: Sequence[Any] = reply.values
    if None in values:
        values = [b"" if value is None else value for value in values]
    count = len(values)
    items = pack_items(values)
    words = len(items) >> 3
    head = _REPLY.pack(
        0,
        _REPLY_WORDS + words + count,
        0,
        _REPLY_ROOT,
        reply.request_id,
        _READ,
        0,
        _REPLY_READ,
        reply.applied_index,
        0 if reply.age_us is None else reply.age_us ^ INTEGER_MAX,
        reply.tier,
        5,
        count << 3 | OF_POINTERS,
        words << 2 | 1,
        count << 6 | IN_BYTES,
    )
    return head + items + pack_numbers(reply.revisions)


def decode_read_reply(message: bytes) -> ReadReply | None:
    """The reply in one framed message, None when it is not one of this layout."""
    if len(message) < 8 + 8 * _REPLY_WORDS:
        return None
    more, words, zero, root, request_id, which, near, read, applied, age, tier, place, kind, far, column = (
        _REPLY.unpack_from(message)
    )
    if which != _READ or (more, zero, root, near, read, place) != (0, 0, _REPLY_ROOT, 0, _REPLY_READ, 5):
        return None
    count = kind >> 3
    if len(message) != 8 + 8 * words or tier > 0xFFFF or column != count << 6 | IN_BYTES:
        return None
    values: list[Any] = []
    end = _unpack_list(message, _REPLY_WORDS, kind, values)
    if end + count != words or far != (end - _REPLY_WORDS) << 2 | 1:
        return None
    revisions = struct.unpack_from(f"<{count}Q", message, 8 + 8 * end)
    if 0 in revisions:
        values = [value if revision else None for value, revision in zip(values, revisions, strict=True)]
    return ReadReply(request_id, applied, None if age == 0 else age ^ INTEGER_MAX, tier, values, revisions)


def _unpack_list(message: bytes, start: int, kind: int, items: list[Any]) -> int:
    """Append the items of the list that begins at a word; the word after it, -1 when it has another layout."""
    return unpack_items(message, start, kind >> 3, items) if kind & 7 == OF_POINTERS else -1
