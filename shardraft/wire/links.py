"""The messages of the read tree as columns (``LinkFrame`` of ``schema/peer.capnp``)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.learner.messages import (
    Attach,
    AttachOutcome,
    AttachReply,
    ChildHello,
    DescendantPlace,
    FeedAck,
    FeedEntries,
    FeedHeartbeat,
    ParentHello,
)
from shardraft.wire.columns import Kind, Payloads, RecordKind, StructKind, read_entries
from shardraft.wire.maps import read_shard_map, shard_map_bytes, write_shard_map
from shardraft.wire.records import COPY_KINDS, Rows

_ATTACH: Final = struct.Struct("<IIQQQQ")
_SHARD_INDEX: Final = struct.Struct("<IIQ")
_COUNT: Final = struct.Struct("<I")
_OUTCOMES: Final = {int(outcome): outcome for outcome in AttachOutcome}
_PLACE_BYTES: Final = 64


def _write_child_hello(builder: Any, hello: ChildHello) -> None:
    builder.child = hello.child
    builder.endpoint = hello.endpoint
    places = builder.init("descendants", len(hello.descendants))
    for place, descendant in zip(places, hello.descendants, strict=True):
        place.host = descendant.host
        place.endpoint = descendant.endpoint
        place.tier = descendant.tier
        place.parent = descendant.parent


def _read_child_hello(reader: Any) -> ChildHello:
    descendants = tuple(
        DescendantPlace(place.host, place.endpoint, place.tier, place.parent) for place in reader.descendants
    )
    return ChildHello(reader.child, reader.endpoint, descendants)


def _child_hello_bytes(hello: ChildHello) -> int:
    endpoints = len(hello.endpoint) + sum(len(place.endpoint) for place in hello.descendants)
    return _PLACE_BYTES * (2 + len(hello.descendants)) + 4 * endpoints


def _write_parent_hello(builder: Any, hello: ParentHello) -> None:
    builder.parent = hello.parent
    builder.tier = hello.tier
    builder.path = hello.path
    if hello.shard_map is not None:
        builder.hasShardMap = True
        write_shard_map(builder.init("shardMap"), hello.shard_map)


def _read_parent_hello(reader: Any) -> ParentHello:
    shard_map = read_shard_map(reader.shardMap) if reader.hasShardMap else None
    return ParentHello(reader.parent, reader.tier, tuple(reader.path), shard_map)


def _parent_hello_bytes(hello: ParentHello) -> int:
    size = _PLACE_BYTES + 8 * len(hello.path)
    if hello.shard_map is not None:
        size += shard_map_bytes(hello.shard_map)
    return size


def _pack_attach(message: Attach) -> bytes:
    m = message
    return _ATTACH.pack(m.shard, 0, m.applied_index, m.applied_term, m.applied_hash, m.epoch)


def _unpack_attaches(rows: Rows, _: list[bytes]) -> Sequence[Attach]:
    return [
        Attach(shard, applied_index, applied_term, applied_hash, epoch)
        for shard, _, applied_index, applied_term, applied_hash, epoch in rows
    ]


def _pack_attach_reply(message: AttachReply) -> bytes:
    return _SHARD_INDEX.pack(message.shard, message.outcome, message.commit_index)


def _unpack_attach_replies(rows: Rows, _: list[bytes]) -> Sequence[AttachReply]:
    unknown = [outcome for _, outcome, _ in rows if outcome not in _OUTCOMES]
    if unknown:
        raise ProtocolError(ErrorCode.UNIMPLEMENTED, f"the frame holds an unknown attach outcome {unknown[0]}")
    return [AttachReply(shard, _OUTCOMES[outcome], commit_index) for shard, outcome, commit_index in rows]


def _pack_feed_entries(message: FeedEntries) -> bytes:
    return _SHARD_INDEX.pack(message.shard, len(message.entries), message.commit_index)


def _entries_of(rows: Rows) -> int:
    return sum([row[1] for row in rows])


def _unpack_feed_entries(rows: Rows, entries: list[bytes]) -> Sequence[FeedEntries]:
    groups = read_entries(entries, [(row[0], row[1]) for row in rows])
    return [
        FeedEntries(shard, commit_index, group) for (shard, _, commit_index), group in zip(rows, groups, strict=True)
    ]


def _pack_feed_ack(message: FeedAck) -> bytes:
    return _SHARD_INDEX.pack(message.shard, 0, message.applied_index)


def _unpack_feed_acks(rows: Rows, _: list[bytes]) -> Sequence[FeedAck]:
    return [FeedAck(shard, applied_index) for shard, _, applied_index in rows]


def _pack_heartbeat(message: FeedHeartbeat) -> bytes:
    return _COUNT.pack(len(message.commit_indexes))


def _commit_indexes(message: FeedHeartbeat) -> Sequence[bytes]:
    return (b"".join([_SHARD_INDEX.pack(shard, 0, index) for shard, index in message.commit_indexes]),)


def _unpack_heartbeats(rows: Rows, columns: list[bytes]) -> Sequence[FeedHeartbeat]:
    heartbeats = []
    for (count,), column in zip(rows, columns, strict=True):
        commit_indexes = tuple([(shard, index) for shard, _, index in _SHARD_INDEX.iter_unpack(column)])
        if len(commit_indexes) != count:
            raise ValueError("another number of commit indexes than the record says")
        heartbeats.append(FeedHeartbeat(commit_indexes))
    return heartbeats


LINK_KINDS: Final[dict[type, Kind]] = {
    ChildHello: StructKind(20, "childHellos", _write_child_hello, _read_child_hello, _child_hello_bytes),
    ParentHello: StructKind(21, "parentHellos", _write_parent_hello, _read_parent_hello, _parent_hello_bytes),
    Attach: RecordKind(22, "attaches", _ATTACH, _pack_attach, _unpack_attaches),
    AttachReply: RecordKind(23, "attachReplies", _SHARD_INDEX, _pack_attach_reply, _unpack_attach_replies),
    FeedEntries: RecordKind(
        24,
        "feedEntries",
        _SHARD_INDEX,
        _pack_feed_entries,
        _unpack_feed_entries,
        Payloads("entries", lambda message: [entry.encoded for entry in message.entries], _entries_of),
    ),
    FeedAck: RecordKind(25, "feedAcks", _SHARD_INDEX, _pack_feed_ack, _unpack_feed_acks),
    FeedHeartbeat: RecordKind(
        26, "feedHeartbeats", _COUNT, _pack_heartbeat, _unpack_heartbeats, Payloads("commitIndexes", _commit_indexes)
    ),
    **COPY_KINDS,
}
"""What travels between a parent and a child of the read tree."""
