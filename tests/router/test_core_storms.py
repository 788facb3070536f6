"""Everything at once, by seed: whatever the network does, no operation applies twice and no claim is false."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import attrs
import pytest

from shardraft.errors import NotLeader, Overloaded, ShardraftError, Unavailable
from shardraft.kv.commands import ANY_REVISION, PUT
from shardraft.kv.requests import ClientRequest
from shardraft_router.core import AtomicCall, Call, RouterLimits, WriteCall, WriteGroup
from tests.router.cluster import FakeCluster, World, at

LIMITS = RouterLimits(
    batches_in_flight_max=3,
    session_window_max=12,
    batch_operations_max=16,
    coalesced_bytes_max=200,
    silence_ms_max=200,
    unanswered_ms_max=400,
    cancelled_calls_max=7,
)


@attrs.define
class Storm:
    """A world in which a seeded random generator decides what goes wrong next."""

    random: Random
    seen: World
    calls: list[tuple[bytes, Call]] = attrs.field(factory=list)
    cancelled: list[bytes] = attrs.field(factory=list)
    belated: list[tuple[str, ClientRequest]] = attrs.field(factory=list)
    """Requests that a host has read from a connection that closed meanwhile, and not carried out yet."""
    next_shard: int = 3
    calm: bool = False

    @classmethod
    def of(cls, seed: int) -> Storm:
        cluster = FakeCluster(shards=2)
        storm = cls(Random(seed), World(cluster, seed=seed, limits=LIMITS, endpoints=[at(1), at(2), at(3)]))
        storm.seen.lose = lambda endpoint, request: storm.chance(0.08)
        storm.seen.lose_reply = lambda endpoint, request: storm.chance(0.08)
        storm.seen.refuse = storm.refuse
        return storm

    def chance(self, probability: float) -> bool:
        return not self.calm and self.random.random() < probability

    def refuse(self, endpoint: str, request: ClientRequest) -> ShardraftError | None:
        if not self.chance(0.1):
            return None
        return self.random.choice([NotLeader(leader=self.random.randrange(4)), Overloaded(), Unavailable("busy")])

    def step(self) -> None:
        seen, random = self.seen, self.random
        for _ in range(random.randrange(6)):
            self.submit()
        if random.random() < 0.1:
            seen.cluster.leaders = {shard: random.randrange(4) for shard in seen.cluster.leaders}
        if random.random() < 0.1:
            seen.holding = not seen.holding
        if random.random() < 0.2 and seen.outbox:
            # A request overtakes others.
            seen.deliver(*seen.outbox.pop(random.randrange(len(seen.outbox))))
        if random.random() < 0.05:
            # A connection closes, and the host still holds what came on it.
            endpoint = at(random.randrange(1, 4))
            self.belated += [each for each in seen.outbox if each[0] == endpoint]
            seen.cut(endpoint)
        if random.random() < 0.1 and self.belated:
            seen.cluster.answer(*self.belated.pop(random.randrange(len(self.belated))))
        if random.random() < 0.03 and self.next_shard < 8:
            self.split()
        if random.random() < 0.3:
            self.cancel()
        seen.pass_time(random.random() * 0.2)

    def submit(self) -> None:
        value = b"%d" % len(self.calls)
        key = b"key %d" % self.random.randrange(40)
        deadline_us = self.seen.deadline(self.random.choice([0.05, 0.5, 3.0]))
        draw = self.random.random()
        if draw < 0.1:
            keys = [b"key %d" % number for number in self.random.sample(range(40), 12)]
            values = [b"%s.%d" % (value, place) for place in range(12)]
            call: Call = self.seen.core.put_many(keys, values, deadline_us)
        elif draw < 0.2:
            tagged = b"{%s}" % key
            write = (PUT, tagged, value, ANY_REVISION)
            call = self.seen.core.write_atomic([write, (PUT, tagged, b"", ANY_REVISION)], deadline_us)
        else:
            call = self.seen.core.write(PUT, key, value, ANY_REVISION, deadline_us)
        self.calls.append((value, call))

    def split(self) -> None:
        cluster = self.seen.cluster
        shard = self.random.choice(cluster.shard_map.shards)
        first = int.from_bytes(shard.key_range.start or b"\0\0", "big")
        last = int.from_bytes(shard.key_range.end, "big") if shard.key_range.end else 16
        if last - first >= 2:
            cluster.split(shard.shard, self.next_shard, self.random.randrange(first + 1, last).to_bytes(2, "big"))
            self.next_shard += 1

    def cancel(self) -> None:
        waiting = [(value, call) for value, call in self.calls if not call.done]
        if waiting:
            value, call = self.random.choice(waiting)
            if self.seen.core.cancel(call) == "no":
                self.cancelled.append(value)

    def each(self) -> Iterator[tuple[bytes, Call, ShardraftError | int | None]]:
        """Every operation by its value, its call, and what the call says of it: an error, a revision, or nothing."""
        for value, call in self.calls:
            if isinstance(call, WriteGroup):
                for place, outcome in enumerate(call.outcomes):
                    yield b"%s.%d" % (value, place), call, outcome or call.error
            elif isinstance(call, AtomicCall):
                yield value, call, call.error or (call.revisions[0] if call.revisions else None)
            else:
                assert isinstance(call, WriteCall)
                yield value, call, call.error or call.revision or None

    def subside(self) -> None:
        """Everything works again, and every deadline passes."""
        self.calm = True
        self.seen.holding = False
        self.seen.cluster.lead(1)
        self.seen.pass_time(5)


@pytest.mark.parametrize("seed", range(40))
def test_in_any_storm_what_is_said_of_an_operation_is_true_and_it_applies_at_most_once(seed: int) -> None:
    storm = Storm.of(seed)
    for _ in range(120):
        storm.step()
    storm.subside()
    applied = storm.seen.cluster.applied
    for endpoint, request in storm.belated:
        storm.seen.cluster.answer(endpoint, request)
    outcomes = {"written": 0, "no": 0, "unknown": 0}
    cancelled = set(storm.cancelled)
    for value, call, outcome in storm.each():
        assert call.done, "every call ends at the latest at its deadline"
        assert applied[value] <= 1, "no operation applies twice"
        if isinstance(outcome, ShardraftError):
            outcomes[outcome.applied] += 1
            assert outcome.applied == "unknown" or applied[value] == 0, "certainly not applied is certain"
        elif outcome is not None:
            outcomes["written"] += 1
            assert applied[value] == 1, "acknowledged means applied"
        elif value.partition(b".")[0] in cancelled:
            assert applied[value] == 0, "a call that was dropped unsent never applies"
    assert outcomes["written"] > 50
    assert outcomes["unknown"] + outcomes["no"] > 5


@pytest.mark.parametrize("seed", range(5))
def test_after_a_storm_the_router_works_and_holds_nothing_back(seed: int) -> None:
    storm = Storm.of(seed)
    for _ in range(120):
        storm.step()
    storm.subside()
    seen = storm.seen
    calls = [seen.put(b"key %d" % number, b"after") for number in range(40)]
    seen.pass_time(2)
    assert all(call.done and call.error is None for call in calls)
    seen.sent.clear()
    seen.pass_time(20)
    assert seen.sent == []
    assert len(seen.core.take().completed) == 0


def test_a_storm_of_the_same_seed_is_the_same_storm() -> None:
    first, second = Storm.of(7), Storm.of(7)
    for storm in (first, second):
        for _ in range(60):
            storm.step()
        storm.subside()
    assert first.seen.sent == second.seen.sent
    assert first.seen.cluster.batches == second.seen.cluster.batches
