"""What all parts of the core share: where requests and finished calls go, and when to look again."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, Protocol, TypeAlias

import attrs

from shardraft.errors import DeadlineExceeded, ShardraftError
from shardraft.kv.commands import BatchCodec
from shardraft.kv.requests import ClientRequest
from shardraft.types import INTEGER_MAX
from shardraft_router.core.batches import FrozenBatch
from shardraft_router.core.calls import Call, Certainty
from shardraft_router.core.limits import RouterLimits
from shardraft_router.core.links import Attempt, Link
from shardraft_router.core.pacing import Pace, Pacing

NEVER_US: Final = INTEGER_MAX
"""The time of what need not happen."""

Stray: TypeAlias = Call | FrozenBatch
"""What belongs to no shard until the shard map is known (again)."""


class Lane(Protocol):
    """A queue of calls to one shard."""

    queued: bool
    pace: Pace

    @property
    def pending(self) -> Sequence[Call]:
        """Calls that were not sent yet."""
        ...

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be sent, for the first time or again."""
        ...

    def flush(self, now_us: int) -> None:
        """Send what may be sent."""
        ...


@attrs.frozen(slots=True)
class Output:
    """What the driver must carry out. ``wanted`` is None when it has not changed since the last time.

    ``requests``: (endpoint, request), in order. ``completed``: the calls that are done. ``drops``: endpoints whose
    connection must be closed, because the host is silent or not of this cluster; the core already counts
    them as disconnected. ``wanted``: all the endpoints to be connected to; connections to others may be closed.
    ``stale_reads_under_way``: how many were sent and are not answered.
    """

    requests: list[tuple[str, ClientRequest]]
    completed: list[Call]
    drops: list[str]
    wanted: tuple[str, ...] | None
    stale_reads_under_way: int


class Exchange:
    """Collects the output, hands out request ids, and keeps the two times at which to look again.

    ``expiry_us``: no call's deadline is earlier. ``wake_us``: something waits for that time to pass.
    ``map_is_old``: a host was named that the map does not have.
    """

    __slots__ = (
        "_next_request_id",
        "cancelled",
        "codec",
        "completed",
        "drops",
        "expiry_us",
        "lanes_to_flush",
        "limits",
        "map_is_old",
        "paces",
        "random",
        "requests",
        "strays",
        "wake_us",
        "writes_retried",
    )  # fmt: skip

    def __init__(self, limits: RouterLimits, random: Random, codec: BatchCodec) -> None:
        self.limits = limits
        self.random = random
        self.codec = codec
        self.requests: list[tuple[str, ClientRequest]] = []
        self.completed: list[Call] = []
        self.drops: list[str] = []
        self.lanes_to_flush: list[Lane] = []
        self.paces = {pacing: Pace(pacing, limits) for pacing in Pacing}
        self.strays: list[Stray] = []
        self.cancelled = 0
        self.writes_retried = 0
        self.expiry_us = NEVER_US
        self.wake_us = NEVER_US
        self.map_is_old = False
        self._next_request_id = 1

    def take_request_id(self) -> int:
        request_id = self._next_request_id
        self._next_request_id = request_id + 1
        return request_id

    def send(self, link: Link, attempt: Attempt, request: ClientRequest, now_us: int) -> None:
        """Hand ``request`` to the driver, and its reply, or its loss, to ``attempt``."""
        assert link.up, f"nothing can be sent to {link.endpoint}"
        attempt.sent_us = now_us
        if not link.pending:
            self.wake_at(now_us + self.limits.silence_ms_max * 1000)
        link.pending[request.request_id] = attempt
        self.requests.append((link.endpoint, request))

    def unsend(self, endpoint: str) -> None:
        """Take back what the driver has not taken yet of the requests to an endpoint that is gone."""
        if self.requests:
            self.requests = [request for request in self.requests if request[0] != endpoint]

    def complete(self, call: Call) -> None:
        """``call`` has its result or error."""
        if call.done:
            return
        call.done = True
        group = call.group
        if group is None:
            self.completed.append(call)
        elif not group.done and group.part_done(call):
            self.complete(group)

    def fail(self, call: Call, error: ShardraftError) -> None:
        if not call.done:
            call.error = error
            self.complete(call)

    def queue(self, lane: Lane) -> None:
        """Look at ``lane`` in the next flush."""
        if not lane.queued:
            lane.queued = True
            self.lanes_to_flush.append(lane)

    @property
    def stale_reads_under_way(self) -> int:
        """How many stale reads were sent and are neither answered nor lost."""
        return self.paces[Pacing.FREE].under_way

    @property
    def has_unsent(self) -> bool:
        return bool(self.strays) or any(lane.has_unsent for lane in self.lanes_to_flush)

    def flush_lanes(self, now_us: int) -> None:
        """Send what the queued lanes may send; those whose pace is not open stay queued."""
        if not self.lanes_to_flush:
            return
        lanes, self.lanes_to_flush = self.lanes_to_flush, []
        for pace in self.paces.values():
            # How much waits matters only while something is under way.
            waiting = sum([len(lane.pending) for lane in lanes if lane.pace is pace]) if pace.under_way else 0
            pace.look(waiting, now_us)
        for lane in lanes:
            if lane.pace.open:
                lane.queued = False
                lane.flush(now_us)
            else:
                self.lanes_to_flush.append(lane)
                self.wake_at(lane.pace.opens_us)

    def wake_at(self, us: int) -> None:
        if us < self.wake_us:
            self.wake_us = us

    def back_off_us(self, failures: int) -> int:
        """How long to wait after that many failures in a row: doubling, with half of it jitter."""
        longest = min(self.limits.back_off_ms_min << min(failures - 1, 16), self.limits.back_off_ms_max) * 1000
        return longest // 2 + self.random.randrange(longest // 2 + 1)

    def remaining_ms(self, deadline_us: int, now_us: int) -> int:
        """A deadline as it travels: what remains of it, at least 1 ms."""
        return max(1, min((deadline_us - now_us) // 1000, self.limits.timeout_ms_max))


def deadline_exceeded(applied: Certainty, shard: int | None, cause: Exception | None) -> DeadlineExceeded:
    """The error of a call whose deadline passed; ``cause`` is the last that kept it from its result."""
    outcome = "it was not applied" if applied == "no" else "its outcome is unknown"
    because = f" ({cause})" if cause is not None else ""
    error = DeadlineExceeded(f"the deadline passed; {outcome}{because}", applied=applied, shard=shard)
    error.__cause__ = cause
    return error
