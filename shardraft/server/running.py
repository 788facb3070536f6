"""A host at work: its connections, its main loop, and the order in which all of it ends."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from random import Random
from typing import Final

import trio

from shardraft.errors import StorageError
from shardraft.host.events import DiskSpace, StopAsked
from shardraft.host.host import Host
from shardraft.host.ports import Recovered
from shardraft.runtime.clock import now_us
from shardraft.runtime.collector import spare_the_collector
from shardraft.runtime.driver import Driver
from shardraft.runtime.inbox import Inbox
from shardraft.runtime.network import Network
from shardraft.server.connections import Connections, hello_of
from shardraft.server.links import ParentLink, PeerLinks, Surroundings
from shardraft.server.options import ServerOptions
from shardraft.server.peer_book import PeerBook
from shardraft.server.telemetry import Telemetry
from shardraft.storage.store import DiskStore
from shardraft.transport.listener import Listener
from shardraft.transport.notes import HandlerFailed, TransportNote
from shardraft.types import NO_HOST, HostId, ReplicaId, ShardId
from shardraft.wire.client import CapnpBatchCodec
from shardraft.wire.hello import Hello, Role

_HAND_OVER_SECONDS_MAX: Final = 2.0
"""Leaderships that are not handed over by then (twice a handover's own limit) are left to an election."""
_ANSWER_SECONDS_MAX: Final = 2.0
"""Requests under way when a stop is asked for may take this long; what becomes of later ones is then unknown."""
_DISK_CHECK_SECONDS: Final = 1.0


class Running:
    """Everything between an open data directory and a graceful end. ``on_failure`` hears once that the disk failed."""

    def __init__(
        self,
        options: ServerOptions,
        store: DiskStore,
        recovered: Recovered,
        telemetry: Telemetry,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        config = options.config
        book = PeerBook(options.data_dir)
        self._options = options
        self._store = store
        self._identity = recovered.identity
        self._endpoint = str(options.advertise or options.listen)
        self._telemetry = telemetry
        self._on_failure = on_failure
        self._stop_asked = False
        self._random = Random(secrets.randbits(64))
        self._inbox = Inbox(config.limits.inbox_events_max)
        self._network = Network()
        self._host = Host(
            recovered=recovered,
            store=store,
            codec=CapnpBatchCodec(),
            config=config,
            random=self._random,
            now_us=now_us(),
            endpoint=self._endpoint,
            is_learner=bool(options.parents),
            parents=tuple(str(parent) for parent in options.parents),
        )
        telemetry.host_of = self._host_of
        self._connections = Connections(self._host, self._identity, book, self._inbox, self._network)
        self._peer_links = PeerLinks(self._surroundings(), self._disk_is_stale)
        self._driver = Driver(
            self._host,
            store,
            self._network,
            self._inbox,
            config.limits,
            telemetry.record,
            on_failure,
            self._peer_links.connect_to,
        )
        self._listener = Listener(
            self._connections.admit,
            self._connections.serve,
            limits=config.limits,
            timing=config.transport,
            record=self._record,
        )
        self._links = trio.CancelScope()

    def request_stop(self) -> None:
        """Let ``serve`` come to its graceful end."""
        self._stop_asked = True
        self._inbox.wake()

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve until ``request_stop``, then hand over, answer, close and flush; returns when all of that is done."""
        spare_the_collector()
        async with trio.open_nursery() as background:
            background.start_soon(self._inbox.run_timer)
            background.start_soon(self._watch_disk)
            background.start_soon(self._keep_links)
            async with trio.open_nursery() as inbound:
                await inbound.start(self._listener.serve, listeners)
                self._say_started()
                await self._serve_and_stop()
            background.cancel_scope.cancel()

    async def _serve_and_stop(self) -> None:
        driver, host = self._driver, self._host
        await driver.run(until=lambda: self._stop_asked)
        # Leaders first: while their successors take over, this host still serves, and then names them.
        self._inbox.put(StopAsked(now_us()))
        with trio.move_on_after(_HAND_OVER_SECONDS_MAX):
            await driver.run(until=lambda: host.departure.is_done)
        # Those who wait for an answer get it, so that no client is left with an unknown outcome.
        self._connections.gate.is_closed = True
        with trio.move_on_after(_ANSWER_SECONDS_MAX):
            await driver.run(until=lambda: not host.pending.count)
        self._listener.stop()
        self._links.cancel()
        await driver.flush()

    async def close_disks(self) -> bool:
        """End the disk threads; False when the disk hangs and one of them with it."""
        return await self._driver.close()

    def _say_started(self) -> None:
        identity = self._identity
        self._telemetry.say(
            "started",
            endpoint=self._endpoint,
            data_dir=str(self._options.data_dir),
            cluster=identity.cluster_id,
            start=identity.incarnation,
            shards=len(self._host.replicas),
        )

    def _host_of(self, shard: ShardId, replica: ReplicaId) -> HostId:
        voter = self._host.voters.get(shard)
        return NO_HOST if voter is None else voter.host_of(replica)

    # Connections to others.

    async def _keep_links(self) -> None:
        with self._links:
            async with trio.open_nursery() as nursery:
                learner = self._host.tree.learner
                if learner is not None:
                    nursery.start_soon(ParentLink(learner.parents, self._surroundings()).run)
                nursery.start_soon(self._peer_links.run)

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            connections=self._connections,
            inbox=self._inbox,
            network=self._network,
            greeting=self._greeting,
            config=self._options.config,
            random=self._random,
            telemetry=self._telemetry,
        )

    def _greeting(self) -> Hello:
        role = Role.LEARNER if self._options.parents else Role.PEER
        return hello_of(self._identity, role, self._endpoint)

    # What goes wrong.

    def _record(self, note: TransportNote) -> None:
        if isinstance(note, HandlerFailed) and isinstance(note.error, StorageError):
            self._on_failure(note.error)  # Serving that connection met a bad disk, which is no fault of the connection.
        else:
            self._telemetry.record_transport(note)

    def _disk_is_stale(self, text: str) -> None:
        try:
            self._store.condemn(text)
        except StorageError as error:
            self._on_failure(error)
        else:
            self._on_failure(StorageError(text))

    async def _watch_disk(self) -> None:
        """Tell the host when the disk is nearly full, and when it no longer is."""
        was_low = False
        while True:
            try:
                is_low = self._store.is_disk_low()
            except OSError as error:
                self._on_failure(error)
                return
            if is_low != was_low:
                self._telemetry.warn("disk-space", is_low=is_low, free_bytes=self._store.free_bytes())
                self._inbox.put(DiskSpace(now_us(), is_low))
                was_low = is_low
            await trio.sleep(_DISK_CHECK_SECONDS)
