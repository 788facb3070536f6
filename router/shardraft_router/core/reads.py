"""The reads of one shard at one consistency: coalesced into requests, asked again elsewhere when refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from shardraft.errors import ErrorCode, ProtocolError, ShardraftError, WrongShard
from shardraft.kv.requests import ClientReply, Consistency, ErrorReply, ReadReply, ReadRequest, ScanReply, ScanRequest
from shardraft_router.core.calls import PageCall, ReadCall
from shardraft_router.core.exchange import NEVER_US, Exchange, deadline_exceeded
from shardraft_router.core.links import Link
from shardraft_router.core.outcomes import FINAL_ERRORS, refusal
from shardraft_router.core.pacing import Pace
from shardraft_router.core.replicas import Replicas
from shardraft_router.core.route import ShardRoute


class ReadTarget(Protocol):
    """Where the reads of a lane go: to the leader (``ShardRoute``), or to replicas in turn."""

    def link(self, now_us: int) -> Link | None: ...

    def reached(self, link: Link) -> None: ...

    def refused(self, link: Link, error: ShardraftError, now_us: int) -> None: ...

    @property
    def searching(self) -> bool:
        """Whether only one request may be under way."""
        ...


class ReplicaTarget:
    """Stale reads go to the replicas in turn; one that refused is passed over until another has answered."""

    __slots__ = ("_exchange", "_failures", "_replicas", "_resume_us", "_tried")

    searching = False

    def __init__(self, replicas: Replicas, exchange: Exchange) -> None:
        self._replicas = replicas
        self._exchange = exchange
        self._tried: set[str] = set()
        self._failures = 0
        self._resume_us = 0

    def link(self, now_us: int) -> Link | None:
        if self._resume_us > now_us:
            self._exchange.wake_at(self._resume_us)
            return None
        return self._replicas.next_link(self._tried)

    def reached(self, link: Link) -> None:
        self._failures = 0
        self._tried.clear()

    def refused(self, link: Link, error: ShardraftError, now_us: int) -> None:
        self._tried.add(link.endpoint)
        if self._replicas.next_link(self._tried) is None:
            # Nobody is left: begin anew after a while.
            self._tried.clear()
            self._failures += 1
            self._resume_us = now_us + self._exchange.back_off_us(self._failures)
            self._exchange.wake_at(self._resume_us)


class ReadWave:
    """One read request: ``calls`` and, for each, how many of its keys were asked for."""

    __slots__ = ("calls", "counts", "lane", "sent_us")

    def __init__(self, lane: ReadLane, calls: list[ReadCall]) -> None:
        self.lane = lane
        self.calls = calls
        self.counts = [len(call.keys) - len(call.values) for call in calls]
        self.sent_us = 0

    def answered(self, link: Link, reply: ClientReply, now_us: int) -> None:
        if isinstance(reply, ReadReply):
            if not 0 < len(reply.values) == len(reply.revisions) <= sum(self.counts):
                raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "a read reply that does not fit its request")
            self.lane.wave_answered(self, link, reply, now_us)
        elif isinstance(reply, ErrorReply):
            self.lane.refused(self, self.calls, link, reply.error, now_us)
        else:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, f"{type(reply).__name__} cannot be the reply to a read")

    def lost(self, link: Link, now_us: int, reason: ShardraftError) -> None:
        self.lane.refused(self, self.calls, link, reason, now_us)


class PageAttempt:
    """One scan request."""

    __slots__ = ("call", "lane", "sent_us")

    def __init__(self, lane: ReadLane, call: PageCall) -> None:
        self.lane = lane
        self.call = call
        self.sent_us = 0

    def answered(self, link: Link, reply: ClientReply, now_us: int) -> None:
        if isinstance(reply, ScanReply):
            if len(reply.keys) != len(reply.values) or (reply.more and not reply.keys):
                raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "a page that does not fit its request")
            self.lane.page_answered(self, link, reply)
        elif isinstance(reply, ErrorReply):
            self.lane.refused(self, [self.call], link, reply.error, now_us)
        else:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, f"{type(reply).__name__} cannot be the reply to a scan")

    def lost(self, link: Link, now_us: int, reason: ShardraftError) -> None:
        self.lane.refused(self, [self.call], link, reason, now_us)


class ReadLane:
    """Queues of unsent reads and pages, and what is under way. A read has no identity: a refused one queues again."""

    __slots__ = (
        "_cause",
        "_exchange",
        "_pages_under_way",
        "_target",
        "closed",
        "consistency",
        "pace",
        "pages",
        "pending",
        "queued",
        "route",
        "under_way",
    )  # fmt: skip

    def __init__(
        self, route: ShardRoute, consistency: Consistency, target: ReadTarget, exchange: Exchange, pace: Pace
    ) -> None:
        self.route = route
        self.pace = pace
        self.consistency = consistency
        self.pending: list[ReadCall] = []
        self.pages: list[PageCall] = []
        self.under_way: dict[ReadWave | PageAttempt, None] = {}
        self._pages_under_way = 0
        self.queued = False
        self.closed = False
        self._target = target
        self._exchange = exchange
        self._cause: ShardraftError | None = None
        """The last refusal, for the error of a call whose deadline passes."""

    # --- sending

    def submit(self, call: ReadCall) -> None:
        """Take a routed read; it goes with the next flush that has room."""
        self.pending.append(call)
        if not self.queued:
            self.queued = True
            self._exchange.lanes_to_flush.append(self)

    def submit_page(self, call: PageCall) -> None:
        """Take a page whose start lies in this shard."""
        self.pages.append(call)
        self._exchange.queue(self)

    @property
    def has_unsent(self) -> bool:
        return bool(self.pending or self.pages)

    def flush(self, now_us: int) -> None:
        while self._may_send_wave() or self._may_send_page():
            # While the leader is being searched one request is the probe.
            if self.under_way and self._target.searching:
                return
            link = self._target.link(now_us)
            if link is None:
                return
            if self._may_send_wave():
                self._send_wave(link, now_us)
            else:
                self._send_page(link, now_us)

    def _may_send_wave(self) -> bool:
        return (
            bool(self.pending)
            and len(self.under_way) - self._pages_under_way < self._exchange.limits.reads_in_flight_max
        )

    def _may_send_page(self) -> bool:
        return bool(self.pages) and self._pages_under_way < self._exchange.limits.pages_in_flight_max

    def _send_wave(self, link: Link, now_us: int) -> None:
        calls = self._take_pending()
        if not calls:
            return
        keys: list[bytes] = []
        for call in calls:
            call.sent = True
            keys += call.keys[len(call.values) :] if call.values else call.keys
        wave = ReadWave(self, calls)
        exchange = self._exchange
        timeout_ms = exchange.remaining_ms(max(call.deadline_us for call in calls), now_us)
        self.under_way[wave] = None
        self.pace.sent(len(calls), now_us)
        request = ReadRequest(
            exchange.take_request_id(), self.route.shard.shard, self.route.epoch, timeout_ms, self.consistency, keys
        )
        exchange.send(link, wave, request, now_us)

    def _take_pending(self) -> list[ReadCall]:
        keys_max = self._exchange.limits.read_keys_max
        calls: list[ReadCall] = []
        count = place = 0
        for place, call in enumerate(self.pending):  # noqa: B007  # How far the loop came is used after it.
            if call.done:
                continue
            count += len(call.keys)
            if calls and count > keys_max:
                break
            calls.append(call)
        else:
            place += 1
        del self.pending[:place]
        return calls

    def _send_page(self, link: Link, now_us: int) -> None:
        call = self.pages.pop(0)
        if call.done:
            return
        call.sent = True
        exchange = self._exchange
        shard_range = self.route.shard.key_range
        call.shard_end = shard_range.end
        ends_inside = bool(call.end) and (not shard_range.end or call.end <= shard_range.end)
        attempt = PageAttempt(self, call)
        self.under_way[attempt] = None
        self._pages_under_way += 1
        self.pace.sent(1, now_us)
        request = ScanRequest(
            exchange.take_request_id(),
            self.route.shard.shard,
            self.route.epoch,
            exchange.remaining_ms(call.deadline_us, now_us),
            self.consistency,
            call.start,
            call.end if ends_inside else shard_range.end,
            call.limit,
            call.keys_only,
        )
        exchange.send(link, attempt, request, now_us)

    # --- what became of it

    def wave_answered(self, wave: ReadWave, link: Link, reply: ReadReply, now_us: int) -> None:
        self._reached(wave, link)
        values, revisions = reply.values, reply.revisions
        rest: list[ReadCall] = []
        begin = 0
        for call, count in zip(wave.calls, wave.counts, strict=True):
            end = begin + count
            if not call.done:
                found = values[begin:end]
                call.values = found if not call.values else [*call.values, *found]
                call.revisions = (
                    revisions[begin:end] if not call.revisions else [*call.revisions, *revisions[begin:end]]
                )
                if len(found) == count:
                    self._complete(call, link, reply, wave.sent_us, now_us)
                else:
                    rest.append(call)
            begin = end
        self._put_back(rest)

    def _complete(self, call: ReadCall, link: Link, reply: ReadReply, sent_us: int, now_us: int) -> None:
        call.applied_index = reply.applied_index
        call.tier = reply.tier
        call.served_by = link.endpoint
        if reply.age_us is not None:
            # The router is the last hop: how long the reply travelled is unknown, but no longer than since the asking.
            call.age_us = reply.age_us + now_us - sent_us
            call.completed_us = now_us
        self._exchange.complete(call)

    def page_answered(self, attempt: PageAttempt, link: Link, reply: ScanReply) -> None:
        self._reached(attempt, link)
        call = attempt.call
        if call.done:
            return
        call.found_keys, call.found_values = reply.keys, reply.values
        if reply.more:
            call.next_start = reply.keys[-1] + b"\0"
        elif call.shard_end and (not call.end or call.shard_end < call.end):
            call.next_start = call.shard_end
        self._exchange.complete(call)

    def _reached(self, attempt: ReadWave | PageAttempt, link: Link) -> None:
        self._ended(attempt)
        self._target.reached(link)
        self._exchange.queue(self)

    def refused(
        self,
        attempt: ReadWave | PageAttempt,
        calls: Sequence[ReadCall] | Sequence[PageCall],
        link: Link,
        error: ShardraftError,
        now_us: int,
    ) -> None:
        """The request failed; a read changes nothing, so its calls can simply be asked again."""
        self._ended(attempt)
        self._cause = error
        live = [call for call in calls if not call.done]
        if isinstance(error, FINAL_ERRORS):
            for call in live:
                self._exchange.fail(call, refusal(error, maybe_applied=False))
        elif isinstance(error, WrongShard):
            self._exchange.strays += live
        else:
            self._target.refused(link, error, now_us)
            self._put_back(live)
        self._exchange.queue(self)

    def _ended(self, attempt: ReadWave | PageAttempt) -> None:
        del self.under_way[attempt]
        if isinstance(attempt, PageAttempt):
            self._pages_under_way -= 1
            self.pace.ended(1)
        else:
            self.pace.ended(len(attempt.calls))

    def _put_back(self, calls: Sequence[ReadCall | PageCall]) -> None:
        if self.closed:
            self._exchange.strays += calls
            return
        self.pending[:0] = [call for call in calls if isinstance(call, ReadCall)]
        self.pages[:0] = [call for call in calls if isinstance(call, PageCall)]

    # --- deadlines and sweeping

    def expire(self, now_us: int, why: ShardraftError | None) -> int:
        """Fail every call whose deadline has passed; the earliest deadline that remains.

        ``why`` is what keeps anything from being sent, if something does.
        """
        earliest = NEVER_US
        for call in [*self.pending, *self.pages, *self._calls_under_way()]:
            if call.done:
                continue
            if call.deadline_us <= now_us:
                self._exchange.fail(call, deadline_exceeded("no", self.route.shard.shard, why or self._cause))
            elif call.deadline_us < earliest:
                earliest = call.deadline_us
        self.sweep()
        return earliest

    def _calls_under_way(self) -> Iterable[ReadCall | PageCall]:
        for attempt in self.under_way:
            if isinstance(attempt, ReadWave):
                yield from attempt.calls
            else:
                yield attempt.call

    def sweep(self) -> None:
        """Forget what nobody waits for any more."""
        self.pending = [call for call in self.pending if not call.done]
        self.pages = [call for call in self.pages if not call.done]

    def drain(self) -> list[ReadCall | PageCall]:
        """The map changed: everything that is not under way, to be routed anew."""
        left: list[ReadCall | PageCall] = [*self.pending, *self.pages]
        self.pending, self.pages = [], []
        return left
