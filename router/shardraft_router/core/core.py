"""The whole client logic as one pure state machine; see the package's docstring for its driver's loop."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from shardraft.errors import InvalidArgument, ProtocolError, TooLarge, Unavailable
from shardraft.kv.commands import BatchCodec
from shardraft.kv.requests import STALE, ClientReply, Consistency, LearnerPlace, MapReply
from shardraft.shards.shard_map import ShardMap
from shardraft.types import HostId
from shardraft_router.core.batches import FrozenBatch
from shardraft_router.core.calls import (
    AtomicCall,
    Call,
    Certainty,
    Group,
    HostCall,
    PageCall,
    Question,
    ReadCall,
    ReadGroup,
    WriteCall,
    WriteGroup,
)
from shardraft_router.core.checks import Given, check_key, check_puts, check_value
from shardraft_router.core.exchange import NEVER_US, Exchange, Output
from shardraft_router.core.host_calls import HostCalls
from shardraft_router.core.lanes import Lanes, to_routing_keys
from shardraft_router.core.limits import RouterLimits
from shardraft_router.core.links import Link, Links
from shardraft_router.core.map_source import MapSource
from shardraft_router.core.outcomes import expire_batch, expire_calls
from shardraft_router.core.replicas import Replicas
from shardraft_router.core.scans import Scan, plan_scan, wanted_range
from shardraft_router.core.sessions import SessionSource


class RouterCore:
    """Calls go in, requests come out; replies go in, completed calls come out.

    ``session``: 16 random bytes, never used by another router. ``random`` is used for jitter and lots
    only. ``endpoints``: where to begin, at least one. Times are microseconds of the driver's monotonic
    clock and never go back. Deadlines are times on that clock.
    """

    def __init__(
        self, *, session: bytes, random: Random, limits: RouterLimits, codec: BatchCodec, endpoints: Sequence[str]
    ) -> None:
        if not endpoints:
            raise InvalidArgument("a router needs at least one endpoint")
        self.limits = limits
        self._exchange = Exchange(limits, random, codec)
        self._links = Links(endpoints)
        self._replicas = Replicas(self._links, self._exchange)
        self._sessions = SessionSource(session)
        self._maps = MapSource(self._links, self._exchange, self._heard_map)
        self._host_calls = HostCalls(self._links, self._exchange)
        self._lanes: Lanes | None = None
        self._unmapped: list[Call] = []
        """Calls with user keys, made before the map was known."""

    # --- what the driver asks

    @property
    def next_deadline_us(self) -> int:
        """When ``tick`` must be called at the latest; NEVER_US when nothing waits for time to pass."""
        return min(self._exchange.expiry_us, self._exchange.wake_us)

    @property
    def shard_map(self) -> ShardMap | None:
        return None if self._lanes is None else self._lanes.shard_map

    @property
    def voters(self) -> tuple[str, ...]:
        """The endpoints of the voter hosts in the map; the given ones while there is none."""
        if not self._links.voters:
            return tuple(seed.endpoint for seed in self._links.seeds)
        links = (self._links.of(host) for host in self._links.voters)
        return tuple(link.endpoint for link in links if link is not None)

    @property
    def learners(self) -> tuple[LearnerPlace, ...]:
        """The learners that hosts have told of so far."""
        return self._replicas.known()

    @property
    def writes_retried(self) -> int:
        """Operations that were sent again, each counted each time."""
        return self._exchange.writes_retried

    # --- calls

    def write(self, kind: int, key: Given, value: Given, condition: int, deadline_us: int) -> WriteCall:
        """Put or delete a key. Raises TypeError, InvalidArgument or TooLarge for what cannot be sent."""
        limits = self.limits
        if not isinstance(key, bytes) or not 0 < len(key) <= limits.key_bytes_max:
            check_key(key, limits)
        if not isinstance(value, bytes) or len(value) > limits.value_bytes_max:
            check_value(value, limits)
        lanes = self._lanes
        if deadline_us < self._exchange.expiry_us:
            self._exchange.expiry_us = deadline_us
        if lanes is None:
            call = WriteCall(kind, key, value, condition, deadline_us)
            self._unmapped.append(call)
            return call
        shard, routing = lanes.shard_map.locate(key)
        call = WriteCall(kind, routing, value, condition, deadline_us)
        lanes.writes[shard.shard].submit(call)
        return call

    def put_many(self, keys: Sequence[Given], values: Sequence[Given], deadline_us: int) -> WriteGroup:
        """Put ``values`` under as many ``keys``, at least one, each on its own. Nothing is sent unless all are good."""
        check_puts(keys, values, self.limits)
        group = WriteGroup(keys, values, deadline_us)
        self._start(group)
        return group

    def write_atomic(self, writes: Sequence[tuple[int, Given, Given, int]], deadline_us: int) -> AtomicCall:
        """All or nothing: (kind, key, value, condition) each, at least one, all in one shard, else InvalidArgument."""
        limits = self.limits
        for _, key, value, _ in writes:
            check_key(key, limits)
            check_value(value, limits)
        if not writes:
            raise InvalidArgument("a batch must not be empty")
        if len(writes) > limits.batch_operations_max:
            raise TooLarge(f"a batch of {len(writes)} operations is above the limit of {limits.batch_operations_max}")
        size = sum(len(key) + len(value) for _, key, value, _ in writes)
        if size > limits.batch_bytes_max:
            raise TooLarge(f"a batch of {size} bytes is above the limit of {limits.batch_bytes_max}")
        kinds, keys, values, conditions = zip(*writes, strict=True)
        call = AtomicCall(bytes(kinds), keys, values, conditions, deadline_us)
        self._start(call)
        return call

    def read(self, key: Given, consistency: Consistency, deadline_us: int) -> ReadCall:
        """Read one key. Raises TypeError or InvalidArgument for what is no key."""
        if not isinstance(key, bytes) or not 0 < len(key) <= self.limits.key_bytes_max:
            check_key(key, self.limits)
        if consistency is STALE:
            self._replicas.need()
        lanes = self._lanes
        if deadline_us < self._exchange.expiry_us:
            self._exchange.expiry_us = deadline_us
        if lanes is None:
            call = ReadCall((key,), consistency, deadline_us)
            self._unmapped.append(call)
            return call
        shard, routing = lanes.shard_map.locate(key)
        call = ReadCall((routing,), consistency, deadline_us)
        lanes.read_lane(shard.shard, consistency).submit(call)
        return call

    def read_many(self, keys: Sequence[Given], consistency: Consistency, deadline_us: int) -> ReadGroup:
        """Read many keys, at least one, each once."""
        for key in keys:
            check_key(key, self.limits)
        group = ReadGroup(keys, consistency, deadline_us)
        self._start(group)
        return group

    def await_map(self, deadline_us: int) -> Call:
        """A call that is done as soon as the shard map is known."""
        call = Call(deadline_us)
        self._start(call)
        return call

    def scan(
        self,
        *,
        prefix: bytes,
        start: bytes | None,
        end: bytes | None,
        limit: int | None,
        ordered: bool,
        consistency: Consistency,
    ) -> Scan:
        """A scan over the user's keys; the map must be known."""
        assert self._lanes is not None, "a scan is planned on a shard map"
        wanted = wanted_range(prefix, start, end)
        return plan_scan(self, self._lanes.shard_map, wanted, prefix, ordered, limit, consistency)

    def submit_page(self, call: PageCall) -> None:
        """Read one page of a scan."""
        self._start(call)

    def ask_host(self, endpoint: str, question: Question, deadline_us: int, changes: bool = False) -> HostCall:
        """Ask the host at one endpoint itself; Unavailable when it cannot be reached."""
        call = HostCall(endpoint, question, deadline_us, changes)
        self._note_deadline(deadline_us)
        self._host_calls.submit(call)
        return call

    def cancel(self, call: Call) -> Certainty:
        """Nobody waits for ``call`` any more; it will not be reported as completed.

        An operation that was not sent never will be ("no"). One that was is abandoned ("unknown"): its batch
        goes on for its neighbours, and its sequence stays unanswered as long as the batch may be sent again.
        """
        if call.done:
            return "unknown"
        parts: Sequence[Call] = call.parts if isinstance(call, Group) else (call,)
        sent = any(part.sent for part in parts if not part.done)
        call.done = True
        for part in parts:
            part.done = True
        self._exchange.cancelled += len(call.keys) if isinstance(call, WriteGroup) else len(parts)
        if self._exchange.cancelled >= self.limits.cancelled_calls_max:
            self._sweep()
        return "unknown" if sent else "no"

    def _start(self, call: Call) -> None:
        self._note_deadline(call.deadline_us)
        if isinstance(call, PageCall | ReadCall | ReadGroup) and call.consistency is STALE:
            self._replicas.need()
        if self._lanes is None:
            self._unmapped.append(call)
        else:
            self._map_call(call, self._lanes)

    def _map_call(self, call: Call, lanes: Lanes) -> None:
        """Route a call that has user keys."""
        if isinstance(call, ReadGroup):
            lanes.route_reads(call)
        elif isinstance(call, WriteGroup):
            lanes.route_puts(call)
        else:
            to_routing_keys(call, lanes.shard_map)
            lanes.route(call)

    def _note_deadline(self, deadline_us: int) -> None:
        if deadline_us < self._exchange.expiry_us:
            self._exchange.expiry_us = deadline_us

    # --- what happens in the world

    def host_connected(self, endpoint: str, host: HostId, tier: int, now_us: int) -> None:
        """A connection is up and has said hello: ``host`` answered there, at ``tier`` of the read tree (0: a voter)."""
        link = self._links.connected(endpoint, host, tier, now_us)
        self._maps.ask(link, now_us)
        self._links_changed()

    def host_disconnected(self, endpoint: str, now_us: int, reason: str = "the connection closed") -> None:
        """A connection is gone, or an attempt to connect failed. What was sent on it has an unknown outcome."""
        link = self._links.at(endpoint)
        error = Unavailable(f"{endpoint}: {reason}")
        pending, link.pending = list(link.pending.values()), {}
        self._exchange.unsend(endpoint)
        self._links.disconnected(link, reason)
        for attempt in pending:
            attempt.lost(link, now_us, error)
        self._links_changed()

    def received(self, endpoint: str, reply: ClientReply, now_us: int) -> None:
        """A reply arrived. One that nobody waits for (late, repeated) is ignored.

        Raises ``ProtocolError`` for one that cannot be the reply to its request; the driver must then close the
        connection and report it with ``host_disconnected``.
        """
        link = self._links.at(endpoint)
        link.heard_us = now_us
        attempt = link.pending.pop(reply.request_id, None)
        if attempt is None:
            return
        strays = len(self._exchange.strays)
        try:
            attempt.answered(link, reply, now_us)
        except ProtocolError:
            link.pending[reply.request_id] = attempt
            raise
        if len(self._exchange.strays) > strays:
            self._maps.prefer(link)

    def tick(self, now_us: int) -> None:
        """Time has passed: deadlines, waits and silent hosts. Does nothing before ``next_deadline_us``."""
        exchange = self._exchange
        if now_us >= exchange.expiry_us:
            self._expire(now_us)
        if now_us >= exchange.wake_us:
            exchange.wake_us = NEVER_US
            for link in list(self._links.by_endpoint.values()):
                self._check_silence(link, now_us)
            self._queue_lanes()

    def flush(self, now_us: int) -> None:
        """Send everything that may be sent. Call it after any other input, before ``take``."""
        self._exchange.flush_lanes(now_us)
        if self._unmapped or self._maps.is_wanted(now_us):
            self._maps.refresh(now_us)
        if self._host_calls.waiting:
            self._host_calls.flush(now_us)
        if self._replicas.needed:
            self._maps.refresh_learners(now_us)

    @property
    def wants_flush(self) -> bool:
        """Whether something waits that the next flush may send."""
        return bool(self._unmapped or self._host_calls.waiting or self._exchange.has_unsent)

    def take(self) -> Output:
        """What the driver must carry out; each thing is handed out once."""
        exchange = self._exchange
        wanted = None
        if self._links.changed:
            wanted = self._links.wanted([*self._replicas.chosen, *self._host_calls.links()])
        output = Output(exchange.requests, exchange.completed, exchange.drops, wanted, exchange.stale_reads_under_way)
        exchange.requests, exchange.completed, exchange.drops = [], [], []
        return output

    def close(self) -> None:
        """Nothing will be sent any more: fail every call as if its deadline had come."""
        self._expire(NEVER_US - 1)

    # --- inside

    def _links_changed(self) -> None:
        self._replicas.choose()
        self._queue_lanes()

    def _queue_lanes(self) -> None:
        if self._lanes is not None:
            for lane in self._lanes.all():
                self._exchange.queue(lane)

    def _heard_map(self, link: Link, reply: MapReply, now_us: int) -> None:
        shard_map = reply.shard_map
        if self._lanes is not None and shard_map.cluster_id != self._lanes.shard_map.cluster_id:
            self._drop(link, now_us, "it belongs to another cluster")
            return
        self._replicas.report(link, reply.learners)
        if self._lanes is None:
            self._links.adopt(shard_map)
            self._lanes = Lanes(shard_map, self._links, self._replicas, self._sessions, self._exchange)
            unmapped, self._unmapped = self._unmapped, []
            for call in unmapped:
                if not call.done:
                    self._map_call(call, self._lanes)
        elif (joined := self._lanes.shard_map.joined_with(shard_map)) is not self._lanes.shard_map:
            self._links.adopt(joined)
            self._lanes.follow_map(joined)
        strays, self._exchange.strays = self._exchange.strays, []
        for stray in strays:
            self._lanes.route(stray)
        self._links_changed()

    def _check_silence(self, link: Link, now_us: int) -> None:
        """Drop ``link`` if its host said nothing for too long; give up what it did not answer for far too long."""
        silence_us, unanswered_us = self.limits.silence_ms_max * 1000, self.limits.unanswered_ms_max * 1000
        for request_id, attempt in list(link.pending.items()):
            silent_us = max(attempt.sent_us, link.heard_us) + silence_us
            if now_us >= silent_us:
                self._drop(link, now_us, f"it said nothing for {self.limits.silence_ms_max} ms")
                return
            lost_us = attempt.sent_us + unanswered_us
            if now_us < lost_us:
                self._exchange.wake_at(min(silent_us, lost_us))
                return
            del link.pending[request_id]
            attempt.lost(link, now_us, Unavailable(f"{link.endpoint}: a request went unanswered"))

    def _drop(self, link: Link, now_us: int, reason: str) -> None:
        self._exchange.drops.append(link.endpoint)
        self.host_disconnected(link.endpoint, now_us, reason)

    def _expire(self, now_us: int) -> None:
        """Fail every call whose deadline has passed, wherever it waits."""
        exchange = self._exchange
        why = self._links.obstacle()
        unrouted = [stray for stray in exchange.strays if not isinstance(stray, FrozenBatch)]
        earliest = expire_calls([*self._unmapped, *unrouted], now_us, None, why, exchange)
        for batch in self._stray_batches():
            earliest = min(earliest, expire_batch(batch, now_us, None, exchange))
        for lane in self._lanes.all() if self._lanes is not None else ():
            earliest = min(earliest, lane.expire(now_us, why))
        earliest = min(earliest, self._host_calls.expire(now_us))
        self._sweep()
        exchange.expiry_us = earliest

    def _stray_batches(self) -> list[FrozenBatch]:
        return [stray for stray in self._exchange.strays if isinstance(stray, FrozenBatch)]

    def _sweep(self) -> None:
        """Let go of everything that nobody waits for and that is not under way."""
        exchange = self._exchange
        exchange.cancelled = 0
        self._unmapped = [call for call in self._unmapped if not call.done]
        self._host_calls.sweep()
        for batch in self._stray_batches():
            if not batch.is_live:
                batch.session.finish(batch.sequence)
        exchange.strays = [
            stray for stray in exchange.strays if (stray.is_live if isinstance(stray, FrozenBatch) else not stray.done)
        ]
        for lane in self._lanes.all() if self._lanes is not None else ():
            lane.sweep()
