"""Drives the pure core: flushes once per loop pass, wakes whoever is done, keeps time and connections.

One task flushes (woken by the first operation of a pass, so that everything submitted until it runs
shares a batch), one keeps time, and one per endpoint keeps a connection. None belongs to a caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from random import Random

import anyio
from anyio.abc import ByteStream, TaskGroup

from shardraft.errors import DeadlineExceeded, ShardraftError, Unavailable
from shardraft.kv.requests import ClientReply
from shardraft.wire.client import CapnpBatchCodec
from shardraft_router.channels import Channel
from shardraft_router.connection import Connection
from shardraft_router.core import NEVER_US, Call, Output, RouterCore, RouterLimits
from shardraft_router.desk import Desk, Turn, encode_all, now_us
from shardraft_router.waiting import Child, Signal, Waiting, waiting_here


class Driver:
    """The shell around one ``RouterCore``: what waits, for tasks and for connections. Calls go through its ``desk``."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout_seconds: float,
        in_flight_max: int,
        limits: RouterLimits,
        entropy: bytes,
    ) -> None:
        self.limits = limits
        self.random = Random(entropy[16:32])
        self.core = RouterCore(
            session=entropy[:16],
            random=Random(entropy[32:]),
            limits=limits,
            codec=CapnpBatchCodec(),
            endpoints=endpoints,
        )
        self._waiting: Waiting = waiting_here()
        self._flush_wanted = Signal(self._waiting)
        self._time_changed = Signal(self._waiting)
        self.desk = Desk(
            self.core,
            self._waiting,
            timeout_seconds=timeout_seconds,
            in_flight_max=in_flight_max,
            flush=self._flush_wanted.set,
        )
        self._stale_reads_under_way = 0
        self._tick_us = NEVER_US
        self._connections: dict[str, Connection] = {}
        self._tasks: TaskGroup | None = None
        self._scope = anyio.CancelScope()
        self._finished = anyio.Event()

    # --- calls

    def begin(self, timeout_seconds: float | None) -> int:
        """The deadline of a call that starts and takes no turn; RuntimeError where the router cannot be used."""
        return self.desk.deadline_us(timeout_seconds)

    def wait(self, call: Call) -> Awaitable[None]:
        """Wait until ``call``, just submitted to the core, is done."""
        return self.desk.wait(call)

    async def take_turn(self, timeout_seconds: float | None) -> int:
        """Wait while ``in_flight_max`` calls are under way; the deadline, DeadlineExceeded when it comes first."""
        desk = self.desk
        deadline_us = desk.deadline_us(timeout_seconds)
        while desk.in_flight >= desk.in_flight_max:
            turn = Turn()
            desk.turns.append(turn)
            with anyio.move_on_after(max(0.0, (deadline_us - now_us()) / 1e6)) as scope:
                await self._waiting.wait(turn, desk.next_turn)
            if desk.closed:
                raise desk.closed_error()
            if scope.cancelled_caught:
                raise DeadlineExceeded(f"{desk.in_flight} calls were under way all the time", applied="no")
        return deadline_us

    # --- life

    def open(self) -> None:
        """Start the tasks; connections are made in the background."""
        self._waiting.spawn(self._run)

    async def close(self) -> None:
        """End all tasks and connections; calls under way fail."""
        self._end()
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._finished.wait()

    @property
    def fault(self) -> BaseException | None:
        """What broke the router down: a bug, since every operating error is handled."""
        return self.desk.fault

    def _end(self) -> None:
        """Fail all calls under way, and refuse further ones."""
        self.desk.closed = True
        self.core.close()
        failed = self.core.take().completed
        for call in failed:
            if call.error is not None:
                call.error = self._ended(call.error)
        self.desk.wake(failed)
        self.desk.wake_held()
        self.desk.end_turns()

    def _ended(self, error: ShardraftError) -> ShardraftError:
        state = "closed" if self.fault is None else "broke down"
        ended = Unavailable(f"the Router {state} while the call was under way", applied=error.applied)
        ended.__cause__ = self.fault
        return ended

    async def _run(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    self._tasks = tasks
                    tasks.start_soon(self.guarded(self._keep_flushing))
                    tasks.start_soon(self.guarded(self._keep_time))
                    self.pump()
        except Exception as fault:  # Raised to every caller instead of ending the whole program.
            self.desk.fault = fault
            self._end()
        except (KeyboardInterrupt, BaseExceptionGroup):
            self._end()  # A Ctrl-C met this task; whoever spawned it passes it on.
            raise
        finally:
            self._finished.set()

    # --- the loop of the core

    def pump(self) -> None:
        """Carry out whatever the core asks for. Called after every input; never waits."""
        core = self.core
        core.flush(now_us())
        self._carry_out(core.take())

    def _carry_out(self, output: Output) -> None:
        core = self.core
        self._stale_reads_under_way = output.stale_reads_under_way
        for endpoint, frames in encode_all(output.requests):
            self._connections[endpoint].send(frames)
        self.desk.wake_done(output.completed, output.stale_reads_under_way)
        for endpoint in output.drops:
            self._connections[endpoint].drop()
        if output.wanted is not None:
            self._connect_to(output.wanted)
        if self.desk.turns:
            self.desk.next_turn()
        if core.next_deadline_us < self._tick_us:
            self._time_changed.set()

    async def _keep_flushing(self) -> None:
        desk = self.desk
        while True:
            await self._flush_wanted.wait()
            if desk.answers_first:
                # Replies have woken tasks: what these ask for next joins this flush.
                desk.answers_first = False
                await anyio.lowlevel.checkpoint()
            desk.flush_scheduled = False
            self.pump()
            # What leaves was handed to the sockets, or to tasks that were woken before these are.
            desk.wake_held()

    async def _keep_time(self) -> None:
        core = self.core
        while True:
            self._tick_us = core.next_deadline_us
            if self._tick_us == NEVER_US:
                await self._time_changed.wait()
            else:
                with anyio.move_on_after(max(0.0, (self._tick_us - now_us()) / 1e6)):
                    await self._time_changed.wait()
            if now_us() >= core.next_deadline_us:
                core.tick(now_us())
                self.pump()

    def _connect_to(self, wanted: Sequence[str]) -> None:
        assert self._tasks is not None
        for endpoint in [endpoint for endpoint in self._connections if endpoint not in wanted]:
            self._connections.pop(endpoint).close()
            self.core.host_disconnected(endpoint, now_us(), "it is not needed")
            self.desk.flush_soon()
        for endpoint in wanted:
            if endpoint not in self._connections:
                connection = self._connections[endpoint] = Connection(endpoint, self)
                self._tasks.start_soon(self.guarded(connection.keep))

    # --- what connections tell

    @property
    def cluster_id(self) -> bytes:
        """The cluster that is looked for; empty while it is not known."""
        shard_map = self.core.shard_map
        return b"" if shard_map is None else shard_map.cluster_id

    def signal(self) -> Signal:
        return Signal(self._waiting)

    def channel(self, stream: ByteStream) -> Channel:
        return self._waiting.channel(stream)

    def guarded(self, child: Child) -> Child:
        return self._waiting.guarded(child)

    def interrupt(self) -> None:
        self._waiting.interrupt()

    def connected(self, connection: Connection, host: int, tier: int) -> None:
        """It has said hello."""
        self.core.host_connected(connection.endpoint, host, tier, now_us())
        self.pump()

    def received(self, connection: Connection, replies: Sequence[ClientReply]) -> None:
        """Replies arrived. Raises ``ProtocolError`` for one that answers nothing that was asked."""
        now = now_us()
        desk = self.desk
        if desk.flush_scheduled and self._stale_reads_under_way >= self.limits.paced_operations_min:
            self.pump()  # Reads that wait to leave need not wait for those that these answers bring.
        for reply in replies:
            self.core.received(connection.endpoint, reply, now)
        self._carry_out(self.core.take())
        if self.core.wants_flush:
            desk.answers_first = True
            desk.flush_soon()

    def disconnected(self, connection: Connection, reason: str) -> None:
        """It is gone, or could not be made."""
        self.core.host_disconnected(connection.endpoint, now_us(), reason)
        self.pump()
