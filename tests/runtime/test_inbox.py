"""The inbox: the loop sleeps until something happens, and reads no more than there is room for."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from shardraft.host.events import Event, Tick
from shardraft.runtime.arrivals import LogCommitted
from shardraft.runtime.clock import now_us
from shardraft.runtime.inbox import OTHERS_WAIT_US_MAX, SHORT_WAITS_OF_A_BUSY_LOOP, Inbox

pytestmark = pytest.mark.trio

EVENTS_MAX = 3
NEVER_US = 2**62


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_us = 1

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox(EVENTS_MAX)
    yield inbox
    inbox.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def still(clock: Clock) -> AsyncIterator[Inbox]:
    """An inbox for which no time passes by itself."""
    inbox = Inbox(EVENTS_MAX, clock)
    yield inbox
    inbox.close()


async def take(inbox: Inbox, events_max: int, deadline_us: int) -> list[Event | LogCommitted]:
    """What a turn takes: the next events, none once the clock passes the deadline."""
    await inbox.wait(deadline_us)
    return inbox.arrivals.take(events_max)


async def test_it_sleeps_until_an_event_is_put(inbox: Inbox) -> None:
    taken: list[object] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def loop() -> None:
            taken.extend(await take(inbox, 10, NEVER_US))

        await wait_all_tasks_blocked()
        assert taken == []
        inbox.put(Tick(1))
    assert taken == [Tick(1)]


async def test_what_a_thread_has_called_wakes_it(inbox: Inbox) -> None:
    thread = threading.Thread(target=lambda: inbox.call_soon(lambda: inbox.put(Tick(2))))
    thread.start()
    assert await take(inbox, 10, NEVER_US) == [Tick(2)]
    thread.join()


async def test_it_wakes_at_the_deadline_with_nothing(inbox: Inbox, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.run_timer)
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        assert await take(inbox, 10, now_us() + 5_000_000) == []
        assert trio.current_time() == pytest.approx(begun + 5, abs=0.5)
        nursery.cancel_scope.cancel()


async def test_a_socket_is_read_only_while_there_is_room(inbox: Inbox) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        put: list[int] = []

        def read() -> None:
            for byte in ours.recv(2):
                put.append(byte)
                inbox.put(Tick(byte))

        inbox.add(ours.fileno(), read)
        theirs.send(bytes(range(21)))
        assert await take(inbox, 1, NEVER_US) == [Tick(0)]
        taken: list[object] = []
        while len(taken) < 20:
            taken += await take(inbox, 1, NEVER_US)
            waiting = len(put) - 1 - len(taken)
            assert waiting <= EVENTS_MAX, "a read of two may pass the limit by one, and none begins at it"
        assert taken == [Tick(byte) for byte in range(1, 21)]
        inbox.remove(ours.fileno())


async def test_readers_of_streams_wait_for_room(inbox: Inbox) -> None:
    for number in range(EVENTS_MAX):
        inbox.put(Tick(number))
    had_room = trio.Event()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def reader() -> None:
            await inbox.room()
            had_room.set()

        await wait_all_tasks_blocked()
        assert not had_room.is_set()
        await take(inbox, 1, NEVER_US)
        await had_room.wait()


async def make_busy(inbox: Inbox) -> None:
    for number in range(SHORT_WAITS_OF_A_BUSY_LOOP):
        inbox.put(Tick(number))
        assert await take(inbox, 10, NEVER_US) == [Tick(number)]


class Bystander:
    """Counts how often other tasks got their turn."""

    def __init__(self) -> None:
        self.turns = 0

    async def run(self) -> None:
        while True:
            self.turns += 1
            await trio.lowlevel.checkpoint()


async def test_a_busy_loop_leaves_the_others_alone_until_they_are_due(still: Inbox, clock: Clock) -> None:
    ours, theirs = socket.socketpair()
    bystander = Bystander()
    with ours, theirs:
        still.add(ours.fileno(), lambda: still.put(Tick(ours.recv(1)[0])))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bystander.run)
            await make_busy(still)
            turns = bystander.turns
            for number in range(1, 10):
                theirs.send(bytes([number]))
                assert await take(still, 10, NEVER_US) == [Tick(number)]
            assert bystander.turns == turns
            for number in (10, 11):  # In the first pass it is open who of the two comes first.
                clock.now_us += OTHERS_WAIT_US_MAX
                theirs.send(bytes([number]))
                assert await take(still, 10, NEVER_US) == [Tick(number)]
            assert bystander.turns > turns
            nursery.cancel_scope.cancel()
        still.remove(ours.fileno())


async def test_what_a_thread_brings_ends_the_wait_of_a_busy_loop(still: Inbox, clock: Clock) -> None:
    await make_busy(still)
    thread = threading.Thread(target=lambda: still.call_soon(lambda: still.put(Tick(2))))
    thread.start()
    assert await take(still, 10, NEVER_US) == [Tick(2)]
    thread.join()


async def test_a_busy_loop_turns_at_its_deadline(still: Inbox, clock: Clock) -> None:
    await make_busy(still)
    assert await take(still, 10, clock.now_us) == []


async def test_a_loop_with_little_to_do_sleeps_with_all_others(still: Inbox, clock: Clock) -> None:
    for _ in range(SHORT_WAITS_OF_A_BUSY_LOOP - 1):
        still.put(Tick(1))
        await take(still, 10, NEVER_US)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def loop() -> None:
            await take(still, 10, NEVER_US)

        await wait_all_tasks_blocked()
        still.put(Tick(2))


async def test_a_busy_loop_that_nothing_happens_to_sleeps_with_all_others(inbox: Inbox) -> None:
    await make_busy(inbox)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def loop() -> None:
            await take(inbox, 10, NEVER_US)

        await wait_all_tasks_blocked()  # It would not be blocked in a selector of its own.
        inbox.put(Tick(2))
