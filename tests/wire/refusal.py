"""What every decoder owes to bad bytes: one typed error, in words of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shardraft.errors import InvalidArgument, ProtocolError, StorageError

TYPED = (ProtocolError, InvalidArgument, StorageError)


def assert_ours(error: Exception) -> None:
    """The decoder's own texts hold memory addresses and file names."""
    text = str(error)
    assert text
    assert not any(foreign in text for foreign in ("capnp", "kj/", "stack:", ".c++", "0x", "Traceback"))
    assert error.__cause__ is None


def refused(decode: Callable[[bytes], Any], data: bytes) -> Exception:
    with pytest.raises(TYPED) as raised:
        decode(data)
    assert_ours(raised.value)
    error: Exception = raised.value
    return error
