"""All shards' lanes under one shard map, and what happens to calls when the map changes."""

from __future__ import annotations

from collections.abc import Iterator

from shardraft.errors import InvalidArgument
from shardraft.kv.requests import STALE, Consistency
from shardraft.shards.shard_map import ShardMap
from shardraft.types import ShardId
from shardraft_router.core.batches import FrozenBatch, regroup, singles
from shardraft_router.core.calls import (
    AtomicCall,
    Call,
    Certainty,
    PageCall,
    PutsCall,
    ReadCall,
    ReadGroup,
    WriteCall,
    WriteGroup,
)
from shardraft_router.core.exchange import Exchange, Stray
from shardraft_router.core.links import Links
from shardraft_router.core.pacing import Pacing
from shardraft_router.core.reads import ReadLane, ReplicaTarget
from shardraft_router.core.replicas import Replicas
from shardraft_router.core.route import ShardRoute
from shardraft_router.core.sessions import SessionSource
from shardraft_router.core.writes import WriteLane

NOT_ONE_SHARD = "the keys of a batch must lie in one shard: give them one {tag}"


class Lanes:
    """One write lane and two read lanes per shard of the map. Routed calls, with routing keys, come here."""

    def __init__(
        self, shard_map: ShardMap, links: Links, replicas: Replicas, sessions: SessionSource, exchange: Exchange
    ) -> None:
        self._links = links
        self._replicas = replicas
        self._sessions = sessions
        self._exchange = exchange
        self.writes: dict[ShardId, WriteLane] = {}
        self.reads: dict[ShardId, ReadLane] = {}
        self.stale_reads: dict[ShardId, ReadLane] = {}
        self.shard_map = shard_map
        self.follow_map(shard_map)

    def all(self) -> Iterator[WriteLane | ReadLane]:
        yield from self.writes.values()
        yield from self.reads.values()
        yield from self.stale_reads.values()

    def follow_map(self, shard_map: ShardMap) -> None:
        """Make lanes for new shards, close those of gone ones, and route anew whatever is not under way."""
        self.shard_map = shard_map
        moving: list[Stray] = []
        for lane in self.all():
            moving += lane.drain()
        for shard in [shard for shard in self.writes if shard_map.shard_by_id(shard) is None]:
            for gone in (self.writes.pop(shard), self.reads.pop(shard), self.stale_reads.pop(shard)):
                gone.closed = True
        paces = self._exchange.paces
        for shard_place in shard_map.shards:
            shard = shard_place.shard
            if shard in self.writes:
                self.writes[shard].route.follow_map(shard_place, shard_map.epoch)
                continue
            route = ShardRoute(shard_place, shard_map.epoch, self._links, self._exchange)
            self.writes[shard] = WriteLane(route, self._sessions, self._exchange, paces[Pacing.TOGETHER])
            self.reads[shard] = ReadLane(route, Consistency.LINEARIZABLE, route, self._exchange, paces[Pacing.HALVES])
            route.lanes = (self.writes[shard], self.reads[shard])
            stale = ReplicaTarget(self._replicas, self._exchange)
            self.stale_reads[shard] = ReadLane(route, STALE, stale, self._exchange, paces[Pacing.FREE])
        for stray in moving:
            self.route(stray)

    def route(self, stray: Stray) -> None:
        """Give a routed call, or a batch that left its shard, to the lane that owns it."""
        if isinstance(stray, FrozenBatch):
            self._route_batch(stray)
        elif stray.done:
            return
        elif isinstance(stray, WriteCall):
            self.writes[self.shard_map.shard_of(stray.key).shard].submit(stray)
        elif isinstance(stray, PutsCall):
            self._route_puts(stray)
        elif isinstance(stray, AtomicCall):
            self._route_atomic(stray)
        elif isinstance(stray, ReadCall):
            self._route_read(stray)
        elif isinstance(stray, PageCall):
            owner = self.shard_map.shard_of(stray.start).shard
            self.read_lane(owner, stray.consistency).submit_page(stray)
        else:
            self._exchange.complete(stray)  # It waited for nothing but a map.

    def read_lane(self, shard: ShardId, consistency: Consistency) -> ReadLane:
        return (self.stale_reads if consistency is STALE else self.reads)[shard]

    def _route_batch(self, batch: FrozenBatch) -> None:
        pieces = regroup(batch, self.shard_map)
        if pieces is None:
            certainty: Certainty = "unknown" if batch.maybe_applied else "no"
            for call in batch.calls:
                self._exchange.fail(call, InvalidArgument(NOT_ONE_SHARD, applied=certainty))
            pieces = {}
        batch.session.divide(batch.sequence, len(pieces))
        for shard, piece in pieces.items():
            self.writes[shard].accept(piece)

    def _route_puts(self, call: PutsCall) -> None:
        owners = {self.shard_map.shard_of(key).shard for key in call.keys}
        if len(owners) == 1:
            self.writes[owners.pop()].submit(call)
            return
        for single in singles((call,)):
            self.route(single)

    def _route_atomic(self, call: AtomicCall) -> None:
        owners = {self.shard_map.shard_of(key).shard for key in call.keys}
        if len(owners) == 1:
            self.writes[owners.pop()].submit(call)
        else:
            self._exchange.fail(call, InvalidArgument(NOT_ONE_SHARD))

    def _route_read(self, call: ReadCall) -> None:
        answered = len(call.values)
        by_owner: dict[ShardId, list[bytes]] = {}
        for key in call.keys[answered:]:
            by_owner.setdefault(self.shard_map.shard_of(key).shard, []).append(key)
        if len(by_owner) == 1:
            for owner in by_owner:
                self.read_lane(owner, call.consistency).submit(call)
            return
        group = call.group
        assert isinstance(group, ReadGroup), "a read of several keys is part of a group"
        parts = [ReadCall(keys, call.consistency, call.deadline_us, group) for keys in by_owner.values()]
        group.add_parts(parts)
        call.keys = call.keys[:answered]
        self._exchange.complete(call)
        for part in parts:
            self._route_read(part)

    def route_puts(self, group: WriteGroup) -> None:
        """Divide puts of *user* keys into parts of one shard each, none larger than a batch may be."""
        shard_map, limits = self.shard_map, self._exchange.limits
        bytes_max, operations_max = limits.coalesced_bytes_max, limits.batch_operations_max
        filling: dict[ShardId, PutsCall] = {}
        parts: list[tuple[WriteLane, PutsCall]] = []
        for place, key in enumerate(group.keys):
            value = group.values[place]
            owner, routing = shard_map.locate(key)
            size = len(routing) + len(value)
            part = filling.get(owner.shard)
            if part is None or part.size_bytes + size > bytes_max or len(part.keys) >= operations_max:
                part = filling[owner.shard] = PutsCall(group)
                parts.append((self.writes[owner.shard], part))
            part.keys.append(routing)
            part.values.append(value)
            part.places.append(place)
            part.size_bytes += size
        group.values = ()
        group.adopt([part for _, part in parts])
        for lane, part in parts:
            lane.submit(part)

    def route_reads(self, group: ReadGroup) -> None:
        """Divide reads of *user* keys into parts of one shard each."""
        shard_map = self.shard_map
        keys_max = self._exchange.limits.read_keys_max
        by_owner: dict[ShardId, list[bytes]] = {}
        for key in group.keys:
            shard, routing = shard_map.locate(key)
            by_owner.setdefault(shard.shard, []).append(routing)
        parts: list[tuple[ReadLane, ReadCall]] = []
        for owner, keys in by_owner.items():
            lane = self.read_lane(owner, group.consistency)
            for begin in range(0, len(keys), keys_max):
                part = ReadCall(keys[begin : begin + keys_max], group.consistency, group.deadline_us, group)
                parts.append((lane, part))
        group.slot_bytes = shard_map.partitioning.slot_bytes
        group.adopt([part for _, part in parts])
        for lane, part in parts:
            lane.submit(part)


def to_routing_keys(call: Call, shard_map: ShardMap) -> None:
    """Give a call that was made before the map was known its routing keys."""
    if isinstance(call, WriteCall):
        call.key = shard_map.routing_key(call.key)
    elif isinstance(call, AtomicCall | ReadCall):
        call.keys = [shard_map.routing_key(key) for key in call.keys]
