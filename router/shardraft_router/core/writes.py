"""The writes of one shard: coalesced into batches, frozen, retried, settled."""

from __future__ import annotations

from typing import Final, TypeAlias

from shardraft.errors import (
    Conflict,
    ErrorCode,
    ProtocolError,
    SessionExpired,
    ShardraftError,
    WrongShard,
)
from shardraft.kv.commands import BatchResult, Outcome
from shardraft.kv.requests import ClientReply, ErrorReply, WriteReply, WriteRequest
from shardraft_router.core.batches import BatchCalls, FrozenBatch, freeze, singles
from shardraft_router.core.calls import AtomicCall, PutsCall, WriteCall
from shardraft_router.core.exchange import Exchange
from shardraft_router.core.links import Link
from shardraft_router.core.outcomes import (
    FINAL_ERRORS,
    check_result,
    complete_all,
    expire_batch,
    expire_calls,
    refusal,
)
from shardraft_router.core.pacing import Pace
from shardraft_router.core.route import ShardRoute
from shardraft_router.core.sessions import Session, SessionSource

_WRITTEN: Final = int(Outcome.WRITTEN)
_CONFLICT: Final = int(Outcome.CONFLICT)
_WRONG_SHARD: Final = int(Outcome.WRONG_SHARD)
_MISSING: Final = int(Outcome.MISSING)


Writing: TypeAlias = WriteCall | PutsCall | AtomicCall
"""A call that waits to become part of a batch."""


class WriteLane:
    """Queue of unsent ``pending`` calls, batches ``waiting`` to be sent again, and the number of ``unsettled`` ones."""

    __slots__ = (
        "_exchange",
        "_sessions",
        "closed",
        "pace",
        "pending",
        "queued",
        "route",
        "session",
        "under_way",
        "unsettled",
        "waiting",
    )  # fmt: skip

    def __init__(self, route: ShardRoute, sessions: SessionSource, exchange: Exchange, pace: Pace) -> None:
        self.route = route
        self.pace = pace
        self._sessions = sessions
        self._exchange = exchange
        self.session: Session = sessions.fresh()
        self.pending: list[Writing] = []
        self.waiting: list[FrozenBatch] = []
        self.unsettled: dict[int, FrozenBatch] = {}
        """Frozen batches by object id, in order of freezing; the waiting ones included."""
        self.under_way = 0
        self.queued = False
        self.closed = False

    # --- sending

    def submit(self, call: Writing) -> None:
        """Take a routed call; it goes with the next flush that has room."""
        self.pending.append(call)
        if not self.queued:
            self.queued = True
            self._exchange.lanes_to_flush.append(self)

    def accept(self, batch: FrozenBatch) -> None:
        """Take a piece of a regrouped batch of whatever session."""
        batch.lane = self
        batch.encode(self._exchange.codec, self.route.epoch)
        self.unsettled[id(batch)] = batch
        self.waiting.append(batch)
        self._exchange.queue(self)

    @property
    def has_unsent(self) -> bool:
        return bool(self.pending or self.waiting)

    def flush(self, now_us: int) -> None:
        if not self.has_unsent:
            return
        link = self.route.link(now_us)
        if link is None:
            return
        while self._may_send():
            batch = self._next_batch()
            if batch is None:
                return
            self._send(batch, link, now_us)

    def _may_send(self) -> bool:
        # While the leader is being searched one batch is the probe, lest all of them travel from host to host.
        return not (self.route.searching and self.under_way)

    def _next_batch(self) -> FrozenBatch | None:
        while self.waiting:
            batch = self.waiting.pop(0)
            if batch.is_live:
                return batch
            self._settle(batch)
        limits = self._exchange.limits
        if len(self.unsettled) >= limits.batches_in_flight_max:
            return None
        session = self.session
        if session.next_sequence - session.answered_below >= limits.session_window_max:
            return None
        calls = self._take_pending()
        if not calls:
            return None
        batch = freeze(session, calls, self)
        batch.encode(self._exchange.codec, self.route.epoch)
        self.unsettled[id(batch)] = batch
        return batch

    def _take_pending(self) -> BatchCalls:
        """The calls of the next batch: one atomic call, or as many others as one batch may hold."""
        limits = self._exchange.limits
        pending = self.pending
        calls: list[WriteCall | PutsCall] = []
        size = operations = place = 0
        for place, call in enumerate(pending):  # How far the loop came is used after it.
            if call.done:
                continue
            if isinstance(call, AtomicCall):
                if calls:
                    break
                del pending[: place + 1]
                return (call,)
            if isinstance(call, WriteCall):
                size += len(call.key) + len(call.value)
                operations += 1
            else:
                size += call.size_bytes
                operations += len(call.keys)
            if calls and (size > limits.coalesced_bytes_max or operations > limits.batch_operations_max):
                break
            calls.append(call)
        else:
            place += 1
        del pending[:place]
        return calls

    def _send(self, batch: FrozenBatch, link: Link, now_us: int) -> None:
        exchange = self._exchange
        self.under_way += 1
        batch.under_way = True
        self.pace.sent(batch.paced, now_us)
        if batch.cause is not None:
            exchange.writes_retried += batch.operations
        request = WriteRequest(
            exchange.take_request_id(),
            self.route.shard.shard,
            self.route.epoch,
            exchange.remaining_ms(batch.deadline_us(), now_us),
            batch.payload,
        )
        exchange.send(link, batch, request, now_us)

    # --- what became of it

    def batch_answered(self, batch: FrozenBatch, link: Link, reply: ClientReply, now_us: int) -> None:
        if isinstance(reply, WriteReply):
            check_result(batch, reply.result)
            self._attempt_ended(batch)
            self.route.reached(link)
            if batch.session is self.session:
                self.session.opened = True
            self._exchange.queue(self)
            self._take_result(batch, reply.result)
        elif isinstance(reply, ErrorReply):
            self._attempt_ended(batch)
            self._refused(batch, link, reply.error, now_us)
        else:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, f"{type(reply).__name__} cannot be the reply to a write")

    def batch_lost(self, batch: FrozenBatch, link: Link, now_us: int, reason: ShardraftError) -> None:
        self._attempt_ended(batch)
        batch.maybe_applied = True
        batch.cause = reason
        self.route.refused(link, reason, now_us)
        self._again(batch)

    def _attempt_ended(self, batch: FrozenBatch) -> None:
        assert batch.under_way, "an attempt ended twice"
        batch.under_way = False
        self.under_way -= 1
        self.pace.ended(batch.paced)

    def _refused(self, batch: FrozenBatch, link: Link, error: ShardraftError, now_us: int) -> None:
        batch.cause = error
        if isinstance(error, SessionExpired):
            self._session_expired(batch, error)
            return
        if error.applied == "unknown":
            batch.maybe_applied = True
        if isinstance(error, FINAL_ERRORS):
            for call in batch.calls:
                self._exchange.fail(call, refusal(error, batch.maybe_applied))
            self._settle(batch)
        elif isinstance(error, WrongShard):
            self._leave(batch)
        else:
            self.route.refused(link, error, now_us)
            self._again(batch)

    def _session_expired(self, batch: FrozenBatch, error: SessionExpired) -> None:
        """The shard knows nothing of the batch, and will never apply it under this session."""
        self._settle(batch)
        if batch.session is self.session:
            self.session = self._sessions.fresh()
        if batch.maybe_applied:
            for call in batch.calls:
                self._exchange.fail(call, refusal(error, maybe_applied=True))
            return
        # Every attempt was certainly not applied: the session only slept too long.
        unsent = [call for call in batch.calls if not call.done]
        for call in unsent:
            call.sent = False
        if self.closed:
            self._exchange.strays += unsent
        else:
            self.pending[:0] = unsent
        self._exchange.queue(self)

    def _again(self, batch: FrozenBatch) -> None:
        """Keep the batch for another attempt, unless nobody waits for it any more."""
        if not batch.is_live:
            self._settle(batch)
        elif self.closed:
            self._leave(batch)
        else:
            self.waiting.append(batch)
            self.waiting.sort(key=_sequence)
        self._exchange.queue(self)

    def _leave(self, batch: FrozenBatch) -> None:
        """The batch needs a newer map; it stays outstanding in its session."""
        del self.unsettled[id(batch)]
        self._exchange.strays.append(batch)

    def _settle(self, batch: FrozenBatch) -> None:
        """The batch will never be sent again."""
        del self.unsettled[id(batch)]
        batch.session.finish(batch.sequence)
        self._exchange.queue(self)

    # --- results

    def _take_result(self, batch: FrozenBatch, result: BatchResult) -> None:
        first = batch.calls[0]
        outcomes = result.outcomes
        if isinstance(first, AtomicCall):
            self._take_atomic_result(batch, first, result)
        elif outcomes.count(_WRITTEN) == len(outcomes) and not result.revisions:
            self._settle(batch)
            complete_all(batch.calls, result.first_revision, self._exchange)
        else:
            self._take_mixed_result(batch, result)

    def _take_mixed_result(self, batch: FrozenBatch, result: BatchResult) -> None:
        found = iter(result.found_revisions)
        moved: list[WriteCall] = []
        positions: list[int] = []
        batch.calls = calls = singles(batch.calls)
        for place, (call, outcome) in enumerate(zip(calls, result.outcomes, strict=True)):
            if outcome == _CONFLICT:
                self._exchange.fail(call, self._conflict(next(found)))
            elif outcome == _WRONG_SHARD:
                moved.append(call)
                positions.append(batch.positions[place] if batch.positions else place)
            else:
                call.revision = 0 if outcome == _MISSING else result.revision_of(place)
                self._exchange.complete(call)
        if not moved:
            self._settle(batch)
            return
        # The session table said so: these were certainly not applied, whatever earlier attempts were.
        rest = FrozenBatch(batch.session, batch.sequence, moved, positions, self)
        rest.regrouped, rest.cause = True, WrongShard(shard=self.route.shard.shard)
        del self.unsettled[id(batch)]
        self._exchange.strays.append(rest)

    def _take_atomic_result(self, batch: FrozenBatch, call: AtomicCall, result: BatchResult) -> None:
        if _WRONG_SHARD in result.outcomes:
            batch.maybe_applied, batch.cause = False, WrongShard(shard=self.route.shard.shard)
            self._leave(batch)
            return
        self._settle(batch)
        if result.found_revisions:
            self._exchange.fail(call, self._conflict(result.found_revisions[0]))
        else:
            call.revisions = tuple(result.revision_of(place) for place in range(len(result.outcomes)))
            self._exchange.complete(call)

    def _conflict(self, found_revision: int) -> Conflict:
        state = f"is at revision {found_revision}" if found_revision else "is absent"
        return Conflict(
            f"the condition does not hold: the key {state}",
            found_revision=found_revision,
            shard=self.route.shard.shard,
        )

    # --- deadlines and sweeping

    def expire(self, now_us: int, why: ShardraftError | None) -> int:
        """Fail every call whose deadline has passed; the earliest deadline that remains.

        ``why`` is what keeps anything from being sent, if something does.
        """
        shard = self.route.shard.shard
        earliest = expire_calls(self.pending, now_us, shard, why, self._exchange)
        for batch in list(self.unsettled.values()):
            batch.cause = why or batch.cause
            earliest = min(earliest, expire_batch(batch, now_us, shard, self._exchange))
        self.sweep()
        return earliest

    def sweep(self) -> None:
        """Forget what nobody waits for any more, and what is not under way."""
        self.pending = [call for call in self.pending if not call.done]
        dead = [batch for batch in self.waiting if not batch.is_live]
        for batch in dead:
            self.waiting.remove(batch)
            self._settle(batch)

    def drain(self) -> list[Writing | FrozenBatch]:
        """The map changed: everything that is not under way, to be routed anew."""
        left = [*self.waiting, *self.pending]
        for batch in self.waiting:
            del self.unsettled[id(batch)]
        self.waiting, self.pending = [], []
        return left


def _sequence(batch: FrozenBatch) -> int:
    return batch.sequence
