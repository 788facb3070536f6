"""Drives the pure core: flushes once per loop pass, wakes whoever is done, keeps time and connections.

One task flushes (woken by the first operation of a pass, so that everything submitted until it runs
shares a batch), one keeps time, and one per endpoint keeps a connection. None belongs to a caller.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Sequence
from random import Random
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from shardraft.errors import DeadlineExceeded, InvalidArgument, ShardraftError, Unavailable
from shardraft.kv.requests import ClientReply, Consistency
from shardraft.wire.client import CapnpBatchCodec, encode_request
from shardraft_router.connection import Connection
from shardraft_router.core import NEVER_US, Call, Output, ReadCall, RouterCore, RouterLimits
from shardraft_router.waiting import Child, Process, Signal, Waiting, waiting_here

_CLOCK: Final = time.CLOCK_BOOTTIME


def now_us() -> int:
    """Microseconds of a clock that also runs while the machine is suspended."""
    return time.clock_gettime_ns(_CLOCK) // 1000


class Turn:
    """A call that waits until fewer than ``in_flight_max`` are under way."""

    __slots__ = ("waiter",)

    def __init__(self) -> None:
        self.waiter: Any = None


class Driver:
    """The shell around one ``RouterCore``. ``begin`` and ``wait`` are what every call goes through.

    ``in_flight`` counts the calls that tasks wait for; above ``in_flight_max`` further ones wait for their
    turn, first come first served, within their own deadline.
    """

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
        self.timeout_us = self.check_timeout(timeout_seconds)
        self.in_flight = 0
        self.in_flight_max = in_flight_max
        self.random = Random(entropy[16:32])
        self.core = RouterCore(
            session=entropy[:16],
            random=Random(entropy[32:]),
            limits=limits,
            codec=CapnpBatchCodec(),
            endpoints=endpoints,
        )
        self._forks = Process.forks
        self._waiting: Waiting = waiting_here()
        self._flush_wanted = Signal(self._waiting)
        self._time_changed = Signal(self._waiting)
        self._flush_scheduled = False
        self._answers_first = False
        self._stale_reads_under_way = 0
        self._held: list[Call] = []
        """Answered, and woken after the next flush."""
        self._tick_us = NEVER_US
        self._turns: deque[Turn] = deque()
        self._connections: dict[str, Connection] = {}
        self._tasks: TaskGroup | None = None
        self._scope = anyio.CancelScope()
        self._finished = anyio.Event()
        self._closed = False
        self._fault: BaseException | None = None

    # --- calls

    def check_timeout(self, timeout_seconds: float) -> int:
        """A timeout in microseconds; InvalidArgument unless it is above 0 and at most ``timeout_ms_max``."""
        longest = self.limits.timeout_ms_max / 1000
        if not 0 < timeout_seconds <= longest:
            raise InvalidArgument(f"timeout_seconds must be above 0 and at most {longest:g}, not {timeout_seconds!r}")
        return max(1, round(timeout_seconds * 1e6))

    def begin(self, timeout_seconds: float | None) -> int:
        """The deadline of a call that starts; RuntimeError where the router cannot be used."""
        if self._forks != Process.forks:
            raise RuntimeError("this Router belongs to the parent process; open one of its own after a fork")
        self._waiting.check_caller()
        if self._closed:
            raise self._closed_error()
        timeout_us = self.timeout_us if timeout_seconds is None else self.check_timeout(timeout_seconds)
        return time.clock_gettime_ns(_CLOCK) // 1000 + timeout_us

    def _closed_error(self) -> RuntimeError:
        error = RuntimeError("the Router is closed" if self._fault is None else "the Router broke down")
        error.__cause__ = self._fault
        return error

    def wait(self, call: Call) -> Awaitable[None]:
        """Wait until ``call``, just submitted to the core, is done."""
        self.in_flight += 1
        if not self._flush_scheduled:
            self.flush_soon()
        return self._waiting.wait(call, self._abandon)

    def flush_soon(self) -> None:
        """Send what was submitted, together with all that is submitted before the loop comes round."""
        self._flush_scheduled = True
        self._flush_wanted.set()

    def _abandon(self, call: Call) -> None:
        if not call.done:
            self.core.cancel(call)
            self._leave()
        elif call in self._held:  # Answered in the same moment, and not woken yet.
            self._held.remove(call)
            self._leave()

    def _leave(self) -> None:
        self.in_flight -= 1
        if self._turns:
            self._next_turn()

    def _next_turn(self, _: object = None) -> None:
        """Let the first in line go on if there is room. Whether it takes the room is seen at the next flush."""
        while self._turns and self.in_flight < self.in_flight_max:
            turn = self._turns.popleft()
            if turn.waiter is not None:
                self._waiting.wake(turn)
                self.flush_soon()
                return

    async def take_turn(self, deadline_us: int) -> None:
        """Wait while ``in_flight_max`` calls are under way; DeadlineExceeded if that takes too long."""
        while self.in_flight >= self.in_flight_max:
            turn = Turn()
            self._turns.append(turn)
            with anyio.move_on_after(max(0.0, (deadline_us - now_us()) / 1e6)) as scope:
                await self._waiting.wait(turn, self._next_turn)
            if self._closed:
                raise self._closed_error()
            if scope.cancelled_caught:
                raise DeadlineExceeded(f"{self.in_flight} calls were under way all the time", applied="no")

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
        return self._fault

    def _end(self) -> None:
        """Fail all calls under way, and refuse further ones."""
        self._closed = True
        self.core.close()
        for call in self.core.take().completed:
            if call.error is not None:
                call.error = self._ended(call.error)
            self._wake(call)
        self._wake_held()
        for turn in self._turns:
            self._waiting.wake(turn)
        self._turns.clear()

    def _ended(self, error: ShardraftError) -> ShardraftError:
        state = "closed" if self._fault is None else "broke down"
        ended = Unavailable(f"the Router {state} while the call was under way", applied=error.applied)
        ended.__cause__ = self._fault
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
            self._fault = fault
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
        for endpoint, request in output.requests:
            self._connections[endpoint].send(encode_request(request))
        self._wake_completed(output.completed)
        for endpoint in output.drops:
            self._connections[endpoint].drop()
        if output.wanted is not None:
            self._connect_to(output.wanted)
        if self._turns:
            self._next_turn()
        if core.next_deadline_us < self._tick_us:
            self._time_changed.set()

    def _wake_completed(self, completed: list[Call]) -> None:
        """Wake who waits. When many stale reads were answered at once and none is under way, only a half of them.

        The other half follows when the next reads of the first have left. Woken all at once, tasks would be made to run
        while no host has anything to do, and hosts would answer while no task does (decision 0014).
        """
        half = len(completed) // 2
        are_many = half >= self.limits.paced_operations_min
        if are_many and not self._stale_reads_under_way and _is_stale_read(completed[0]):
            self._held += completed[half:]
            del completed[half:]
            self._answers_first = True
            self.flush_soon()
        for call in completed:
            self._wake(call)

    def _wake_held(self) -> None:
        held, self._held = self._held, []
        for call in held:
            self._wake(call)

    def _wake(self, call: Call) -> None:
        # A call that is awaited in its turn, such as a page read ahead, has no waiter yet.
        if call.waiter is not None:
            self._waiting.wake(call)
            self._leave()

    async def _keep_flushing(self) -> None:
        while True:
            await self._flush_wanted.wait()
            if self._answers_first:
                # Replies have woken tasks: what these ask for next joins this flush.
                self._answers_first = False
                await anyio.lowlevel.checkpoint()
            self._flush_scheduled = False
            self.pump()
            if self._held:
                await anyio.lowlevel.checkpoint()  # What leaves is handed to the sockets first.
                self._wake_held()

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
            self.flush_soon()
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
        if self._flush_scheduled and self._stale_reads_under_way >= self.limits.paced_operations_min:
            self.pump()  # Reads that wait to leave need not wait for those that these answers bring.
        for reply in replies:
            self.core.received(connection.endpoint, reply, now)
        self._carry_out(self.core.take())
        if self.core.wants_flush:
            self._answers_first = True
            self.flush_soon()

    def disconnected(self, connection: Connection, reason: str) -> None:
        """It is gone, or could not be made."""
        self.core.host_disconnected(connection.endpoint, now_us(), reason)
        self.pump()


def _is_stale_read(call: Call) -> bool:
    return isinstance(call, ReadCall) and call.consistency is Consistency.STALE
