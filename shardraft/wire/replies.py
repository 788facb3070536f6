"""Client replies as Cap'n Proto (``Reply`` of ``schema/client.capnp``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.kv.commands import BatchResult
from shardraft.kv.requests import (
    ChangeMembersReply,
    ChildStatus,
    ClientReply,
    ErrorReply,
    FollowerStatus,
    LearnerPlace,
    MapReply,
    PlaceReply,
    ReadReply,
    ScanReply,
    ShardStatus,
    SnapshotReply,
    StatusReply,
    TransferReply,
    WriteReply,
)
from shardraft.types import INTEGER_MAX
from shardraft.wire.maps import read_membership, read_shard_map, shard_map_bytes, write_membership, write_shard_map
from shardraft.wire.reads import decode_read_reply, encode_read_reply
from shardraft.wire.refusals import read_error, write_error
from shardraft.wire.schema import MALFORMED, data_list, items_bytes, load, open_message, pack_numbers, unpack_numbers
from shardraft.wire.writes import decode_write_reply, encode_write_reply

_FIXED_WORDS: Final = 32


def encode_reply(reply: ClientReply) -> bytes:
    """One framed message of a single segment."""
    return _ENCODERS[type(reply)](reply)


def decode_reply(frame: bytes) -> ClientReply:
    """The reply in one frame.

    Raises ``ProtocolError``: UNIMPLEMENTED for a reply of a kind that this program does not know,
    INVALID_ARGUMENT for bytes that are no reply.
    """
    quick = decode_write_reply(frame) or decode_read_reply(frame)
    if quick is not None:
        return quick
    try:
        return _read_reply(open_message(load("client").Reply, frame))
    except MALFORMED:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "the frame is no reply of this protocol") from None


def _read_reply(message: Any) -> ClientReply:
    request_id: int = message.requestId
    try:
        which = str(message.which())
    except MALFORMED:
        raise ProtocolError(ErrorCode.UNIMPLEMENTED, "the reply is of a kind that this program does not know") from None
    decode = _DECODERS.get(which)
    if decode is None:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "the reply holds nothing")
    return decode(request_id, getattr(message, which))


def _begin(request_id: int, words: int = 0) -> Any:
    message = load("client").Reply.new_message(_FIXED_WORDS + words)
    message.requestId = request_id
    return message


def _framed(message: Any) -> bytes:
    framed: bytes = message.to_bytes()
    return framed


def _decode_write(request_id: int, write: Any) -> ClientReply:
    outcomes: bytes = write.outcomes
    found = unpack_numbers(write.foundRevisions)
    revisions = unpack_numbers(write.revisions)
    if len(found) > len(outcomes) or (revisions and len(revisions) != len(outcomes)):
        raise ValueError("columns of different lengths")
    return WriteReply(request_id, BatchResult(write.firstRevision, outcomes, found, revisions))


def _decode_read(request_id: int, read: Any) -> ClientReply:
    revisions = unpack_numbers(read.revisions)
    values: list[Any] = data_list(read.values)
    if len(values) != len(revisions):
        raise ValueError("columns of different lengths")
    if 0 in revisions:
        values = [value if revision else None for value, revision in zip(values, revisions, strict=True)]
    return ReadReply(request_id, read.appliedIndex, _age(read.ageUs), read.tier, values, revisions)


def _encode_scan(reply: ScanReply) -> bytes:
    size = items_bytes(reply.keys) + items_bytes(reply.values)
    message = _begin(reply.request_id, size // 8 + len(reply.keys))
    scan = message.init("scan")
    scan.appliedIndex = reply.applied_index
    if reply.age_us is not None:
        scan.ageUs = reply.age_us
    scan.tier = reply.tier
    scan.keys = reply.keys
    scan.values = reply.values
    scan.revisions = pack_numbers(reply.revisions)
    scan.more = reply.more
    return _framed(message)


def _decode_scan(request_id: int, scan: Any) -> ClientReply:
    keys = data_list(scan.keys)
    values = data_list(scan.values)
    revisions = unpack_numbers(scan.revisions)
    if not len(keys) == len(values) == len(revisions):
        raise ValueError("columns of different lengths")
    return ScanReply(request_id, scan.appliedIndex, _age(scan.ageUs), scan.tier, keys, values, revisions, scan.more)


def _age(age_us: int) -> int | None:
    return None if age_us == INTEGER_MAX else age_us


def _encode_map(reply: MapReply) -> bytes:
    places = sum(48 + 4 * len(learner.endpoint) for learner in reply.learners)
    message = _begin(reply.request_id, (shard_map_bytes(reply.shard_map) + places) // 8)
    map_reply = message.init("map")
    write_shard_map(map_reply.init("shardMap"), reply.shard_map)
    for place, learner in zip(map_reply.init("learners", len(reply.learners)), reply.learners, strict=True):
        place.host = learner.host
        place.endpoint = learner.endpoint
        place.tier = learner.tier
        place.parent = learner.parent
    return _framed(message)


def _decode_map(request_id: int, reader: Any) -> ClientReply:
    learners = tuple(LearnerPlace(place.host, place.endpoint, place.tier, place.parent) for place in reader.learners)
    return MapReply(request_id, read_shard_map(reader.shardMap), learners)


def _encode_status(reply: StatusReply) -> bytes:
    places = sum(48 + 4 * len(child.endpoint) for child in reply.children)
    members = sum(32 * len(shard.membership.members) + 32 * len(shard.followers) for shard in reply.shards)
    message = _begin(reply.request_id, 32 * len(reply.shards) + (places + members) // 8)
    status = message.init("status")
    status.host = reply.host
    status.version = reply.version
    status.tier = reply.tier
    status.parent = reply.parent
    status.uptimeMs = reply.uptime_ms
    for place, shard in zip(status.init("shards", len(reply.shards)), reply.shards, strict=True):
        _write_shard_status(place, shard)
    for place, child in zip(status.init("children", len(reply.children)), reply.children, strict=True):
        place.host = child.host
        place.endpoint = child.endpoint
        place.tier = child.tier
        place.lagEntries = child.lag_entries
        place.connected = child.connected
    return _framed(message)


def _write_shard_status(builder: Any, status: ShardStatus) -> None:
    builder.shard = status.shard
    builder.role = status.role
    builder.term = status.term
    builder.leader = status.leader
    builder.replica = status.replica
    builder.commitIndex = status.commit_index
    builder.appliedIndex = status.applied_index
    builder.flushedIndex = status.flushed_index
    builder.firstIndex = status.first_index
    builder.lastIndex = status.last_index
    builder.logBytes = status.log_bytes
    builder.revision = status.revision
    builder.sessions = status.sessions
    write_membership(builder.init("membership"), status.membership)
    builder.membershipIndex = status.membership_index
    for place, follower in zip(builder.init("followers", len(status.followers)), status.followers, strict=True):
        place.replica = follower.replica
        place.matchIndex = follower.match_index
        place.silentMs = follower.silent_ms
        place.copying = follower.copying


def _decode_status(request_id: int, reader: Any) -> ClientReply:
    return StatusReply(
        request_id,
        reader.host,
        reader.version,
        reader.tier,
        reader.parent,
        reader.uptimeMs,
        tuple(_read_shard_status(place) for place in reader.shards),
        tuple(
            ChildStatus(place.host, place.endpoint, place.tier, place.lagEntries, place.connected)
            for place in reader.children
        ),
    )


def _read_shard_status(reader: Any) -> ShardStatus:
    return ShardStatus(
        shard=reader.shard,
        role=reader.role,
        term=reader.term,
        leader=reader.leader,
        replica=reader.replica,
        commit_index=reader.commitIndex,
        applied_index=reader.appliedIndex,
        flushed_index=reader.flushedIndex,
        first_index=reader.firstIndex,
        last_index=reader.lastIndex,
        log_bytes=reader.logBytes,
        revision=reader.revision,
        sessions=reader.sessions,
        membership=read_membership(reader.membership),
        membership_index=reader.membershipIndex,
        followers=tuple(
            FollowerStatus(place.replica, place.matchIndex, place.silentMs, place.copying) for place in reader.followers
        ),
    )


def _encode_transfer(reply: TransferReply) -> bytes:
    message = _begin(reply.request_id)
    transfer = message.init("transfer")
    transfer.leader = reply.leader
    transfer.term = reply.term
    return _framed(message)


def _decode_transfer(request_id: int, reader: Any) -> ClientReply:
    return TransferReply(request_id, reader.leader, reader.term)


def _encode_snapshot(reply: SnapshotReply) -> bytes:
    message = _begin(reply.request_id)
    snapshot = message.init("snapshot")
    snapshot.index = reply.index
    snapshot.firstIndex = reply.first_index
    snapshot.logBytesBefore = reply.log_bytes_before
    snapshot.logBytes = reply.log_bytes
    snapshot.tookUs = reply.took_us
    return _framed(message)


def _decode_snapshot(request_id: int, reader: Any) -> ClientReply:
    return SnapshotReply(
        request_id, reader.index, reader.firstIndex, reader.logBytesBefore, reader.logBytes, reader.tookUs
    )


def _encode_change_members(reply: ChangeMembersReply) -> bytes:
    message = _begin(reply.request_id, 8 * len(reply.membership.members))
    change = message.init("changeMembers")
    change.index = reply.index
    write_membership(change.init("membership"), reply.membership)
    return _framed(message)


def _decode_change_members(request_id: int, reader: Any) -> ClientReply:
    return ChangeMembersReply(request_id, reader.index, read_membership(reader.membership))


def _encode_place(reply: PlaceReply) -> bytes:
    message = _begin(reply.request_id)
    message.place = None
    return _framed(message)


def _decode_place(request_id: int, _: Any) -> ClientReply:
    return PlaceReply(request_id)


def _encode_error(reply: ErrorReply) -> bytes:
    message = _begin(reply.request_id, len(str(reply.error)) // 2)
    write_error(message.init("error"), reply.error)
    return _framed(message)


def _decode_error(request_id: int, reader: Any) -> ClientReply:
    return ErrorReply(request_id, read_error(reader))


_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    WriteReply: encode_write_reply,
    ReadReply: encode_read_reply,
    ScanReply: _encode_scan,
    MapReply: _encode_map,
    StatusReply: _encode_status,
    TransferReply: _encode_transfer,
    SnapshotReply: _encode_snapshot,
    ChangeMembersReply: _encode_change_members,
    PlaceReply: _encode_place,
    ErrorReply: _encode_error,
}
_DECODERS: Final[dict[str, Callable[[int, Any], ClientReply]]] = {
    "write": _decode_write,
    "read": _decode_read,
    "scan": _decode_scan,
    "map": _decode_map,
    "status": _decode_status,
    "transfer": _decode_transfer,
    "snapshot": _decode_snapshot,
    "changeMembers": _decode_change_members,
    "place": _decode_place,
    "error": _decode_error,
}
