"""A cluster without Raft: every shard is one machine, and whoever the test says leads it answers.

It is the real state machine behind the real requests, so exactly-once and certainty are judged by what
truly applies. ``World`` drives a router's core against it with a clock of its own and a network that does
what the test says; the faces' tests put the same cluster behind sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random

import attrs

from shardraft.config import Limits
from shardraft.errors import NotLeader, Overloaded, SessionExpired, ShardraftError, WrongShard
from shardraft.kv.commands import ANY_REVISION, DELETE, PUT, Batch, BatchCodec, BatchResult, Outcome, Refusal, Stored
from shardraft.kv.lookup import look_up
from shardraft.kv.machine import Machine, MachineState
from shardraft.kv.requests import (
    ClientReply,
    ClientRequest,
    Consistency,
    ErrorReply,
    LearnerPlace,
    MapReply,
    MapRequest,
    ReadReply,
    ReadRequest,
    ScanReply,
    ScanRequest,
    ShardStatus,
    StatusReply,
    StatusRequest,
    WriteReply,
    WriteRequest,
)
from shardraft.shards.keyspace import KeyRange, Partitioning
from shardraft.shards.shard_map import HostPlace, Shard, ShardMap
from shardraft.sim.codec import PlainCodec
from shardraft.types import HostId, ShardId
from shardraft_router.core import Call, ReadCall, RouterCore, RouterLimits, WriteCall
from tests.router.operators import OPERATORS_REQUESTS, answer_operator

CLUSTER_ID = b"the test cluster"
ShardRequest = WriteRequest | ReadRequest | ScanRequest


class MemoryReader:
    """Flushed state of a shard: what a split copied."""

    def __init__(self, entries: dict[bytes, Stored]) -> None:
        self._entries = entries

    def get(self, shard: ShardId, key: bytes) -> Stored | None:
        return self._entries.get(key)

    def get_many(self, shard: ShardId, keys: Sequence[bytes], bytes_max: int) -> list[Stored | None]:
        return look_up(keys, self._entries.get, bytes_max)

    def scan(self, shard: ShardId, start: bytes, end: bytes, entries_max: int) -> list[tuple[bytes, Stored]]:
        held = KeyRange(start, end)
        return [(key, self._entries[key]) for key in sorted(self._entries) if held.holds(key)][:entries_max]


def at(host: HostId) -> str:
    return f"h{host}:7000"


def learner_at(host: HostId) -> str:
    return f"l{host}:7000"


class FakeCluster:
    """``leaders`` says which host answers for each shard; 0 means nobody does."""

    def __init__(
        self,
        *,
        hosts: int = 3,
        shards: int = 2,
        learners: dict[HostId, int] | None = None,
        partitioning: Partitioning = Partitioning.HASH,
        slots: int = 16,
        limits: Limits | None = None,
        codec: BatchCodec | None = None,
        places: dict[HostId, str] | None = None,
        learner_places: dict[HostId, str] | None = None,
    ) -> None:
        self.codec = codec or PlainCodec()
        self.limits = limits or Limits()
        places = places or {host: at(host) for host in range(1, hosts + 1)}
        self.shard_map = ShardMap.bootstrap(
            CLUSTER_ID, tuple(HostPlace(host, places[host]) for host in sorted(places)), shards, partitioning, slots
        )
        self.leaders = {shard.shard: shard.membership.members[0].host for shard in self.shard_map.shards}
        self.machines = {shard.shard: self._machine(shard, {}) for shard in self.shard_map.shards}
        self.learners = tuple(
            LearnerPlace(host, (learner_places or {}).get(host, learner_at(host)), tier, 1 if tier == 1 else 0)
            for host, tier in sorted((learners or {}).items())
        )
        self.reporters: dict[str, tuple[LearnerPlace, ...]] = {}
        """Which learners a host tells of, where that is not all of them."""
        self.told: list[tuple[HostId, HostId, str]] = []
        """Which host was told of which other, and where that listens."""
        self.dead: set[HostId] = set()
        """Hosts that take no leadership over."""
        self.time_us = 1
        self.page_entries_max = 1000
        self.batches: list[Batch] = []
        """Every batch that was applied or answered from the session table."""
        self.applied: Counter[bytes] = Counter()
        """How often each value was truly put, retries answered from the session table not counted."""

    def _machine(self, shard: Shard, entries: dict[bytes, Stored], state: MachineState | None = None) -> Machine:
        fresh = state or MachineState(shard.shard, shard.key_range, self.shard_map.epoch)
        return Machine(fresh, MemoryReader(entries), self.limits)

    # --- what tests arrange

    def lead(self, host: HostId) -> None:
        """``host`` leads every shard (0: nobody does)."""
        self.leaders = dict.fromkeys(self.leaders, host)

    def split(self, shard: ShardId, child: ShardId, boundary: bytes) -> None:
        """``child`` takes the routing keys of ``shard`` from ``boundary`` on, sessions and all; same hosts."""
        parent = self.shard_map.shard_by_id(shard)
        assert parent is not None
        lower = attrs.evolve(parent, key_range=KeyRange(parent.key_range.start, boundary))
        upper = attrs.evolve(parent, shard=child, key_range=KeyRange(boundary, parent.key_range.end))
        shards: list[Shard] = []
        for each in self.shard_map.shards:
            shards += [lower, upper] if each.shard == shard else [each]
        old = self.shard_map
        self.shard_map = ShardMap(old.cluster_id, old.epoch + 1, old.partitioning, old.slots, old.hosts, tuple(shards))
        machine = self.machines[shard]
        entries = dict(machine.scan(b"", b"", 1 << 20, 1 << 30)[0])
        state = machine.state()
        for part in (lower, upper):
            new = attrs.evolve(state, shard=part.shard, key_range=part.key_range, epoch=self.shard_map.epoch)
            held = {key: entries[key] for key in entries if part.key_range.holds(key)}
            self.machines[part.shard] = self._machine(part, held, new)
        self.leaders[child] = self.leaders[shard]

    def expire_sessions(self) -> None:
        """Every shard forgets all its sessions."""
        for machine in self.machines.values():
            machine.apply_expiry(machine.last_applied + 1, 1, self.time_us, 0, self.time_us + 1)

    def stored(self, key: bytes) -> Stored | None:
        """The truth about a user's key."""
        shard, routing = self.shard_map.locate(key)
        return self.machines[shard.shard].get(routing)

    # --- what hosts answer

    def host_of(self, endpoint: str) -> tuple[HostId, int]:
        """Who lives at ``endpoint``, and its tier."""
        for place in self.shard_map.hosts:
            if place.endpoint == endpoint:
                return place.host, 0
        for learner in self.learners:
            if learner.endpoint == endpoint:
                return learner.host, learner.tier
        raise LookupError(endpoint)

    def answer(self, endpoint: str, request: ClientRequest) -> ClientReply:
        host, tier = self.host_of(endpoint)
        try:
            if isinstance(request, MapRequest):
                known = self.reporters.get(endpoint, self.learners)
                return MapReply(request.request_id, self.shard_map, known)
            if isinstance(request, StatusRequest):
                return self._status(request, host, tier)
            if isinstance(request, OPERATORS_REQUESTS):
                return answer_operator(self, host, request)
            return self._answer(host, tier, request)
        except ShardraftError as error:
            return ErrorReply(request.request_id, error)

    def _answer(self, host: HostId, tier: int, request: ShardRequest) -> ClientReply:
        machine = self.machines.get(request.shard)
        if machine is None:
            raise WrongShard(epoch=self.shard_map.epoch, shard=request.shard)
        is_stale = not isinstance(request, WriteRequest) and request.consistency is Consistency.STALE
        leader = self.leaders[request.shard]
        if leader != host and not is_stale:
            raise NotLeader(leader=leader, shard=request.shard)
        if isinstance(request, WriteRequest):
            return WriteReply(request.request_id, self._apply(machine, request))
        if isinstance(request, ReadRequest):
            if not all(machine.key_range.holds(key) for key in request.keys):
                raise WrongShard(epoch=self.shard_map.epoch, shard=request.shard)
            found = [machine.get(key) for key in request.keys]
            values = [stored.value if stored else None for stored in found]
            revisions = [stored.revision if stored else 0 for stored in found]
            return ReadReply(request.request_id, machine.last_applied, None, tier, values, revisions)
        return self._scan(machine, tier, request)

    def _scan(self, machine: Machine, tier: int, request: ScanRequest) -> ScanReply:
        wanted = KeyRange(request.start, request.end)
        if wanted.overlap(machine.key_range) != wanted:
            raise WrongShard(epoch=self.shard_map.epoch, shard=request.shard)
        limit = min(request.limit, self.page_entries_max)
        entries, more = machine.scan(request.start, request.end, limit, 1 << 22)
        keys = [key for key, _ in entries]
        values = [b"" if request.keys_only else stored.value for _, stored in entries]
        revisions = [stored.revision for _, stored in entries]
        return ScanReply(request.request_id, machine.last_applied, None, tier, keys, values, revisions, more)

    def _apply(self, machine: Machine, request: WriteRequest) -> BatchResult:
        batch = self.codec.decode_batch(request.payload)
        machine.check(batch, self.shard_map.partitioning.slot_bytes)
        self.batches.append(batch)
        self.time_us += 1
        before = machine.revision
        result = machine.apply_batch(machine.last_applied + 1, 1, self.time_us, 0, batch)
        if result is Refusal.SESSION_EXPIRED:
            raise SessionExpired(shard=machine.shard)
        if isinstance(result, Refusal):
            raise Overloaded(f"the shard refuses: {result.name}", shard=machine.shard)
        for place, value in enumerate(batch.values):
            if result.outcomes[place] == Outcome.WRITTEN and result.revision_of(place) > before:
                self.applied[value] += 1
        return result

    def _status(self, request: StatusRequest, host: HostId, tier: int) -> StatusReply:
        shards = tuple(
            ShardStatus(shard, "leader" if leader == host else "follower", 1, leader, 1, 0, 0, 0, 1, 0, 0, 0, 0)
            for shard, leader in self.leaders.items()
        )
        return StatusReply(request.request_id, host, "0", tier, 0, 1, shards, ())


When = Callable[[str, ClientRequest], bool]


def never(endpoint: str, request: ClientRequest) -> bool:
    return False


def writes(endpoint: str, request: ClientRequest) -> bool:
    return isinstance(request, WriteRequest)


class World:
    """One router's core, a clock, and a network that carries everything at once unless told otherwise."""

    def __init__(
        self,
        cluster: FakeCluster,
        *,
        endpoints: Iterable[str] = ("h1:7000",),
        seed: int = 1,
        limits: RouterLimits | None = None,
    ) -> None:
        self.cluster = cluster
        self.now_us = 1_000_000
        self.unreachable: set[str] = set()
        self.connected: dict[str, None] = {}
        self.wanted: tuple[str, ...] = ()
        self.completed: list[Call] = []
        self.sent: list[tuple[str, ClientRequest]] = []
        """Every request the core asked for, but requests for the map."""
        self.outbox: list[tuple[str, ClientRequest]] = []
        self.holding = False
        """While true, requests stay in ``outbox``."""
        self.lose_reply: When = never
        """Requests for which it says True are carried out, but the connection closes instead of answering."""
        self.lose: When = never
        """Requests for which it says True vanish without a trace."""
        self.refuse: Callable[[str, ClientRequest], ShardraftError | None] = lambda endpoint, request: None
        """Requests for which it names an error are refused with it, certainly not carried out."""
        self.core = RouterCore(
            session=Random(seed).randbytes(16),
            random=Random(seed),
            limits=limits or RouterLimits(),
            codec=cluster.codec,
            endpoints=tuple(endpoints),
        )

    # --- what tests ask for

    def put(
        self, key: bytes, value: bytes = b"v", *, seconds: float = 10.0, condition: int = ANY_REVISION
    ) -> WriteCall:
        return self.core.write(PUT, key, value, condition, self.deadline(seconds))

    def delete(self, key: bytes, *, seconds: float = 10.0) -> WriteCall:
        return self.core.write(DELETE, key, b"", ANY_REVISION, self.deadline(seconds))

    def read(self, key: bytes, *, stale: bool = False, seconds: float = 10.0) -> ReadCall:
        consistency = Consistency.STALE if stale else Consistency.LINEARIZABLE
        return self.core.read(key, consistency, self.deadline(seconds))

    def ready(self) -> World:
        """Connect, and know the map."""
        self.settle()
        assert self.core.shard_map is not None
        return self

    def batches_sent(self) -> list[tuple[str, Batch]]:
        """The writes the core sent so far, retries included."""
        return [
            (endpoint, self.cluster.codec.decode_batch(request.payload))
            for endpoint, request in self.sent
            if isinstance(request, WriteRequest)
        ]

    # --- time

    def deadline(self, seconds: float = 10.0) -> int:
        return self.now_us + round(seconds * 1e6)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with every tick that the core asks for."""
        end_us = self.deadline(seconds)
        self.settle()
        while (next_us := self.core.next_deadline_us) <= end_us:
            self.now_us = max(self.now_us, next_us)
            self.core.tick(self.now_us)
            self.settle()
        self.now_us = end_us

    # --- the network

    def settle(self) -> None:
        """Carry everything there is to carry until nothing is left."""
        for _ in range(10_000):
            self.core.flush(self.now_us)
            output = self.core.take()
            self.completed += output.completed
            self.sent += [each for each in output.requests if not isinstance(each[1], MapRequest)]
            self.outbox += output.requests
            for endpoint in output.drops:
                self.connected.pop(endpoint, None)
            if output.wanted is not None:
                self.wanted = output.wanted
            moved = self._connect() or self._deliver()
            if not moved and not output.requests and not output.completed:
                return
        raise AssertionError("the core never comes to rest")

    def _connect(self) -> bool:
        moved = False
        for endpoint in self.wanted:
            if endpoint not in self.connected and endpoint not in self.unreachable:
                self.connected[endpoint] = None
                self.core.host_connected(endpoint, *self.cluster.host_of(endpoint), self.now_us)
                moved = True
        return moved

    def refuse_connections(self) -> None:
        """Report every wanted endpoint that cannot be reached, as a driver does after each attempt."""
        for endpoint in self.wanted:
            if endpoint in self.unreachable and endpoint not in self.connected:
                self.core.host_disconnected(endpoint, self.now_us, "connection refused")
        self.settle()

    def _deliver(self) -> bool:
        if self.holding or not self.outbox:
            return False
        requests, self.outbox = self.outbox, []
        for endpoint, request in requests:
            self.deliver(endpoint, request)
        return True

    def deliver(self, endpoint: str, request: ClientRequest) -> None:
        if endpoint not in self.connected or self.lose(endpoint, request):
            return
        error = self.refuse(endpoint, request)
        reply = ErrorReply(request.request_id, error) if error else self.cluster.answer(endpoint, request)
        if self.lose_reply(endpoint, request):
            self.cut(endpoint)
        else:
            self.core.received(endpoint, reply, self.now_us)

    def cut(self, endpoint: str) -> None:
        """The connection closes; what is on it is lost."""
        if endpoint in self.connected:
            del self.connected[endpoint]
            self.outbox = [(to, request) for to, request in self.outbox if to != endpoint]
            self.core.host_disconnected(endpoint, self.now_us, "connection reset")

    def kill(self, endpoint: str) -> None:
        """The host is gone for good."""
        self.unreachable.add(endpoint)
        self.cut(endpoint)
