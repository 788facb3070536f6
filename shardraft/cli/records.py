"""JSON lines, the form in which keys and values leave a cluster and come back byte for byte.

One record a line: ``{"key": TEXT, "value": TEXT}``, with ``key_base64`` or ``value_base64`` in place of
what is not UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping


def fields_of(key: bytes, value: bytes | None = None) -> dict[str, str]:
    """The fields of a record; without a value there is no field for it."""
    fields = _field("key", key)
    return fields if value is None else fields | _field("value", value)


def _field(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def record_line(key: bytes, value: bytes | None = None) -> bytes:
    """One line, ended; equal records give equal bytes."""
    return json.dumps(fields_of(key, value), ensure_ascii=False).encode() + b"\n"


def parse_record(line: bytes) -> tuple[bytes, bytes]:
    """The key and value of one line; raises ``ValueError`` with what is wrong with it."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(record, Mapping):
        raise ValueError("not a JSON object")
    return _data(record, "key"), _data(record, "value")


def _data(record: Mapping[str, object], name: str) -> bytes:
    text, encoded = record.get(name), record.get(f"{name}_base64")
    if (text is None) == (encoded is None):
        raise ValueError(f"a record has either {name} or {name}_base64")
    given = text if encoded is None else encoded
    if not isinstance(given, str):
        raise ValueError(f"{name} is not a string")
    try:
        return given.encode() if encoded is None else base64.b64decode(given, validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise ValueError(f"{name} is not {'text' if encoded is None else 'base64'}") from None
