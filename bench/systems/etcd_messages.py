"""The few messages of etcd's public v3 API that the benchmark uses, straight to and from protobuf's wire format.

Field numbers are those that etcd documents for ``etcdserverpb`` and ``mvccpb``. Writing them by hand is the
leanest client that gRPC in Python allows: no generated classes between a call and its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
STATUS = "/etcdserverpb.Maintenance/Status"

_SERIALIZABLE = b"\x38\x01"
"""RangeRequest.serializable (7) = true."""


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _field(tag: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return bytes((tag << 3 | 2,)) + _varint(len(content)) + content


def put_request(key: bytes, value: bytes) -> bytes:
    """PutRequest: key = 1, value = 2."""
    return _field(1, key) + _field(2, value)


def get_request(key: bytes, *, serializable: bool = False) -> bytes:
    """RangeRequest for one key: key = 1."""
    return _field(1, key) + (_SERIALIZABLE if serializable else b"")


def range_request(start: bytes, limit: int) -> bytes:
    """RangeRequest for every key from ``start``: range_end = 2 is a zero byte, limit = 3."""
    return _field(1, start or b"\0") + _field(2, b"\0") + b"\x18" + _varint(limit)


def txn_request(operations: Sequence[bytes], *, puts: bool) -> bytes:
    """TxnRequest without conditions: success = 2 holds RequestOps, of which request_range is 1 and request_put 2."""
    return b"".join([_field(2, _field(2 if puts else 1, operation)) for operation in operations])


@attrs.frozen(slots=True)
class EtcdStatus:
    """What a member says of itself and of who leads."""

    member: int
    leader: int
    revision: int


def read_status(message: bytes) -> EtcdStatus:
    """StatusResponse: header = 1 (member_id = 2, revision = 3), leader = 4."""
    fields = dict(_fields(message))
    header = dict(_fields(_bytes(fields[1])))
    return EtcdStatus(_int(header.get(2, 0)), _int(fields.get(4, 0)), _int(header.get(3, 0)))


def read_entries(message: bytes) -> list[tuple[bytes, bytes]]:
    """RangeResponse: kvs = 2, each a KeyValue (key = 1, value = 5)."""
    entries = []
    for tag, content in _fields(message):
        if tag == 2:
            fields = dict(_fields(_bytes(content)))
            entries.append((_bytes(fields[1]), _bytes(fields.get(5, b""))))
    return entries


def read_txn_entries(message: bytes) -> list[list[tuple[bytes, bytes]]]:
    """TxnResponse: responses = 3, each a ResponseOp whose response_range is 1."""
    responses = [dict(_fields(_bytes(content))) for tag, content in _fields(message) if tag == 3]
    return [read_entries(_bytes(response.get(1, b""))) for response in responses]


def _bytes(content: bytes | int) -> bytes:
    assert isinstance(content, bytes), "a message or bytes field is length-delimited"
    return content


def _int(content: bytes | int) -> int:
    assert isinstance(content, int), "a number is a varint"
    return content


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Tag and content of each field; only the two kinds that these messages hold."""
    position, size = 0, len(message)
    while position < size:
        head, position = _read_varint(message, position)
        number, position = _read_varint(message, position)
        if head & 7 == 0:
            yield head >> 3, number
        elif head & 7 == 2:
            yield head >> 3, message[position : position + number]
            position += number
        else:
            raise ValueError(f"field {head >> 3} is of a kind that these messages do not hold")


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    byte = message[position]
    position += 1
    if byte < 0x80:
        return byte, position
    number, shift = byte & 0x7F, 7
    while byte >= 0x80:
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
    return number, position
