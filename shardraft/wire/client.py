"""Everything that travels between a client and a host; the one door that a router needs.

Imports neither trio nor lmdb, so that a router runs where only pycapnp is installed.
"""

from __future__ import annotations

from shardraft.wire.batch import CapnpBatchCodec
from shardraft.wire.refusals import refusal_of
from shardraft.wire.replies import decode_reply, encode_reply
from shardraft.wire.requests import UnknownRequest, add_request, decode_request, encode_request

__all__ = [
    "CapnpBatchCodec",
    "UnknownRequest",
    "add_request",
    "decode_reply",
    "decode_request",
    "encode_reply",
    "encode_request",
    "refusal_of",
]
