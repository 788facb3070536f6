"""Exactly-once sessions (thesis 6.3; PROTOCOL, "Operations, sessions, revisions").

An operation's identity is (session, sequence of the batch it was first sent in, position in it). The
table keeps the first result of every operation whose sequence is not below the session's
``answered_below``, so that a retry, however regrouped, is answered and never applied again.

Everything here is replicated state: it depends on committed entries and the limits only, and time is
the leader's time in those entries.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Final, TypeAlias

import attrs

from shardraft.config import Limits
from shardraft.kv.commands import Batch, BatchResult, Outcome, Refusal
from shardraft.types import Revision, SessionId

_WRONG_SHARD: Final = int(Outcome.WRONG_SHARD)
_CONFLICT: Final = int(Outcome.CONFLICT)
_ABORTED: Final = int(Outcome.ABORTED)


@attrs.frozen(slots=True)
class SessionRecord:
    """One session as it stands in state and snapshots: results of sequences from ``answered_below`` up.

    The results of one sequence stand together in the order in which they came to be. More than one
    of them means that its operations were regrouped.
    """

    session: SessionId
    last_used_us: int
    answered_below: int
    results: tuple[tuple[int, tuple[int, ...], BatchResult], ...]
    """(sequence, positions or (), result), ascending by sequence."""


@attrs.frozen(slots=True)
class OperationResult:
    """What became of one operation. ``found_revision`` tells only with CONFLICT.

    Not ``is_final``: certainly not applied because this shard did not hold the keys, its own or others of the
    same atomic batch; the operation applies if it comes back when the shard does.
    """

    outcome: int
    revision: Revision
    found_revision: Revision = 0
    is_final: bool = True


Group: TypeAlias = tuple[tuple[int, ...], BatchResult]
"""Operations of one sequence that were applied together: positions, or () for all from 0 up, and their result."""


@attrs.define(slots=True, eq=False)
class Session:
    """One session; ``record`` is its exported form as long as nothing has changed."""

    session: SessionId
    last_used_us: int
    answered_below: int
    results: dict[int, tuple[Group, ...]] = attrs.field(factory=dict)
    record: SessionRecord | None = None

    def use(self, time_us: int, answered_below: int) -> None:
        """Note a batch of this session, and forget the results that its client holds."""
        self.last_used_us = time_us
        self.record = None
        if answered_below > self.answered_below:
            self._forget(answered_below)
            self.answered_below = answered_below

    def _forget(self, answered_below: int) -> None:
        results = self.results
        if answered_below - self.answered_below <= len(results):
            for sequence in range(self.answered_below, answered_below):
                results.pop(sequence, None)
        else:
            # The client chose the step: walking every sequence of it could take for ever.
            self.results = {sequence: results[sequence] for sequence in results if sequence >= answered_below}

    def keep(self, sequence: int, positions: Sequence[int], result: BatchResult) -> None:
        """Remember the result of these operations, none of which had a final one."""
        self.record = None
        self.results[sequence] = (*self.results.get(sequence, ()), (tuple(positions), result))

    def first_results(self, sequence: int) -> dict[int, OperationResult]:
        """By position, what is known of the operations of ``sequence``.

        Of two results of one position the later counts: there is one only where the earlier was not final.
        A position has two at most, because none applies again unless the shard holds its key.
        """
        known: dict[int, OperationResult] = {}
        for positions, result in self.results.get(sequence, ()):
            known.update(zip(positions or range(len(result.outcomes)), split_result(result), strict=True))
        return known

    def export(self) -> SessionRecord:
        if self.record is None:
            self.record = SessionRecord(
                self.session,
                self.last_used_us,
                self.answered_below,
                tuple((number, *group) for number in sorted(self.results) for group in self.results[number]),
            )
        return self.record

    @classmethod
    def of(cls, record: SessionRecord) -> Session:
        session = cls(record.session, record.last_used_us, record.answered_below)
        for sequence, positions, result in record.results:
            session.keep(sequence, positions, result)
        session.record = record
        return session


class SessionTable:
    """All sessions of one shard, those used longest ago first."""

    def __init__(self, records: Iterable[SessionRecord], limits: Limits) -> None:
        self._sessions_max = limits.sessions_max
        self._window_max = limits.session_window_max
        self._idle_us_min = 1000 * limits.session_idle_ms_min
        ordered = sorted(records, key=lambda record: (record.last_used_us, record.session))
        self._sessions = OrderedDict((record.session, Session.of(record)) for record in ordered)

    def __len__(self) -> int:
        return len(self._sessions)

    def admit(self, batch: Batch, time_us: int) -> Session | Refusal:
        """The session of ``batch``, opened if need be, or why the batch must not be applied.

        Even a refused batch tells that its session is in use and what its client holds. Leader's time
        never goes back, so the table stays in order of last use.
        """
        session = self._sessions.get(batch.session)
        if session is None:
            if not batch.opens_session:
                return Refusal.SESSION_EXPIRED
            if len(self._sessions) >= self._sessions_max and not self._make_room(time_us - self._idle_us_min):
                return Refusal.SESSIONS_FULL
            session = self._sessions[batch.session] = Session(batch.session, time_us, batch.answered_below)
        else:
            self._sessions.move_to_end(batch.session)
            session.use(time_us, batch.answered_below)
        if batch.sequence < session.answered_below:
            return Refusal.SESSION_EXPIRED
        if batch.sequence >= session.answered_below + self._window_max:
            return Refusal.WINDOW_FULL
        return session

    def oldest_us(self) -> int | None:
        """When the session used longest ago was last used, in leader's time; None without sessions."""
        oldest = next(iter(self._sessions.values()), None)
        return None if oldest is None else oldest.last_used_us

    def _make_room(self, before_us: int) -> bool:
        """End the session used longest ago, if that was before ``before_us``.

        Among those used at the same microsecond the order of the table is this replica's own: one that started
        from a snapshot has another. So the lowest id goes, on all of them.
        """
        oldest_us = self.oldest_us()
        if oldest_us is None or oldest_us >= before_us:
            return False
        oldest = takewhile(lambda session: session.last_used_us == oldest_us, self._sessions.values())
        del self._sessions[min(session.session for session in oldest)]
        return True

    def expire(self, before_us: int) -> int:
        """End the sessions last used before ``before_us``; how many that were."""
        idle = [
            session.session
            for session in takewhile(lambda session: session.last_used_us < before_us, self._sessions.values())
        ]
        for session_id in idle:
            del self._sessions[session_id]
        return len(idle)

    def export(self) -> tuple[SessionRecord, ...]:
        """All sessions in order of their ids, so that equal tables have equal exports."""
        return tuple(self._sessions[session_id].export() for session_id in sorted(self._sessions))


def split_result(result: BatchResult) -> list[OperationResult]:
    """The result of each operation by itself."""
    found = iter(result.found_revisions)
    # Only an atomic batch has ABORTED operations beside one that is WRONG_SHARD: it was turned away as a whole.
    passing = (_WRONG_SHARD, _ABORTED) if _WRONG_SHARD in result.outcomes else ()
    return [
        OperationResult(
            outcome,
            result.revision_of(place),
            next(found) if outcome == _CONFLICT else 0,
            outcome not in passing,
        )
        for place, outcome in enumerate(result.outcomes)
    ]


def join_results(operations: Sequence[OperationResult]) -> BatchResult:
    """One result for operations that may have been applied at different times."""
    first = operations[0].revision
    revisions = tuple(operation.revision for operation in operations)
    return BatchResult(
        first,
        bytes(operation.outcome for operation in operations),
        tuple(operation.found_revision for operation in operations if operation.outcome == _CONFLICT),
        () if revisions == tuple(range(first, first + len(revisions))) else revisions,
    )
