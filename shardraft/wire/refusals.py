"""Errors on the wire: each class of the error tree by its code, with the number that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol

from shardraft.errors import (
    Applied,
    Compacted,
    Conflict,
    DeadlineExceeded,
    ErrorCode,
    InvalidArgument,
    NotLeader,
    NotYet,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    SessionExpired,
    ShardraftError,
    StaleDisk,
    TooLarge,
    TooStale,
    Unavailable,
    Unimplemented,
    WrongShard,
)
from shardraft.types import INTEGER_MAX

TEXT_CHARACTERS_MAX: Final = 1024
"""A refusal's sentence; longer ones are cut where they are sent."""


class _PlainError(Protocol):
    def __call__(self, message: str, *, applied: Applied = "no", shard: int | None = None) -> ShardraftError: ...


_PLAIN: Final[dict[ErrorCode, _PlainError]] = {
    ErrorCode.TOO_LARGE: TooLarge,
    ErrorCode.INVALID_ARGUMENT: InvalidArgument,
    ErrorCode.SESSION_EXPIRED: SessionExpired,
    ErrorCode.PERMISSION_DENIED: PermissionDenied,
    ErrorCode.UNAVAILABLE: Unavailable,
    ErrorCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    ErrorCode.UNIMPLEMENTED: Unimplemented,
    ErrorCode.NOT_LEADER: NotLeader,
    ErrorCode.WRONG_SHARD: WrongShard,
    ErrorCode.OVERLOADED: Overloaded,
    ErrorCode.CONFLICT: Conflict,
    ErrorCode.TOO_STALE: TooStale,
    ErrorCode.NOT_YET: NotYet,
    ErrorCode.COMPACTED: Compacted,
    ErrorCode.STALE_DISK: StaleDisk,
}


def refusal_of(error: ProtocolError) -> ShardraftError:
    """What to tell a client whose bytes were refused: nothing of them was applied."""
    return _PLAIN.get(error.code, InvalidArgument)(str(error))


def write_error(builder: Any, error: ShardraftError) -> None:
    """Fill the ``ErrorReply`` struct behind ``builder``."""
    builder.code = int(error.code)
    builder.text = str(error)[:TEXT_CHARACTERS_MAX]
    builder.outcomeUnknown = error.applied == "unknown"
    if error.shard is not None:
        builder.hasShard = True
        builder.shard = error.shard
    if isinstance(error, NotLeader):
        builder.leader = error.leader
    elif isinstance(error, WrongShard):
        builder.epoch = error.epoch
    elif isinstance(error, Overloaded):
        builder.retryAfterMs = error.retry_after_ms
    elif isinstance(error, Conflict):
        builder.foundRevision = error.found_revision
    elif isinstance(error, TooStale):
        builder.ageUs = _age_us(error.age_seconds)
    elif isinstance(error, NotYet):
        builder.appliedIndex = error.applied_index
    elif isinstance(error, Compacted):
        builder.firstIndex = error.first_index


def read_error(reader: Any) -> ShardraftError:
    """The error of an ``ErrorReply`` struct; a code of a newer program becomes ``Unimplemented``.

    Raises one of ``schema.MALFORMED`` when the struct is damaged.
    """
    raw: int = reader.code.raw
    if raw == 0:
        raise ValueError("an error without a code")
    text: str = reader.text
    applied: Applied = "unknown" if reader.outcomeUnknown else "no"
    shard = reader.shard if reader.hasShard else None
    try:
        code = ErrorCode(raw)
    except ValueError:
        return Unimplemented(f"refused for a reason that is new (code {raw}): {text}", applied=applied, shard=shard)
    numbered = _NUMBERED.get(code)
    if numbered is not None:
        return numbered(reader, text, applied, shard)
    return _PLAIN[code](text, applied=applied, shard=shard)


def _age_us(age_seconds: float | None) -> int:
    # Rounded up, because an age is an upper bound.
    return INTEGER_MAX if age_seconds is None else math.ceil(age_seconds * 1_000_000)


def _age_seconds(age_us: int) -> float | None:
    return None if age_us == INTEGER_MAX else age_us / 1_000_000


_NUMBERED: Final[dict[ErrorCode, Callable[[Any, str, Applied, int | None], ShardraftError]]] = {
    ErrorCode.NOT_LEADER: lambda reader, text, applied, shard: NotLeader(
        text, leader=reader.leader, applied=applied, shard=shard
    ),
    ErrorCode.WRONG_SHARD: lambda reader, text, applied, shard: WrongShard(
        text, epoch=reader.epoch, applied=applied, shard=shard
    ),
    ErrorCode.OVERLOADED: lambda reader, text, applied, shard: Overloaded(
        text, retry_after_ms=reader.retryAfterMs, applied=applied, shard=shard
    ),
    ErrorCode.CONFLICT: lambda reader, text, applied, shard: Conflict(
        text, found_revision=reader.foundRevision, applied=applied, shard=shard
    ),
    ErrorCode.TOO_STALE: lambda reader, text, applied, shard: TooStale(
        text, age_seconds=_age_seconds(reader.ageUs), applied=applied, shard=shard
    ),
    ErrorCode.NOT_YET: lambda reader, text, applied, shard: NotYet(
        text, applied_index=reader.appliedIndex, applied=applied, shard=shard
    ),
    ErrorCode.COMPACTED: lambda reader, text, applied, shard: Compacted(
        text, first_index=reader.firstIndex, applied=applied, shard=shard
    ),
}
