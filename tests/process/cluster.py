"""A whole cluster of real processes on loopback, under a test's hands."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from shardraft.cli.layout import FREE_PORTS, LOOPBACK, port_is_free
from shardraft.cli.view import ClusterView, view_of
from shardraft.kv.requests import MapReply, MapRequest, ShardStatus, StatusReply, StatusRequest
from shardraft.shards.shard_map import ShardMap
from shardraft.types import Endpoint, HostId, ShardId
from tests.eventually import eventually
from tests.process.server_process import ServerProcess
from tests.process.wire_client import ask

READY_SECONDS_MAX = 30.0
BEHIND_UNDER_LOAD_MAX = 100
"""Entries of a shard that a replica may lack at the moment it is asked, and still count as following."""


def free_endpoint() -> Endpoint:
    """Where nothing listens, and no outgoing connection will take the port in the meantime."""
    ports = (random.SystemRandom().choice(FREE_PORTS) for _ in range(1000))
    return Endpoint(LOOPBACK, next(port for port in ports if port_is_free(port)))


class ProcessCluster:
    """``hosts`` voter hosts numbered from 1, and learners by id, each with the ids of its parents, best first.

    ``limits`` is the text of a configuration file. Nothing runs before ``start``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        hosts: int = 3,
        shards: int = 4,
        learners: Mapping[HostId, Sequence[HostId]] | None = None,
        limits: str = "",
    ) -> None:
        self.directory = directory
        self.shards = shards
        self.hosts = tuple(range(1, hosts + 1))
        self.learners = dict(learners or {})
        self.endpoints = {each: free_endpoint() for each in (*self.hosts, *self.learners)}
        self._config = directory / "limits.toml"
        self._config.write_text(limits)
        self.processes = {each: self.process(each, directory / str(each)) for each in self.endpoints}

    def process(self, host: HostId, data_dir: Path) -> ServerProcess:
        """The process of that id on any data directory; those of the cluster are in ``processes``."""
        endpoint = self.endpoints[host]
        if host in self.learners:
            parents = ",".join(str(self.endpoints[parent]) for parent in self.learners[host])
            return ServerProcess(
                "learner", host, endpoint, data_dir, "--config", str(self._config), "--parent", parents
            )
        arguments = ["--config", str(self._config), "--shards", str(self.shards), "--cluster", str(self.directory)]
        for peer in self.hosts:
            arguments += ["--peer", f"{peer}={self.endpoints[peer]}"]
        return ServerProcess("host", host, endpoint, data_dir, *arguments)

    def start(self, *hosts: HostId) -> None:
        """Start these, or all; returns at once."""
        for host in hosts or self.processes:
            self.processes[host].start()

    def wait_until_ready(self, behind_max: int = 0) -> ClusterView:
        """Returns once everybody who should run answers, every shard is led, and nobody is behind.

        While there is load somebody always is, by a few entries: name how many.
        """
        return eventually(lambda: self._ready_view(behind_max), within_seconds=READY_SECONDS_MAX)

    def _ready_view(self, behind_max: int) -> ClusterView | None:
        view = self.view()
        caught_up = (
            len(view.hosts) == len(self.hosts)
            and len(view.learners) == len(self.learners)
            and len(view.shards) == self.shards
            and view.all_led
            and not any(entries > behind_max for shard in view.shards for _, entries in shard.behind)
            and not any(_is_behind(learner.lag_entries, behind_max) for learner in view.learners)
        )
        return view if caught_up else None

    def view(self) -> ClusterView:
        """What all processes that answer say of themselves."""
        return view_of([reply for reply in map(self.status, self.processes) if reply is not None])

    def status(self, host: HostId) -> StatusReply | None:
        """What one process says of itself; None when it does not answer."""
        if not self.processes[host].runs:
            return None
        try:
            reply = ask(self.endpoints[host], StatusRequest(1))
        except (OSError, AssertionError):
            return None
        assert isinstance(reply, StatusReply)
        return reply

    def shard_status(self, host: HostId, shard: ShardId) -> ShardStatus:
        """How one shard stands on one process, which must answer."""
        reply = self.status(host)
        assert reply is not None, f"host {host} does not answer"
        return next(status for status in reply.shards if status.shard == shard)

    def leader_of(self, shard: ShardId) -> HostId:
        """Who leads ``shard``; waits until somebody does."""

        def leader() -> HostId:
            return next((each.leader for each in self.view().shards if each.shard == shard), 0)

        return eventually(leader, within_seconds=READY_SECONDS_MAX)

    def busiest_leader(self) -> HostId:
        """The host that leads most shards."""
        leaders = [shard.leader for shard in self.wait_until_ready(BEHIND_UNDER_LOAD_MAX).shards]
        return max(self.hosts, key=leaders.count)

    def shard_map(self) -> ShardMap:
        """The map as the first host that answers knows it."""
        running = next(each for each in self.hosts if self.processes[each].runs)
        reply = ask(self.endpoints[running], MapRequest(1))
        assert isinstance(reply, MapReply)
        return reply.shard_map

    @property
    def voter_endpoints(self) -> list[str]:
        return [str(self.endpoints[each]) for each in self.hosts]

    def abolish(self) -> None:
        for process in self.processes.values():
            process.abolish()


def _is_behind(lag_entries: int | None, behind_max: int) -> bool:
    """None: it does not follow at all."""
    return lag_entries is None or lag_entries > behind_max


@contextmanager
def process_cluster(
    directory: Path,
    *,
    hosts: int = 3,
    shards: int = 4,
    learners: Mapping[HostId, Sequence[HostId]] | None = None,
    limits: str = "",
) -> Iterator[ProcessCluster]:
    """A cluster that is ready, and of which no process is left at the end."""
    cluster = ProcessCluster(directory, hosts=hosts, shards=shards, learners=learners, limits=limits)
    try:
        cluster.start()
        cluster.wait_until_ready()
        yield cluster
    finally:
        cluster.abolish()
