"""A workload through the router while things go wrong, and the check that nothing of it was lost or done twice.

Each writer puts keys of its own, each once, and in between moves a counter on by compare-and-set. All that was
acknowledged, with its revision, must be there afterwards, on every replica. Every operation takes exactly one
revision of its shard, so the revisions of all shards add up to the number of operations unless one applied twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from shardraft.errors import NotLeader
from shardraft.kv.requests import Consistency, ErrorReply, ReadReply, ReadRequest
from shardraft.types import HostId, Revision, ShardId
from shardraft_router import Router, open_router
from tests.eventually import eventually
from tests.process.cluster import ProcessCluster
from tests.process.wire_client import ask

WRITERS = 16
ACKNOWLEDGED_SECONDS_MAX = 20.0
KEYS_PER_READ = 500


@attrs.frozen(slots=True)
class Written:
    """What was acknowledged under a key last."""

    value: bytes
    revision: Revision


class Workload:
    """Writers in a thread and an event loop of their own. ``acknowledged`` is by key, ``operations`` counts."""

    def __init__(self, endpoints: list[str]) -> None:
        self.acknowledged: dict[bytes, Written] = {}
        self.operations = 0
        self._endpoints = endpoints
        self._progress = threading.Condition()
        self._stopping = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let every writer finish what it is at; raises what any of them met."""
        self._stopping = True
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def wait_for_more(self, count: int = 200) -> None:
        """Returns once so many more operations were acknowledged."""
        with self._progress:
            wanted = self.operations + count
            self._progress.wait_for(lambda: self.operations >= wanted or self._failure, ACKNOWLEDGED_SECONDS_MAX)
            assert self._failure is None, repr(self._failure)
            assert self.operations >= wanted, f"{self.operations} operations were acknowledged, not {wanted}"

    def _run(self) -> None:
        try:
            trio.run(self._write)
        except BaseException as error:
            with self._progress:
                self._failure = error
                self._progress.notify_all()

    async def _write(self) -> None:
        async with open_router(self._endpoints, timeout_seconds=30.0) as router, trio.open_nursery() as nursery:
            for number in range(WRITERS):
                nursery.start_soon(self._write_keys, router, number)

    async def _write_keys(self, router: Router, number: int) -> None:
        counter, counted, step = b"counter/%d" % number, 0, 0
        while not self._stopping:
            step += 1
            value = b"%d " % step * 20
            await self._put(router, b"key/%d/%d" % (number, step), value, 0)
            # Nobody else writes it: a condition that does not hold means that a write was lost or applied twice.
            counted = await self._put(router, counter, value, counted)

    async def _put(self, router: Router, key: bytes, value: bytes, if_revision: Revision) -> Revision:
        revision = await router.put(key, value, if_revision=if_revision)
        self.acknowledged[key] = Written(value, revision)
        with self._progress:
            self.operations += 1
            self._progress.notify_all()
        return revision


@contextmanager
def workload(cluster: ProcessCluster) -> Iterator[Workload]:
    """A workload that has begun; at the end it is over, and everything is where it belongs."""
    load = Workload(cluster.voter_endpoints)
    load.start()
    try:
        load.wait_for_more()
        yield load
    finally:
        load.stop()
    check(cluster, load)


def check(cluster: ProcessCluster, load: Workload) -> None:
    """Nothing that was acknowledged is lost, anywhere, and nothing was applied twice."""
    view = cluster.wait_until_ready()
    assert sum(shard.revision for shard in view.shards) == load.operations
    for shard, keys in _keys_by_shard(cluster, load).items():
        # Which host leads may change while it is asked: a preferred leader takes its shards back.
        _check_replica(cluster, load, cluster.hosts, shard, keys, Consistency.LINEARIZABLE)
        for host in cluster.processes:
            _check_replica(cluster, load, (host,), shard, keys, Consistency.STALE)


def _keys_by_shard(cluster: ProcessCluster, load: Workload) -> dict[ShardId, list[tuple[bytes, bytes]]]:
    shard_map = cluster.shard_map()
    found: dict[ShardId, list[tuple[bytes, bytes]]] = {}
    for key in sorted(load.acknowledged):
        shard, routing_key = shard_map.locate(key)
        found.setdefault(shard.shard, []).append((key, routing_key))
    return found


def _check_replica(
    cluster: ProcessCluster,
    load: Workload,
    hosts: tuple[HostId, ...],
    shard: ShardId,
    keys: list[tuple[bytes, bytes]],
    consistency: Consistency,
) -> None:
    for start in range(0, len(keys), KEYS_PER_READ):
        some = keys[start : start + KEYS_PER_READ]
        request = ReadRequest(1, shard, 1, 10_000, consistency, [routing_key for _, routing_key in some])
        reply = eventually(lambda request=request: _answer(cluster, hosts, request))  # type: ignore[misc]
        found = [Written(value or b"", revision) for value, revision in zip(reply.values, reply.revisions, strict=True)]
        assert found == [load.acknowledged[key] for key, _ in some], f"hosts {hosts}, shard {shard}"


def _answer(cluster: ProcessCluster, hosts: tuple[HostId, ...], request: ReadRequest) -> ReadReply | None:
    """What the first of ``hosts`` that may answer does answer; None when none of them leads at this moment."""
    for host in hosts:
        reply = ask(cluster.endpoints[host], request)
        if isinstance(reply, ReadReply):
            return reply
        assert isinstance(reply, ErrorReply), f"host {host}, shard {request.shard}: {reply}"
        assert isinstance(reply.error, NotLeader), f"host {host}, shard {request.shard}: {reply}"
    return None


def settled(cluster: ProcessCluster) -> None:
    """Returns once everything applied anywhere is flushed."""

    def all_flushed() -> bool:
        replies = [cluster.status(each) for each in cluster.processes]
        return all(
            reply is not None and all(shard.flushed_index == shard.applied_index for shard in reply.shards)
            for reply in replies
        )

    eventually(all_flushed)
