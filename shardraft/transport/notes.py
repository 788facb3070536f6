"""What the transport has to say to an operator; the caller logs and counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from shardraft.errors import ErrorCode


@attrs.frozen(slots=True)
class ConnectionRefused:
    """The connection with ``remote`` was closed: it broke the protocol, missed a deadline or met a limit."""

    remote: str
    code: ErrorCode
    text: str


@attrs.frozen(slots=True)
class HandlerFailed:
    """Serving ``remote`` raised what it should not, a fault of this program; only that connection was closed."""

    remote: str
    error: Exception


@attrs.frozen(slots=True)
class ConnectFailed:
    """Attempt number ``attempt`` (from 1) to reach ``remote`` failed; the next follows after a wait."""

    remote: str
    attempt: int
    text: str


TransportNote: TypeAlias = ConnectionRefused | HandlerFailed | ConnectFailed
Record: TypeAlias = Callable[[TransportNote], None]
