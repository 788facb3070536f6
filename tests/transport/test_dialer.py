"""A dialer keeps one connection alive: it connects, says hello, serves, waits, and begins again."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from shardraft.config import Limits, TransportConfig
from shardraft.errors import ErrorCode, ProtocolError
from shardraft.transport.connection import Connection
from shardraft.transport.dialer import Dialer
from shardraft.transport.handshake import shake_hands_as_server
from shardraft.transport.notes import ConnectFailed, ConnectionRefused, HandlerFailed, TransportNote
from shardraft.types import Endpoint
from shardraft.wire.hello import Hello, HelloReply, Role
from tests.transport.streams import CLUSTER, FRAMES, TIMING, RoomForAll, admit_everybody, connection_over

pytestmark = pytest.mark.trio

ENDPOINT = Endpoint("b.example", 4002)
BAD_FRAME = FRAMES[4]
FAULTY_FRAME = FRAMES[3]


@attrs.define
class Told:
    """A caller that keeps what it is told."""

    events: list[object] = attrs.field(factory=list)
    connection: Connection | None = None

    def connected(self, connection: Connection, reply: HelloReply) -> None:
        self.connection = connection
        self.events.append(("connected", connection.remote, reply.host))

    def received(self, frames: list[bytes]) -> None:
        if BAD_FRAME in frames:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "the frame is none of this protocol")
        if FAULTY_FRAME in frames:
            raise ZeroDivisionError("a fault")
        self.events.append(frames)

    def send(self, data: bytes) -> bool:
        assert self.connection is not None, "there is no connection yet"
        return self.connection.send(data)

    def disconnected(self) -> None:
        self.connection = None
        self.events.append("disconnected")


@attrs.define
class Network:
    """Where a dialer connects to: in turn refuses, or hands out the server's side of a memory stream."""

    refusals: int = 0
    attempts: list[float] = attrs.field(factory=list)
    accepted: list[trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]] = attrs.field(factory=list)

    async def connect(self, endpoint: Endpoint, _: TransportConfig) -> trio.abc.Stream:
        assert endpoint == ENDPOINT
        self.attempts.append(trio.current_time())
        if len(self.attempts) <= self.refusals:
            raise ConnectionRefusedError("nobody listens there")
        ours, theirs = memory_stream_pair()
        self.accepted.append(theirs)
        return ours

    async def accept(self, nursery: trio.Nursery, number: int) -> Connection:
        """The server's side of connection ``number``, once its hello is answered."""
        while len(self.accepted) <= number:
            with trio.move_on_after(0.01):
                await trio.sleep_forever()
        connection = connection_over(self.accepted[number])
        nursery.start_soon(connection.run_writer)
        await shake_hands_as_server(connection, admit_everybody)
        return connection


@attrs.define
class Line:
    """A dialer with everything around it."""

    dialer: Dialer
    network: Network
    told: Told
    notes: list[TransportNote]


def line(network: Network | None = None, limits: Limits | None = None) -> Line:
    network, told, notes = network or Network(), Told(), []
    dialer = Dialer(
        ENDPOINT,
        lambda: Hello(role=Role.PEER, cluster_id=CLUSTER, host=2),
        told,
        random=Random(7),
        limits=limits or Limits(),
        timing=TIMING,
        record=notes.append,
        readers=RoomForAll(),
        connect=network.connect,
    )
    return Line(dialer, network, told, notes)


async def test_it_says_hello_and_passes_frames_both_ways(autojump_clock: MockClock) -> None:
    it = line()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.dialer.run)
        server = await it.network.accept(nursery, 0)
        server.send(FRAMES[0] + FRAMES[1])
        await wait_all_tasks_blocked()
        assert it.dialer.connected
        assert it.told.events == [("connected", "b.example:4002", 1), FRAMES[:2]]
        assert it.told.send(FRAMES[2])
        assert await server.receive_frames() == [FRAMES[2]]
        nursery.cancel_scope.cancel()
    assert it.told.events[-1] == "disconnected"


async def test_a_full_outbox_drops_frames(autojump_clock: MockClock) -> None:
    it = line(limits=Limits(outbox_bytes_max=1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.dialer.run)
        await it.network.accept(nursery, 0)
        await wait_all_tasks_blocked()
        sent = [it.told.send(FRAMES[0]) for _ in range(100)]
        assert sent == [True] * (1000 // len(FRAMES[0])) + [False] * (100 - 1000 // len(FRAMES[0]))
        nursery.cancel_scope.cancel()


async def test_a_lost_connection_is_made_again(autojump_clock: MockClock) -> None:
    it = line()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.dialer.run)
        for number in range(3):
            server = await it.network.accept(nursery, number)
            await wait_all_tasks_blocked()
            await server.aclose()
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert it.told.events == [("connected", "b.example:4002", 1), "disconnected"] * 3
    assert it.notes == []


async def test_waits_grow_to_their_limit_and_are_jittered(autojump_clock: MockClock) -> None:
    it = line(Network(refusals=12))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.dialer.run)
        await it.network.accept(nursery, 0)
        nursery.cancel_scope.cancel()
    attempts = it.network.attempts
    waits = [later - earlier for earlier, later in pairwise(attempts)]
    longest = [min(0.05 * 2**number, 1.0) for number in range(1, len(attempts))]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, longest, strict=True))
    assert len({round(wait, 6) for wait in waits[-5:]}) == 5
    assert it.notes == [ConnectFailed("b.example:4002", number, "nobody listens there") for number in range(1, 13)]


async def test_a_success_makes_the_next_wait_short_again(autojump_clock: MockClock) -> None:
    it = line(Network(refusals=8))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.dialer.run)
        server = await it.network.accept(nursery, 0)
        await wait_all_tasks_blocked()
        lost = trio.current_time()
        await server.aclose()
        await it.network.accept(nursery, 1)
        nursery.cancel_scope.cancel()
    assert it.network.attempts[-1] - lost <= TIMING.reconnect_ms_min / 1000 + 0.001


async def test_an_attempt_that_hangs_is_given_up(autojump_clock: MockClock) -> None:
    async def hang(_: Endpoint, __: TransportConfig) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError("never woken")

    it = line()
    it.dialer._connect = hang
    with trio.move_on_after(TIMING.connect_timeout_ms / 1000 + 0.001):
        await it.dialer.run()
    assert it.notes == [ConnectFailed("b.example:4002", 1, "no answer")]


async def test_a_host_that_does_not_answer_the_hello_is_given_up(autojump_clock: MockClock) -> None:
    it = line()
    with trio.move_on_after((TIMING.handshake_timeout_ms + TIMING.linger_ms) / 1000 + 0.001):
        await it.dialer.run()
    assert it.notes == [
        ConnectionRefused("b.example:4002", ErrorCode.DEADLINE_EXCEEDED, "did not answer the hello within 5 s")
    ]
    assert it.told.events == []


async def test_frames_that_break_the_protocol_end_the_connection_and_it_is_made_again(
    autojump_clock: MockClock,
) -> None:
    it = line()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.dialer.run)
        first = await it.network.accept(nursery, 0)
        first.send(BAD_FRAME)
        assert await first.receive_frames() == []
        await first.aclose()
        second = await it.network.accept(nursery, 1)
        second.send(FAULTY_FRAME)
        assert await second.receive_frames() == []
        await second.aclose()
        third = await it.network.accept(nursery, 2)
        third.send(FRAMES[0])
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert it.told.events[-2] == [FRAMES[0]]
    assert [type(note) for note in it.notes] == [ConnectionRefused, HandlerFailed]


async def test_close_drops_the_connection_and_run_connects_again(autojump_clock: MockClock) -> None:
    it = line()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.dialer.run)
        server = await it.network.accept(nursery, 0)
        await wait_all_tasks_blocked()
        it.dialer.close()
        assert await server.receive_frames() == []
        await server.aclose()
        await it.network.accept(nursery, 1)
        nursery.cancel_scope.cancel()


async def test_an_impossible_host_name_is_a_failed_attempt(autojump_clock: MockClock) -> None:
    notes: list[TransportNote] = []
    dialer = Dialer(
        Endpoint("a..b", 1),
        lambda: Hello(role=Role.PEER),
        Told(),
        random=Random(7),
        limits=Limits(),
        timing=TIMING,
        record=notes.append,
        readers=RoomForAll(),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialer.run)
        while not notes:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert isinstance(notes[0], ConnectFailed)
