"""Client requests as Cap'n Proto (``Request`` of ``schema/client.capnp``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.kv.requests import (
    ChangeMembersRequest,
    ClientRequest,
    Consistency,
    MapRequest,
    PlaceRequest,
    ReadRequest,
    ScanRequest,
    SnapshotRequest,
    StatusRequest,
    TransferRequest,
    WriteRequest,
)
from shardraft.wire.reads import decode_read_request, encode_read_request
from shardraft.wire.schema import MALFORMED, data_list, load, open_message
from shardraft.wire.writes import decode_write_request, pieces_of_write_request

_FIXED_WORDS: Final = 24
_CONSISTENCIES: Final = {int(consistency): consistency for consistency in Consistency}


class UnknownRequest(ProtocolError):
    """A well-formed request of a kind that this program does not know: it comes from a newer one.

    The connection is sound; answer ``request_id`` with ``Unimplemented`` and go on.
    """

    def __init__(self, request_id: int, message: str) -> None:
        super().__init__(ErrorCode.UNIMPLEMENTED, message)
        self.request_id = request_id


def add_request(pieces: list[bytes], request: ClientRequest) -> None:
    """Add the pieces of one framed message. Many requests are joined at once, so that each byte is copied once."""
    if isinstance(request, WriteRequest):
        pieces += pieces_of_write_request(request)
    else:
        pieces.append(encode_request(request))


def encode_request(request: ClientRequest) -> bytes:
    """One framed message of a single segment."""
    if isinstance(request, WriteRequest):
        return b"".join(pieces_of_write_request(request))
    if isinstance(request, ReadRequest):
        return encode_read_request(request)
    if isinstance(request, ScanRequest):
        return _encode_scan(request)
    if isinstance(request, TransferRequest | SnapshotRequest | ChangeMembersRequest):
        return _encode_administration(request)
    message = load("client").Request.new_message(_FIXED_WORDS)
    message.requestId = request.request_id
    if isinstance(request, MapRequest):
        message.map = None
    elif isinstance(request, PlaceRequest):
        place = message.init("place")
        place.host = request.host
        place.endpoint = request.endpoint
    else:
        message.status = None
    return _framed(message)


def decode_request(frame: bytes) -> ClientRequest:
    """The request in one frame, checked for shape only.

    Raises ``UnknownRequest`` for one of a newer program, and ``ProtocolError`` (INVALID_ARGUMENT) for
    bytes that are no request.
    """
    quick = decode_write_request(frame) or decode_read_request(frame)
    if quick is not None:
        return quick
    try:
        return _read_request(open_message(load("client").Request, frame))
    except MALFORMED:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "the frame is no request of this protocol") from None


def _read_request(message: Any) -> ClientRequest:
    request_id: int = message.requestId
    try:
        which = str(message.which())
    except MALFORMED:
        # The message itself was readable, so only the union's tag can be at fault.
        raise UnknownRequest(request_id, "this host does not know the request") from None
    decode = _DECODERS.get(which)
    if decode is None:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "the request asks for nothing")
    return decode(request_id, message)


def _framed(message: Any) -> bytes:
    framed: bytes = message.to_bytes()
    return framed


def _encode_scan(request: ScanRequest) -> bytes:
    message = load("client").Request.new_message(_FIXED_WORDS + (len(request.start) + len(request.end)) // 8)
    message.requestId = request.request_id
    message.shard = request.shard
    message.epoch = request.epoch
    message.timeoutMs = request.timeout_ms
    scan = message.init("scan")
    scan.consistency = int(request.consistency)
    scan.start = request.start
    scan.end = request.end
    scan.limit = request.limit
    scan.keysOnly = request.keys_only
    return _framed(message)


def _encode_administration(request: TransferRequest | SnapshotRequest | ChangeMembersRequest) -> bytes:
    message = load("client").Request.new_message(_FIXED_WORDS)
    message.requestId = request.request_id
    message.shard = request.shard
    message.timeoutMs = request.timeout_ms
    if isinstance(request, TransferRequest):
        message.init("transfer").host = request.host
    elif isinstance(request, ChangeMembersRequest):
        change = message.init("changeMembers")
        change.add = request.add
        change.remove = request.remove
    else:
        message.snapshot = None
    return _framed(message)


def _consistency(request_id: int, reader: Any) -> Consistency:
    consistency = _CONSISTENCIES.get(reader.consistency.raw)
    if consistency is None:
        raise UnknownRequest(request_id, "this host does not know the consistency that was asked for")
    return consistency


def _decode_write(request_id: int, message: Any) -> ClientRequest:
    return WriteRequest(request_id, message.shard, message.epoch, message.timeoutMs, message.write)


def _decode_read(request_id: int, message: Any) -> ClientRequest:
    read = message.read
    consistency = _consistency(request_id, read)
    keys = data_list(read.keys)
    return ReadRequest(request_id, message.shard, message.epoch, message.timeoutMs, consistency, keys)


def _decode_scan(request_id: int, message: Any) -> ClientRequest:
    scan = message.scan
    return ScanRequest(
        request_id,
        message.shard,
        message.epoch,
        message.timeoutMs,
        _consistency(request_id, scan),
        scan.start,
        scan.end,
        scan.limit,
        scan.keysOnly,
    )


def _decode_map(request_id: int, _: Any) -> ClientRequest:
    return MapRequest(request_id)


def _decode_status(request_id: int, _: Any) -> ClientRequest:
    return StatusRequest(request_id)


def _decode_transfer(request_id: int, message: Any) -> ClientRequest:
    return TransferRequest(request_id, message.shard, message.timeoutMs, message.transfer.host)


def _decode_snapshot(request_id: int, message: Any) -> ClientRequest:
    return SnapshotRequest(request_id, message.shard, message.timeoutMs)


def _decode_change_members(request_id: int, message: Any) -> ClientRequest:
    change = message.changeMembers
    return ChangeMembersRequest(request_id, message.shard, message.timeoutMs, change.add, change.remove)


def _decode_place(request_id: int, message: Any) -> ClientRequest:
    return PlaceRequest(request_id, message.place.host, message.place.endpoint)


_DECODERS: Final[dict[str, Callable[[int, Any], ClientRequest]]] = {
    "write": _decode_write,
    "read": _decode_read,
    "scan": _decode_scan,
    "map": _decode_map,
    "status": _decode_status,
    "transfer": _decode_transfer,
    "snapshot": _decode_snapshot,
    "changeMembers": _decode_change_members,
    "place": _decode_place,
}
