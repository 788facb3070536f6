"""A process from its first file opened to its last one closed, and the signals that end it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from typing import Final

import trio

from shardraft.errors import StorageError
from shardraft.host.ports import Recovered
from shardraft.runtime.disk import as_storage_error
from shardraft.server.boot import is_first_start, open_joining_store, open_learner_store, open_voter_store
from shardraft.server.joining import hear_cluster_id, hear_shard_map
from shardraft.server.options import ServerOptions
from shardraft.server.running import Running
from shardraft.server.telemetry import Telemetry
from shardraft.storage.store import DiskStore
from shardraft.transport.sockets import open_listeners, why_not_connected

STOP_SECONDS_MAX: Final = 10.0
"""A graceful stop that takes longer is cut short; nothing that was promised depends on it."""
EXIT_FAILED: Final = 1
EXIT_SIGNAL: Final = 128
"""Added to the number of a signal that cut a graceful stop short, as shells do."""


class PortRefused(Exception):
    """The process cannot listen where it was told to; the text says why."""


class Process:
    """Opens the port, then the data directory, then serves. ``run`` returns the exit code."""

    def __init__(self, options: ServerOptions, telemetry: Telemetry) -> None:
        self._options = options
        self._telemetry = telemetry
        self._scope = trio.CancelScope()
        self._running: Running | None = None
        self._exit_code = 0

    async def run(self) -> int:
        """Run until stopped. Raises ``StorageError`` and ``PortRefused``, inside groups."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals, self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_signals, signals)
                await self._open_and_serve()
                nursery.cancel_scope.cancel()
        if not self._exit_code:
            self._telemetry.say("stopped")
        return self._exit_code

    async def _open_and_serve(self) -> None:
        # The port first: a second process for the same host must not even look at the disk.
        listeners = await self._listen()
        store, recovered = await self._open_store()
        running = self._running = Running(
            self._options, store, recovered, self._telemetry, on_failure=self._disk_failed
        )
        try:
            await running.serve(listeners)
        finally:
            if not await running.close_disks():
                self._end_at_once()
            store.close()

    async def _listen(self) -> list[trio.SocketListener]:
        options = self._options
        try:
            return await open_listeners(options.listen, insecure=options.insecure)
        except OSError as error:
            raise PortRefused(f"cannot listen on {options.listen}: {why_not_connected(error)}") from error

    async def _open_store(self) -> tuple[DiskStore, Recovered]:
        options = self._options
        if options.join:
            return await open_joining_store(options, lambda: hear_shard_map(options, self._telemetry))
        if not options.parents:
            return open_voter_store(options)
        cluster_id = None
        if is_first_start(options.data_dir):
            cluster_id = await hear_cluster_id(options, self._telemetry)
        return open_learner_store(options, cluster_id)

    def _disk_failed(self, error: BaseException) -> None:
        """DESIGN promise 6: after a failed commit nothing that the disk says is believed; the process ends."""
        if self._exit_code != EXIT_FAILED:  # The first of several reasons is the one to tell.
            self._telemetry.fail(as_storage_error(error))
        self._exit_code = EXIT_FAILED
        self._scope.cancel()

    def _end_at_once(self) -> None:
        """The disk hangs inside a write, and waiting for it, or closing its files under it, would hang as well."""
        self._telemetry.fail(StorageError("the disk does not answer; ending without it, nothing promised is lost"))
        os._exit(EXIT_FAILED)

    async def _watch_signals(self, signals: AsyncIterator[int]) -> None:
        """The first SIGTERM or Ctrl-C stops gracefully, within a bound; a second one at once."""
        number = await anext(signals)
        self._telemetry.say("stopping", signal=signal.Signals(number).name)
        if self._running is None:
            self._scope.cancel()  # Nothing was served yet, so there is nothing to end gracefully.
            return
        self._running.request_stop()
        exit_code, reason = EXIT_FAILED, f"it took longer than {STOP_SECONDS_MAX:g} s"
        with trio.move_on_after(STOP_SECONDS_MAX):
            again = await anext(signals)
            exit_code, reason = EXIT_SIGNAL + again, f"{signal.Signals(again).name} came as well"
        self._exit_code = exit_code
        self._telemetry.warn("stop-cut-short", reason=reason, next_start="replays from the log what was not flushed")
        self._scope.cancel()
