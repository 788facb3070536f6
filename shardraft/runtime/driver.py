"""The main loop: drives one host with the inbox, the network and the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from shardraft.config import Limits
from shardraft.errors import CopyRefused
from shardraft.host.events import (
    CopyInstalled,
    CopyRejected,
    CopySpooled,
    ReplicaCreated,
    ReplicaRemoved,
    ShardMapKept,
    StateFlushed,
)
from shardraft.host.host import Host
from shardraft.host.ports import Store
from shardraft.host.turn import (
    CopyCommand,
    DropCopy,
    HostNote,
    InstallCopy,
    RemoveReplica,
    ReplicaCommand,
    SpoolCopy,
    StageChunk,
    StateBatch,
    Turn,
)
from shardraft.runtime.arrivals import LogCommitted
from shardraft.runtime.clock import now_us
from shardraft.runtime.disk import STOP_SECONDS_MAX, DiskThread
from shardraft.runtime.inbox import Inbox
from shardraft.runtime.log_commits import LogCommits, LogStore, nothing
from shardraft.runtime.network import Network
from shardraft.runtime.turns import Turns
from shardraft.runtime.writers import make_writer
from shardraft.shards.shard_map import HostPlace, ShardMap


class LoopStore(Store, LogStore, Protocol):
    """A store whose log is committed from the loop."""

    def merge_at_rest(self) -> bool:
        """Do a little of what makes later reads cheaper, on the thread of the state; whether there is more of it."""
        ...


class Driver:
    """Carries out turns. Understands nothing of what it carries.

    ``on_notes`` hears what the host says, ``on_places`` to which hosts links are to be kept; ``on_failure`` is
    called once when a disk fails, and the caller then ends the process (DESIGN promise 6).
    """

    def __init__(
        self,
        host: Host,
        store: LoopStore,
        network: Network,
        inbox: Inbox,
        limits: Limits,
        on_notes: Callable[[tuple[HostNote, ...]], None],
        on_failure: Callable[[BaseException], None],
        on_places: Callable[[tuple[HostPlace, ...]], None],
    ) -> None:
        self._host = host
        self._store = store
        self._network = network
        self._inbox = inbox
        self._on_notes = on_notes
        self._on_places = on_places
        self._log_thread = DiskThread("shardraft-log", on_failure, inbox.call_soon)
        self._writer = make_writer()
        self._log = LogCommits(store, self._writer, self._log_thread.submit, self._log_committed, on_failure)
        inbox.add(self._writer.fileno(), self._log.hear)
        self._state = DiskThread("shardraft-state", on_failure, inbox.call_soon, at_rest=store.merge_at_rest)
        self._copies = DiskThread("shardraft-copies", on_failure, inbox.call_soon)
        self._turns = Turns(host, network, inbox.arrivals, limits.turn_events_max, self._log, self._carry_out)

    async def run(self, until: Callable[[], bool]) -> None:
        """Take events, step, begin a turn, carry it out, until ``until()`` is true after a turn.

        ``Inbox.wake`` makes it look again. It may be cancelled between two turns, and run again.
        """
        while not until():
            await self._take_turn()
            self._turns.go_on(until)

    async def flush(self) -> None:
        """Go on taking turns until everything that was applied is flushed."""
        flushing = self._host.flushing
        while not flushing.idle:
            flushing.want()
            self._turns.begin([])
            await self._take_turn()

    async def _take_turn(self) -> None:
        await self._inbox.wait(self._turns.next_deadline_us)
        self._turns.take()

    def _carry_out(self, turn: Turn) -> None:
        if turn.state_batch is not None:
            self._flush(turn.state_batch)
        if turn.shard_map is not None:
            self._keep(turn.shard_map)
        for command in turn.copies:
            self._copy(command)
        for change in turn.replicas:
            self._change_replica(change)
        if turn.places is not None:
            self._on_places(turn.places)
        for connection in turn.closes:
            self._network.close(connection)
        if turn.notes:
            self._on_notes(turn.notes)

    def _log_committed(self, numbers: list[int]) -> None:
        self._inbox.put(LogCommitted(numbers))

    def _flush(self, batch: StateBatch) -> None:
        def job() -> Callable[[], None]:
            self._store.commit_state(batch)
            return lambda: self._inbox.put(StateFlushed(now_us(), batch.number))

        self._state.submit(job)

    def _keep(self, shard_map: ShardMap) -> None:
        def job() -> Callable[[], None]:
            self._store.save_shard_map(shard_map)
            return lambda: self._inbox.put(ShardMapKept(now_us(), shard_map))

        self._state.submit(job)

    def _change_replica(self, command: ReplicaCommand) -> None:
        if isinstance(command, RemoveReplica):
            self._remove_replica(command)
            return

        def job() -> Callable[[], None]:
            self._store.create_replica(command.replica, command.state)
            return lambda: self._inbox.put(ReplicaCreated(now_us(), command.state.shard))

        self._state.submit(job)

    def _remove_replica(self, command: RemoveReplica) -> None:
        """Tombstone and state first, then the log on its own thread, behind every batch submitted so far."""

        def job() -> Callable[[], None]:
            self._store.remove_replica(command.shard, command.replica)

            def remove() -> Callable[[], None]:
                self._store.remove_log(command.shard)
                return lambda: self._inbox.put(ReplicaRemoved(now_us(), command.shard))

            return lambda: self._log.submit(remove)

        self._state.submit(job)

    def _copy(self, command: CopyCommand) -> None:
        if isinstance(command, SpoolCopy):
            self._spool(command)
        elif isinstance(command, DropCopy):
            self._copies.submit(self._dropping(command))
        elif isinstance(command, StageChunk):
            self._state.submit(self._staging(command))
        else:
            self._install(command)

    def _spool(self, command: SpoolCopy) -> None:
        def job() -> Callable[[], None]:
            index, term, chunks = self._store.spool_copy(command.shard, command.copy_id)
            event = CopySpooled(now_us(), command.shard, command.copy_id, index, term, chunks)
            return lambda: self._inbox.put(event)

        # Its read transaction needs no writer's thread, and a flush need not wait for it.
        self._copies.submit(job)

    def _dropping(self, command: DropCopy) -> Callable[[], Callable[[], None]]:
        def job() -> Callable[[], None]:
            self._store.drop_copy(command.copy_id)
            return nothing

        return job

    def _staging(self, command: StageChunk) -> Callable[[], Callable[[], None]]:
        def job() -> Callable[[], None]:
            self._store.stage_chunk(command.shard, command.number, command.data)
            return nothing

        return job

    def _install(self, command: InstallCopy) -> None:
        """State first, then the log is reset on its own thread, behind every batch submitted so far."""

        def job() -> Callable[[], None]:
            try:
                state = self._store.install_copy(command.shard, command.index, command.term)
            except CopyRefused as refused:
                rejected = CopyRejected(now_us(), command.shard, command.number, str(refused))
                return lambda: self._inbox.put(rejected)

            def reset() -> Callable[[], None]:
                self._store.reset_log(command.shard, command.index, command.term)
                return lambda: self._inbox.put(CopyInstalled(now_us(), command.shard, command.number, state))

            return lambda: self._log.submit(reset)

        self._state.submit(job)

    async def close(self) -> bool:
        """Let the disk threads finish what they were given, and end them; False when one hangs.

        The store may be closed only after True: a thread that hangs is inside it.
        """
        with trio.CancelScope(shield=True):
            ended = [await thread.stop() for thread in (self._log_thread, self._state, self._copies)]
            ended.append(await trio.to_thread.run_sync(self._writer.stop, STOP_SECONDS_MAX))
        if not all(ended):
            return False
        self._inbox.close()
        return True
