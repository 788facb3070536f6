"""Client requests that wait: for a commit, for a read round, or for an index to be applied."""

from __future__ import annotations

import heapq
from typing import Final, TypeAlias

from shardraft.config import Limits
from shardraft.errors import Applied, DeadlineExceeded, Overloaded, ShardraftError
from shardraft.host.outbox import Outbox
from shardraft.kv.commands import Batch
from shardraft.kv.requests import (
    ChangeMembersRequest,
    ClientReply,
    ClientRequest,
    ErrorReply,
    ReadRequest,
    ScanRequest,
    SnapshotRequest,
    TransferRequest,
    WriteRequest,
)
from shardraft.types import Term

WaitingRequest: TypeAlias = (
    WriteRequest | ReadRequest | ScanRequest | TransferRequest | SnapshotRequest | ChangeMembersRequest
)


_BEGUN_AT_ONCE: Final = (TransferRequest, SnapshotRequest, ChangeMembersRequest)


class Pending:
    """One request and where its answer goes. Answered exactly once.

    ``batch`` and ``term`` are set once a write was appended: from then on its outcome is unknown until
    it is applied, and the decoded batch is kept so that nobody decodes it twice.
    """

    __slots__ = ("answered", "batch", "connection", "deadline_us", "request", "term")

    def __init__(self, connection: int, request: WaitingRequest, deadline_us: int) -> None:
        self.connection = connection
        self.request: WaitingRequest = request
        self.deadline_us = deadline_us
        self.answered = False
        self.batch: Batch | None = None
        self.term: Term = 0

    @property
    def applied(self) -> Applied:
        """What may have become of it if it is given up on at this moment."""
        began = self.batch is not None or isinstance(self.request, _BEGUN_AT_ONCE)
        return "unknown" if began else "no"


class PendingRequests:
    """All waiting requests of a host: their number, their deadlines and the way to answer them.

    At ``requests_in_flight_max`` a request is refused as Overloaded. A deadline above ``deadline_ms_max``
    is capped.
    """

    __slots__ = ("_deadlines", "_limits", "_outbox", "_serial", "count")

    def __init__(self, limits: Limits, outbox: Outbox) -> None:
        self._limits = limits
        self._outbox = outbox
        self._deadlines: list[tuple[int, int, Pending]] = []
        self._serial = 0
        self.count = 0

    def admit(self, connection: int, request: WaitingRequest, now_us: int) -> Pending | None:
        """Begin waiting; None when it was refused (and answered) at once."""
        if self.count >= self._limits.requests_in_flight_max:
            self.refuse(connection, request, Overloaded("this host holds too many requests", shard=request.shard))
            return None
        if request.timeout_ms <= 0:
            error = DeadlineExceeded("the deadline had passed on arrival", shard=request.shard)
            self.refuse(connection, request, error)
            return None
        deadline_us = now_us + 1000 * min(request.timeout_ms, self._limits.deadline_ms_max)
        pending = Pending(connection, request, deadline_us)
        self.count += 1
        self._serial += 1
        heapq.heappush(self._deadlines, (deadline_us, self._serial, pending))
        return pending

    def refuse(self, connection: int, request: ClientRequest, error: ShardraftError) -> None:
        self._outbox.reply(connection, ErrorReply(request.request_id, error))

    def answer(self, pending: Pending, reply: ClientReply) -> None:
        """Send the one answer; a request whose deadline passed was answered before and stays so."""
        if pending.answered:
            return
        pending.answered = True
        self.count -= 1
        self._outbox.reply(pending.connection, reply)

    def drop(self, pending: Pending) -> None:
        """Nobody waits for the answer any more."""
        if not pending.answered:
            pending.answered = True
            self.count -= 1

    def fail(self, pending: Pending, error: ShardraftError) -> None:
        self.answer(pending, ErrorReply(pending.request.request_id, error))

    @property
    def deadline_us(self) -> int | None:
        """When ``expire`` must next be called."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].answered:
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def expire(self, now_us: int) -> None:
        """Answer every request whose deadline has passed."""
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now_us or deadlines[0][2].answered):
            pending = heapq.heappop(deadlines)[2]
            if not pending.answered:
                shard = pending.request.shard
                error = DeadlineExceeded("the deadline passed first", applied=pending.applied, shard=shard)
                self.fail(pending, error)
