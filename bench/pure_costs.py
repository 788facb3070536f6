"""What a put costs before any of it is I/O: three hosts and a router in one process, joined by function calls.

Real hosts, the real router core and the real encoding of every frame, but no socket, thread, clock or disk: whatever
a machine adds comes on top of this. Each wave puts ``--in-flight`` keys and takes the fewest turns that a
wave can take: requests in, entries to the followers, commits, acknowledgements, replies, commit indexes.

    python -m bench.pure_costs [--shards 8] [--in-flight 64] [--waves 40]
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final, TypeVar, cast

from bench.harness.keys import value_of
from shardraft.config import HostConfig, Limits
from shardraft.host.events import PeerConnected, PeerFrameReceived, RequestReceived
from shardraft.host.host import Host
from shardraft.host.ports import Store
from shardraft.host.turn import LogBatch
from shardraft.kv.commands import ANY_REVISION, PUT
from shardraft.kv.requests import ClientReply
from shardraft.shards.shard_map import HostPlace, Partitioning, ShardMap
from shardraft.sim.store import SimStore
from shardraft.types import HostId
from shardraft.wire.client import CapnpBatchCodec, decode_reply, decode_request, encode_reply, encode_request
from shardraft.wire.peer import decode_peer_frame, encode_peer_frame
from shardraft_router.core import RouterCore, RouterLimits

HOSTS: Final = (1, 2, 3)
CLIENT: Final = 1
WARM_UP_WAVES: Final = 30
REPETITIONS: Final = 5
TURNS_MAX: Final = 60
SETTLING_STEPS: Final = 400
"""Of 10 ms each: by then every shard is led by its preferred host."""

T = TypeVar("T")


class Costs:
    """CPU nanoseconds by step, of this process."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()

    def of(self, step: str, work: Callable[[], T]) -> T:
        begun = time.process_time_ns()
        result = work()
        self.spent[step] += time.process_time_ns() - begun
        return result


class NoDisk:
    """A log that is durable at once and not kept: the hosts hold it in memory, and nobody restarts.

    Everything else is a simulated store's, which is not a base of it, since a compiled class has none that is not.
    """

    def __init__(self, store: SimStore) -> None:
        self._store = store

    def commit_log(self, batches: list[LogBatch]) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Cluster:
    """Three hosts, what is on its way to each, and one client."""

    def __init__(self, shards: int) -> None:
        self.now_us = 1_000_000
        self.costs = Costs()
        self.turns = 0
        places = tuple(HostPlace(host, f"{host}:1") for host in HOSTS)
        shard_map = ShardMap.bootstrap(b"c" * 16, places, shards, Partitioning.HASH)
        limits = Limits(write_buffer_bytes_max=1 << 30, flush_age_ms_max=10**6, log_bytes_max=1 << 30)
        self.hosts = {host: self._host(host, shard_map, HostConfig(limits=limits)) for host in HOSTS}
        self.frames: dict[HostId, list[tuple[HostId, bytes]]] = {host: [] for host in HOSTS}
        self.requests: dict[HostId, list[bytes]] = {host: [] for host in HOSTS}
        self.commits: dict[HostId, list[int]] = {host: [] for host in HOSTS}
        self.replies: list[tuple[HostId, bytes]] = []
        for host in HOSTS:
            for other in HOSTS:
                if other != host:
                    self.hosts[host].step(PeerConnected(self.now_us, other))
        for _ in range(SETTLING_STEPS):
            self.pass_time(10_000)

    def _host(self, host: HostId, shard_map: ShardMap, config: HostConfig) -> Host:
        store = SimStore(shard_map.cluster_id, host, shard_map)
        return Host(
            recovered=store.recover(),
            store=cast(Store, NoDisk(store)),
            codec=CapnpBatchCodec(),
            config=config,
            random=Random(host),
            now_us=self.now_us,
        )

    @property
    def is_busy(self) -> bool:
        return any(self.frames[host] or self.requests[host] or self.commits[host] for host in HOSTS)

    def pass_time(self, wait_us: int) -> None:
        """Let every host take a turn at a later time, and then whatever follows from it."""
        self.now_us += wait_us
        for host in HOSTS:
            self.turn(host)
        self.settle()

    def settle(self) -> None:
        """Take turns until nothing is on its way."""
        for _ in range(TURNS_MAX):
            if not self.is_busy:
                return
            for host in HOSTS:
                if self.frames[host] or self.requests[host] or self.commits[host]:
                    self.turn(host)
        raise AssertionError("the hosts never come to rest")

    def turn(self, number: HostId) -> None:
        """One turn of one host, as ``runtime.driver`` takes it."""
        host, costs, now_us = self.hosts[number], self.costs, self.now_us
        frames, self.frames[number] = self.frames[number], []
        requests, self.requests[number] = self.requests[number], []
        commits, self.commits[number] = self.commits[number], []
        received = costs.of("decode", lambda: [(source, decode_peer_frame(frame)) for source, frame in frames])
        asked = costs.of("decode", lambda: [decode_request(frame) for frame in requests])

        def step() -> None:
            for source, messages in received:
                host.step(PeerFrameReceived(now_us, source, messages))
            for request in asked:
                host.step(RequestReceived(now_us, CLIENT, request))

        costs.of("step", step)
        durable = costs.of("finish", lambda: [host.finish_turn(commit, now_us).messages for commit in commits])
        turn = costs.of("turn", lambda: host.begin_turn(now_us))
        if turn.log_batch is not None:
            self.commits[number].append(turn.number)
        outgoing: dict[HostId, list[object]] = {}
        for messages_of_host in (*durable, turn.messages):
            for target, messages in messages_of_host:
                outgoing.setdefault(target, []).extend(messages)
        for target, of_target in outgoing.items():
            data = costs.of("encode", lambda: encode_peer_frame(tuple(of_target)))  # type: ignore[arg-type]  # noqa: B023
            self.frames[target].append((number, data))
        for _, replies in turn.replies:
            for reply in replies:
                self.replies.append((number, costs.of("reply", lambda: encode_reply(reply))))  # noqa: B023
        self.turns += 1


class Client:
    """One router core that puts keys never put before."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._core = RouterCore(
            session=b"s" * 16,
            random=Random(1),
            limits=RouterLimits(),
            codec=CapnpBatchCodec(),
            endpoints=[f"{host}:1" for host in HOSTS],
        )
        self._number = 0
        self._connected: set[str] = set()
        for _ in range(2 * len(HOSTS)):
            self._pump()
            cluster.settle()
            self._hear()

    def _pump(self) -> None:
        cluster, core = self._cluster, self._core
        core.flush(cluster.now_us)
        output = core.take()
        for endpoint, request in output.requests:
            cluster.requests[int(endpoint[0])].append(encode_request(request))
        for endpoint in output.wanted or ():
            if endpoint not in self._connected:
                self._connected.add(endpoint)
                core.host_connected(endpoint, int(endpoint[0]), 0, cluster.now_us)

    def _hear(self) -> None:
        cluster = self._cluster
        replies, cluster.replies = cluster.replies, []
        for host, data in replies:
            reply: ClientReply = decode_reply(data)
            self._core.received(f"{host}:1", reply, cluster.now_us)
        self._pump()

    def wave(self, puts: int) -> None:
        """Put so many keys at once, and have all of them acknowledged."""
        cluster, core = self._cluster, self._core
        keys = [b"%016d" % number for number in range(self._number, self._number + puts)]
        self._number += puts
        items = [(key, value_of(key)) for key in keys]
        deadline_us = cluster.now_us + 10_000_000

        def ask() -> list[object]:
            calls: list[object] = [core.write(PUT, key, value, ANY_REVISION, deadline_us) for key, value in items]
            self._pump()
            return calls

        calls = cluster.costs.of("router", ask)
        cluster.settle()
        cluster.pass_time(3_000)
        cluster.costs.of("router", self._hear)
        assert all(call.done and call.error is None for call in calls), "a put failed"  # type: ignore[attr-defined]
        cluster.now_us += 3_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pure_costs", description="What a put costs without I/O.")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--waves", type=int, default=40, help="per repetition; the cheapest of five counts")
    options = parser.parse_args()
    cluster = Cluster(options.shards)
    client = Client(cluster)
    for _ in range(WARM_UP_WAVES):
        client.wave(options.in_flight)
    gc.freeze()
    seen: list[Counter[str]] = []
    cluster.turns = 0
    for _ in range(REPETITIONS):
        cluster.costs.spent = Counter()
        for _ in range(options.waves):
            client.wave(options.in_flight)
        seen.append(cluster.costs.spent)
    spent = min(seen, key=lambda costs: costs.total())
    puts = options.waves * options.in_flight
    turns = cluster.turns / REPETITIONS / options.waves
    print(f"{options.in_flight} puts in {options.shards} shards, three hosts, {turns:.0f} turns; us of CPU per put:")
    for step, nanoseconds in spent.most_common():
        print(f"  {step:8}{nanoseconds / 1000 / puts:8.1f}")
    print(f"  {'all':8}{spent.total() / 1000 / puts:8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
