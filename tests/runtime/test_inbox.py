"""The inbox: the loop sleeps until something happens, and reads no more than there is room for."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from shardraft.host.events import Tick
from shardraft.runtime.inbox import Inbox

pytestmark = pytest.mark.trio

EVENTS_MAX = 3


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox(EVENTS_MAX)
    yield inbox
    inbox.close()


async def test_it_sleeps_until_an_event_is_put(inbox: Inbox) -> None:
    taken: list[object] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def loop() -> None:
            taken.extend(await inbox.take(10, math.inf))

        await wait_all_tasks_blocked()
        assert taken == []
        inbox.put(Tick(1))
    assert taken == [Tick(1)]


async def test_what_a_thread_has_called_wakes_it(inbox: Inbox) -> None:
    thread = threading.Thread(target=lambda: inbox.call_soon(lambda: inbox.put(Tick(2))))
    thread.start()
    assert await inbox.take(10, math.inf) == [Tick(2)]
    thread.join()


async def test_it_wakes_at_the_deadline_with_nothing(inbox: Inbox, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.run_timer)
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        assert await inbox.take(10, begun + 5) == []
        assert trio.current_time() == begun + 5
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
        assert await inbox.take(1, math.inf) == [Tick(0)]
        taken: list[object] = []
        while len(taken) < 20:
            taken += await inbox.take(1, math.inf)
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
        await inbox.take(1, math.inf)
        await had_room.wait()
