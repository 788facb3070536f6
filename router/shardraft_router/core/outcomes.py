"""What results, refusals and deadlines mean for the calls of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Final

from shardraft.errors import (
    ErrorCode,
    InvalidArgument,
    PermissionDenied,
    ProtocolError,
    ShardraftError,
    TooLarge,
    Unimplemented,
)
from shardraft.kv.commands import BatchResult, Outcome
from shardraft_router.core.batches import BatchCalls, FrozenBatch
from shardraft_router.core.calls import AtomicCall, Call, Certainty, PutsCall, WriteCall
from shardraft_router.core.exchange import NEVER_US, Exchange, deadline_exceeded

FINAL_ERRORS: Final = (InvalidArgument, TooLarge, PermissionDenied, Unimplemented)
"""Refusals that another attempt, or another host, would only repeat."""

_CONFLICT: Final = int(Outcome.CONFLICT)
_WRONG_SHARD: Final = int(Outcome.WRONG_SHARD)
_OUTCOMES: Final = bytes(Outcome)
_OUTCOMES_UNLESS_ABORTED: Final = bytes(outcome for outcome in Outcome if outcome is not Outcome.ABORTED)


def refusal(error: ShardraftError, maybe_applied: bool) -> ShardraftError:
    """An error of its own for one call, with the certainty of the operation instead of the attempt's."""
    own = copy(error)
    own.applied = "unknown" if maybe_applied or error.applied == "unknown" else "no"
    return own


def check_result(batch: FrozenBatch, result: BatchResult) -> None:
    """Raise ``ProtocolError`` unless ``result`` can be the result of ``batch``."""
    first = batch.calls[0]
    is_atomic = isinstance(first, AtomicCall)
    operations = batch.operations
    outcomes = result.outcomes
    conflicts = outcomes.count(_CONFLICT)
    # Only a conflict or a key outside the shard can abort the other operations of an atomic batch.
    aborts = is_atomic and (conflicts or _WRONG_SHARD in outcomes)
    if (
        len(outcomes) != operations
        or len(result.found_revisions) != conflicts
        or (result.revisions and len(result.revisions) != operations)
        or outcomes.translate(None, _OUTCOMES if aborts else _OUTCOMES_UNLESS_ABORTED)
    ):
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, f"a result that does not fit its {operations} operations")


def complete_all(calls: BatchCalls, revision: int, exchange: Exchange) -> None:
    """Complete each of ``calls`` as written, with consecutive revisions; the hot end of the hot path."""
    completed = exchange.completed
    for call in calls:
        if isinstance(call, PutsCall):
            call.first_revision = revision
            exchange.complete(call)
            revision += len(call.keys)
            continue
        assert isinstance(call, WriteCall)
        if not call.done:
            call.revision = revision
            if call.group is None:
                call.done = True
                completed.append(call)
            else:
                exchange.complete(call)
        revision += 1


def expire_batch(batch: FrozenBatch, now_us: int, shard: int | None, exchange: Exchange) -> int:
    """Fail the calls of a frozen batch whose deadline passed; the earliest that remains, NEVER_US if none does.

    A call is certainly not applied only when no attempt may have been applied *and* none ever will be, that
    is, when no neighbour keeps the batch alive.
    """
    live = [call for call in batch.calls if not call.done]
    late = [call for call in live if call.deadline_us <= now_us]
    dies = len(late) == len(live) and not batch.under_way
    for call in late:
        certainty: Certainty = "no" if dies and not batch.maybe_applied else "unknown"
        exchange.fail(call, deadline_exceeded(certainty, shard, batch.cause))
    return min((call.deadline_us for call in live if call.deadline_us > now_us), default=NEVER_US)


def expire_calls(
    calls: Iterable[Call],
    now_us: int,
    shard: int | None,
    cause: ShardraftError | None,
    exchange: Exchange,
) -> int:
    """Fail the unsent ``calls`` whose deadline passed; the earliest that remains, NEVER_US if none does."""
    earliest = NEVER_US
    for call in calls:
        if call.done:
            continue
        if call.deadline_us <= now_us:
            exchange.fail(call, deadline_exceeded("no", shard, cause))
        elif call.deadline_us < earliest:
            earliest = call.deadline_us
    return earliest
