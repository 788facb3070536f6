"""One process from start to end: opens its data, runs its host, stops gracefully on SIGTERM and Ctrl-C."""

from __future__ import annotations

import gc
import logging
import secrets
import signal
import sys
from random import Random

import trio

from shardraft.errors import InvalidArgument, ProtocolError, StorageError
from shardraft.host.events import DiskSpace
from shardraft.host.host import Host
from shardraft.host.ports import Recovered
from shardraft.runtime.clock import now_us
from shardraft.runtime.disk import as_storage_error
from shardraft.runtime.driver import Driver
from shardraft.runtime.inbox import Inbox
from shardraft.runtime.network import Network
from shardraft.server.boot import is_first_start, open_learner_store, open_voter_store
from shardraft.server.connections import Connections, hello_of
from shardraft.server.links import ParentLink, PeerLink
from shardraft.server.options import ServerOptions
from shardraft.server.peer_book import PeerBook
from shardraft.server.telemetry import Telemetry, log_to_stderr
from shardraft.storage.store import LmdbStore
from shardraft.transport.connection import Connection
from shardraft.transport.handshake import shake_hands_as_client
from shardraft.transport.listener import Listener
from shardraft.transport.sockets import check_listen_address, connect_tcp, open_listeners
from shardraft.types import Endpoint
from shardraft.wire.client import CapnpBatchCodec
from shardraft.wire.hello import HELLO_BYTES_MAX, Hello, HelloReply, Role

_STOP_SECONDS_MAX = 10.0
"""A graceful stop that takes longer is cut short; nothing that was promised depends on it."""
_DISK_CHECK_SECONDS = 1.0
_SWITCH_SECONDS = 0.0005
"""How long a disk thread may keep the loop from running Python; the interpreter's own default is ten times that."""
_GC_THRESHOLDS = (50_000, 20, 100)
"""The young objects of a turn die by reference count; the collector's full passes would stop the loop for nothing."""


def run(options: ServerOptions) -> int:
    """Run a voter host (``options.peers``) or a learner (``options.parents``) until it is stopped.

    Returns the process's exit code: 0 after a graceful stop, 1 when its disk, data or port failed it, 2 when
    the options make no sense. The reason is one line on standard error.
    """
    log_to_stderr(options.log_level, options.log_format)
    sys.setswitchinterval(_SWITCH_SECONDS)
    process = Process(options)
    try:
        check_listen_address(options.listen.host, insecure=options.insecure)
    except InvalidArgument as error:
        return process.fail(error, exit_code=2)
    try:
        trio.run(process.run)
    except* (StorageError, OSError) as group:
        process.exit_code = process.fail(group.exceptions[0])
    return process.exit_code


class Process:
    """Everything that one running process owns."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._telemetry = Telemetry(options.host)
        self._scope = trio.CancelScope()
        self._stopping = False
        self.exit_code = 0

    def fail(self, error: BaseException, exit_code: int = 1) -> int:
        """Say in one line why the process ends."""
        self._telemetry.say("failed", logging.ERROR, reason=str(error))
        return exit_code

    async def run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_signals)
                await self._open_and_serve()
                nursery.cancel_scope.cancel()

    async def _open_and_serve(self) -> None:
        options = self._options
        # The port first: a second process for the same host must not even look at the disk.
        listeners = await open_listeners(options.listen, insecure=options.insecure)
        store, recovered = await self._open_store()
        try:
            await self._serve(listeners, store, recovered)
        finally:
            store.close()

    async def _open_store(self) -> tuple[LmdbStore, Recovered]:
        options = self._options
        if not options.parents:
            return open_voter_store(options)
        cluster_id = None
        if is_first_start(options.data_dir):
            cluster_id = await self._hear_cluster_id()
        return open_learner_store(options, cluster_id)

    async def _hear_cluster_id(self) -> bytes:
        """A learner's first start: ask its parents in turn which cluster this is, until one answers."""
        attempt = 0
        while True:
            for parent in self._options.parents:
                try:
                    return (await self._greet(parent)).cluster_id
                except (OSError, ProtocolError, trio.TooSlowError) as error:
                    self._telemetry.warn("parent-unreachable", parent=str(parent), reason=str(error) or "no answer")
            attempt += 1
            await trio.sleep(min(5.0, 0.1 * 2 ** min(attempt, 10)))

    async def _greet(self, parent: Endpoint) -> HelloReply:
        config = self._options.config
        replies: list[HelloReply] = []

        async def ask(connection: Connection) -> None:
            hello = Hello(role=Role.LEARNER, host=self._options.host)
            replies.append(await shake_hands_as_client(connection, hello))

        with trio.fail_after(config.transport.handshake_timeout_ms / 1000):
            stream = await connect_tcp(parent, config.transport)
            limits = config.limits
            connection = Connection(
                stream, frame_bytes_max=HELLO_BYTES_MAX, outbox_bytes_max=limits.outbox_bytes_max, remote=str(parent)
            )
            await connection.run(ask)
        return replies[0]

    async def _serve(
        self, listeners: list[trio.SocketListener], store: LmdbStore, recovered: Recovered
    ) -> None:
        options, config, telemetry = self._options, self._options.config, self._telemetry
        identity = recovered.identity
        endpoint = str(options.advertise or options.listen)
        inbox = Inbox(config.limits.inbox_events_max)
        network = Network()
        random = Random(secrets.randbits(64))
        host = Host(
            recovered=recovered,
            store=store,
            codec=CapnpBatchCodec(),
            config=config,
            random=random,
            now_us=now_us(),
            endpoint=endpoint,
            is_learner=bool(options.parents),
        )
        driver = Driver(host, store, network, inbox, config.limits, telemetry.record, self._disk_failed)
        peers = frozenset(peer for peer, _ in options.peers)
        connections = Connections(host, identity, peers, PeerBook(options.data_dir), inbox, network)
        listener = Listener(
            connections.admit,
            connections.serve,
            limits=config.limits,
            timing=config.transport,
            record=telemetry.record_transport,
        )
        self._driver = driver
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(listener.serve, listeners)
                nursery.start_soon(inbox.run_timer)
                nursery.start_soon(self._watch_disk, store, inbox)
                role = Role.LEARNER if options.parents else Role.PEER

                def greeting() -> Hello:
                    return hello_of(identity, role, endpoint)

                if options.parents:
                    link = ParentLink(
                        options.parents,
                        connections,
                        inbox,
                        network,
                        greeting,
                        config,
                        random,
                        telemetry.record_transport,
                    )
                    nursery.start_soon(link.run)
                for peer, at in options.peers:
                    if peer != identity.host:
                        peer_link = PeerLink(
                            peer,
                            at,
                            connections,
                            greeting,
                            config,
                            random,
                            telemetry.record_transport,
                            self._disk_is_stale,
                        )
                        network.peers[peer] = peer_link
                        nursery.start_soon(peer_link.run)
                telemetry.say("started", endpoint=endpoint, data_dir=str(options.data_dir), shards=len(host.replicas))
                await driver.run()
                listener.stop()
                nursery.cancel_scope.deadline = trio.current_time() + config.transport.linger_ms / 1000
                while listener.connections and not nursery.cancel_scope.cancel_called:
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        finally:
            await driver.close()
        telemetry.say("stopped")

    def _disk_failed(self, error: BaseException) -> None:
        """DESIGN promise 6: after a failed commit nothing that the disk says is believed; the process ends."""
        self.exit_code = self.fail(as_storage_error(error))
        self._scope.cancel()

    def _disk_is_stale(self, text: str) -> None:
        self.exit_code = self.fail(StorageError(text))
        self._scope.cancel()

    async def _watch_disk(self, store: LmdbStore, inbox: Inbox) -> None:
        """Tell the host when the disk is nearly full, and when it no longer is."""
        was_low = False
        while True:
            is_low = store.is_disk_low()
            if is_low != was_low:
                self._telemetry.warn("disk-space", is_low=is_low, free_bytes=store.free_bytes())
                inbox.put(DiskSpace(now_us(), is_low))
                was_low = is_low
            await trio.sleep(_DISK_CHECK_SECONDS)

    async def _watch_signals(self) -> None:
        """The first SIGTERM or Ctrl-C stops gracefully, within a bound; a second one at once."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                driver = getattr(self, "_driver", None)
                if self._stopping or driver is None:
                    self._scope.cancel()
                    return
                self._stopping = True
                self._telemetry.say("stopping", signal=signal.Signals(number).name)
                driver.request_stop()
                self._scope.deadline = trio.current_time() + _STOP_SECONDS_MAX
