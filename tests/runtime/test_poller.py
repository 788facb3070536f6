"""The poller: readers are called for what is there, the loop is woken for it, and threads are heard."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from shardraft.runtime.poller import Poller

pytestmark = pytest.mark.trio


def always() -> bool:
    return True


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(3)]
    yield pairs
    for pair in pairs:
        for each in pair:
            each.close()


Pairs = list[tuple[socket.socket, socket.socket]]


async def test_only_those_read_that_have_something_to_read(poller: Poller, pairs: Pairs) -> None:
    heard: list[bytes] = []
    for ours, _ in pairs:
        poller.add(ours.fileno(), lambda ours=ours: heard.append(ours.recv(9)))
    poller.read(always)
    assert heard == []
    pairs[1][1].send(b"one")
    await trio.lowlevel.wait_readable(poller.fileno())
    poller.read(always)
    poller.read(always)
    assert heard == [b"one"]


async def test_what_was_not_read_is_read_next_time(poller: Poller, pairs: Pairs) -> None:
    heard: list[bytes] = []
    for ours, theirs in pairs:
        poller.add(ours.fileno(), lambda ours=ours: heard.append(ours.recv(1)))
        theirs.send(b"ab")
    poller.read(lambda: False)
    assert heard == []
    poller.read(lambda: not heard)
    assert len(heard) == 1
    while len(heard) < 6:
        await trio.lowlevel.wait_readable(poller.fileno())
        poller.read(always)
    assert sorted(heard) == [b"a"] * 3 + [b"b"] * 3


async def test_the_end_of_a_socket_is_something_to_read(poller: Poller, pairs: Pairs) -> None:
    heard: list[bytes] = []
    ours, theirs = pairs[0]

    def read() -> None:
        heard.append(ours.recv(9))
        poller.remove(ours.fileno())

    poller.add(ours.fileno(), read)
    theirs.close()
    await trio.lowlevel.wait_readable(poller.fileno())
    poller.read(always)
    poller.read(always)
    assert heard == [b""]


async def test_a_reader_that_another_removed_in_the_same_pass_is_not_called(poller: Poller, pairs: Pairs) -> None:
    called: list[int] = []

    def read(place: int) -> None:
        called.append(place)
        for ours, _ in pairs:
            poller.remove(ours.fileno())

    for place, (ours, theirs) in enumerate(pairs):
        poller.add(ours.fileno(), lambda place=place: read(place))
        theirs.send(b"x")
    poller.read(always)
    poller.read(always)
    assert len(called) == 1


async def test_waking_lets_the_wait_end_once(poller: Poller) -> None:
    poller.wake()
    await trio.lowlevel.wait_readable(poller.fileno())
    poller.read(always)
    with trio.move_on_after(0) as scope:
        await trio.lowlevel.wait_readable(poller.fileno())
    assert scope.cancelled_caught, "nothing wakes it any more"


async def test_it_may_be_woken_without_end_while_nobody_waits(poller: Poller) -> None:
    for _ in range(100_000):
        poller.wake()
    await trio.lowlevel.wait_readable(poller.fileno())


async def test_what_threads_call_runs_on_the_loop_in_order(poller: Poller) -> None:
    loop, ran = threading.get_ident(), []
    numbers = range(1000)

    def call() -> None:
        for number in numbers:
            poller.call_soon(lambda number=number: ran.append((threading.get_ident(), number)))

    thread = threading.Thread(target=call)
    thread.start()
    while len(ran) < len(numbers):
        await trio.lowlevel.wait_readable(poller.fileno())
        poller.read(always)
    thread.join()
    assert ran == [(loop, number) for number in numbers]


async def test_a_call_that_comes_while_others_read_is_not_lost_with_the_byte_that_told_of_it(
    poller: Poller, pairs: Pairs
) -> None:
    ran: list[int] = []
    ours, theirs = pairs[0]

    def read() -> None:
        ours.recv(9)
        poller.call_soon(lambda: ran.append(1))  # As a thread may, at any moment of a pass.

    poller.add(ours.fileno(), read)
    theirs.send(b"x")
    poller.wake()
    poller.read(always)
    with trio.fail_after(1):
        while not ran:
            await trio.lowlevel.wait_readable(poller.fileno())
            poller.read(always)


async def test_those_that_a_pass_had_no_room_for_come_first_in_the_next(poller: Poller, pairs: Pairs) -> None:
    """Selectors that tell again what was not read tell it in the same order: the first would be read for ever."""
    heard: list[int] = []
    for place, (ours, theirs) in enumerate(pairs):
        poller.add(ours.fileno(), lambda place=place, ours=ours: heard.append(place) if ours.recv(1) else None)
        theirs.send(bytes(30))
    for passes in range(1, 31):
        poller.read(lambda passes=passes: len(heard) < passes)
    assert [heard.count(place) for place in range(3)] == [10, 10, 10]


async def test_one_that_was_removed_before_its_turn_came_is_not_read(poller: Poller, pairs: Pairs) -> None:
    heard: list[int] = []
    for place, (ours, theirs) in enumerate(pairs):
        poller.add(ours.fileno(), lambda place=place: heard.append(place))
        theirs.send(b"x")
    poller.read(lambda: not heard)
    for ours, _ in pairs:
        poller.remove(ours.fileno())
    poller.read(always)
    assert len(heard) == 1


async def test_what_threads_call_does_not_wait_for_room(poller: Poller) -> None:
    ran: list[int] = []
    poller.call_soon(lambda: ran.append(1))
    await trio.lowlevel.wait_readable(poller.fileno())
    poller.read(lambda: False)
    assert ran == [1]


async def test_a_wait_can_be_cancelled_and_begun_again(poller: Poller) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.wait_readable, poller.fileno())
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    poller.wake()
    await trio.lowlevel.wait_readable(poller.fileno())
