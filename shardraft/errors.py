"""The error tree: one root, and on each error whether the operation was applied.

``applied`` is ``"no"`` (certainly not applied) or ``"unknown"`` (the outcome is unknown); an
operation that was certainly applied is no error. Certainty belongs to the operation, not to
one attempt: after an attempt of unknown outcome only the session table makes it certain again.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Literal, TypeAlias

Applied: TypeAlias = Literal["no", "unknown"]


class ErrorCode(IntEnum):
    """What an error is called on the wire. Numbers are never reused."""

    NOT_LEADER = 1
    WRONG_SHARD = 2
    OVERLOADED = 3
    CONFLICT = 4
    TOO_LARGE = 5
    INVALID_ARGUMENT = 6
    SESSION_EXPIRED = 7
    TOO_STALE = 8
    NOT_YET = 9
    COMPACTED = 10
    PERMISSION_DENIED = 11
    UNAVAILABLE = 12
    DEADLINE_EXCEEDED = 13
    UNIMPLEMENTED = 14
    STALE_DISK = 15


class ShardraftError(Exception):
    """The root of every error that a cluster or a router raises on purpose.

    ``applied`` says what happened to the operation and ``shard`` which shard answered
    (``None`` when no shard was reached or it does not matter).
    """

    code: ClassVar[ErrorCode]
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, applied: Applied = "no", shard: int | None = None) -> None:
        super().__init__(message)
        self.applied: Applied = applied
        self.shard = shard


class NotLeader(ShardraftError):
    """This host does not lead the shard; ``leader`` is its best guess (0: none). The router's business."""

    code = ErrorCode.NOT_LEADER

    def __init__(
        self, message: str = "not the leader", *, leader: int = 0, applied: Applied = "no", shard: int | None = None
    ) -> None:
        super().__init__(message, applied=applied, shard=shard)
        self.leader = leader


class WrongShard(ShardraftError):
    """The shard does not hold the key (any more); ``epoch`` is the host's map version. The router's business."""

    code = ErrorCode.WRONG_SHARD

    def __init__(
        self, message: str = "wrong shard", *, epoch: int = 0, applied: Applied = "no", shard: int | None = None
    ) -> None:
        super().__init__(message, applied=applied, shard=shard)
        self.epoch = epoch


class Overloaded(ShardraftError):
    """A limit was reached; nothing was done. Try again after ``retry_after_ms`` milliseconds."""

    code = ErrorCode.OVERLOADED

    def __init__(
        self,
        message: str = "overloaded",
        *,
        retry_after_ms: int = 20,
        applied: Applied = "no",
        shard: int | None = None,
    ) -> None:
        super().__init__(message, applied=applied, shard=shard)
        self.retry_after_ms = retry_after_ms


class Conflict(ShardraftError):
    """A condition did not hold: the key is at ``found_revision`` (0: absent)."""

    code = ErrorCode.CONFLICT

    def __init__(
        self,
        message: str = "the condition does not hold",
        *,
        found_revision: int = 0,
        applied: Applied = "no",
        shard: int | None = None,
    ) -> None:
        super().__init__(message, applied=applied, shard=shard)
        self.found_revision = found_revision


class TooLarge(ShardraftError, ValueError):
    """A key, value, batch or frame is above its limit."""

    code = ErrorCode.TOO_LARGE
    exit_code = 2


class InvalidArgument(ShardraftError, ValueError):
    """The request makes no sense; sending it again will not help."""

    code = ErrorCode.INVALID_ARGUMENT
    exit_code = 2


class SessionExpired(ShardraftError):
    """The exactly-once session is gone: not applied now, and whether an earlier attempt was is unknown."""

    code = ErrorCode.SESSION_EXPIRED
    exit_code = 4

    def __init__(
        self, message: str = "the session expired", *, applied: Applied = "unknown", shard: int | None = None
    ) -> None:
        super().__init__(message, applied=applied, shard=shard)


class TooStale(ShardraftError):
    """The replica cannot prove the age that was asked for; ``age_seconds`` is what it can prove, if anything."""

    code = ErrorCode.TOO_STALE

    def __init__(
        self,
        message: str = "too stale",
        *,
        age_seconds: float | None = None,
        applied: Applied = "no",
        shard: int | None = None,
    ) -> None:
        super().__init__(message, applied=applied, shard=shard)
        self.age_seconds = age_seconds


class NotYet(ShardraftError):
    """The replica has not applied what the token names; it is at ``applied_index``."""

    code = ErrorCode.NOT_YET

    def __init__(
        self,
        message: str = "not applied here yet",
        *,
        applied_index: int = 0,
        applied: Applied = "no",
        shard: int | None = None,
    ) -> None:
        super().__init__(message, applied=applied, shard=shard)
        self.applied_index = applied_index


class Compacted(ShardraftError):
    """The entries asked for are gone; the first that is kept is ``first_index``."""

    code = ErrorCode.COMPACTED

    def __init__(
        self,
        message: str = "compacted",
        *,
        first_index: int = 0,
        applied: Applied = "no",
        shard: int | None = None,
    ) -> None:
        super().__init__(message, applied=applied, shard=shard)
        self.first_index = first_index


class PermissionDenied(ShardraftError):
    """The caller may not do this."""

    code = ErrorCode.PERMISSION_DENIED


class Unavailable(ShardraftError, ConnectionError):
    """No host that could answer was reached."""

    code = ErrorCode.UNAVAILABLE
    exit_code = 3


class DeadlineExceeded(ShardraftError, TimeoutError):
    """The deadline passed first."""

    code = ErrorCode.DEADLINE_EXCEEDED
    exit_code = 3


class Unimplemented(ShardraftError):
    """This host does not know the request (it comes from a newer program)."""

    code = ErrorCode.UNIMPLEMENTED


class StaleDisk(ShardraftError):
    """A host shows an earlier start of its disk than it was met in: the disk was wiped or is an old copy."""

    code = ErrorCode.STALE_DISK


class PartialWrite(ShardraftError):
    """Of the keys of one ``put_many`` some were not written, or it is unknown whether they were.

    ``applied_revisions`` maps each key certainly written to its revision; ``not_applied`` and
    ``unknown`` map the others to the error of each.
    """

    code = ErrorCode.UNAVAILABLE

    def __init__(
        self,
        applied_revisions: dict[bytes, int],
        not_applied: dict[bytes, ShardraftError],
        unknown: dict[bytes, ShardraftError],
    ) -> None:
        counts = f"{len(applied_revisions)} written, {len(not_applied)} not, {len(unknown)} unknown"
        super().__init__(f"some keys were not written: {counts}", applied="unknown" if unknown else "no")
        self.applied_revisions = applied_revisions
        self.not_applied = not_applied
        self.unknown = unknown


class StorageError(Exception):
    """A disk, identity or format problem that ends the process (DESIGN promise 6); the text says what to do."""


class CopyRefused(StorageError):
    """Received chunks are not a whole copy of a shard's state: they were dropped and nothing else changed.

    Unlike its parent it says nothing bad about this host's own disk: a driver may go on and have the copy
    sent again. One that does not tell them apart ends the process, which is safe as well.
    """


class ProtocolError(Exception):
    """A peer or client sent what no correct program sends; only its own connection is closed.

    ``code`` is sent before the close; ``str()`` of it is safe to show to the other side.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
