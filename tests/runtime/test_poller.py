"""The poller: readers are called for what is there, the loop is woken for it, and threads are heard."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from shardraft.runtime.poller import (
    LOOK_US_MAX,
    LOOKS_PAID_BY_A_FIND,
    LOOKS_PAID_MAX,
    SLEEPS_BETWEEN_LOOKS,
    Poller,
)

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


SHORT_SECONDS = 1e-6
"""A wait that ends by itself at once; longer than no wait, after which nothing is looked for."""


class Clock:
    """Goes on by ``step_us`` whenever it is read, which only a poller that looks does."""

    def __init__(self) -> None:
        self.now_us = 0
        self.step_us = 1
        self.on_read: Callable[[], object] = lambda: None

    def __call__(self) -> int:
        self.now_us += self.step_us
        self.on_read()
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def looking(clock: Clock) -> Iterator[Poller]:
    poller = Poller(clock)
    yield poller
    poller.close()


def looks(poller: Poller, clock: Clock) -> bool:
    """Whether it looks before it sleeps, in vain."""
    before_us = clock.now_us
    poller.read(always, SHORT_SECONDS)
    return clock.now_us > before_us


def find(poller: Poller, clock: Clock, pair: tuple[socket.socket, socket.socket]) -> None:
    """Let it find something while it looks."""
    reads: list[int] = []

    def send_at_the_second() -> None:
        reads.append(1)
        if len(reads) == 2:
            pair[1].send(b"x")

    clock.on_read = send_at_the_second
    heard: list[bytes] = []
    poller.add(pair[0].fileno(), lambda: heard.append(pair[0].recv(9)))
    poller.read(always, 60.0)
    poller.remove(pair[0].fileno())
    clock.on_read = lambda: None
    assert heard == [b"x"]
    assert len(reads) == 2, "it was found by looking, not by sleeping"


async def test_looks_that_were_in_vain_are_left_for_a_while(looking: Poller, clock: Clock) -> None:
    assert looks(looking, clock)
    for _ in range(2):
        assert not any(looks(looking, clock) for _ in range(SLEEPS_BETWEEN_LOOKS))
        assert looks(looking, clock)


async def test_a_find_pays_for_looks_in_vain(looking: Poller, clock: Clock, pairs: Pairs) -> None:
    find(looking, clock, pairs[0])
    assert all(looks(looking, clock) for _ in range(1 + LOOKS_PAID_BY_A_FIND))
    assert not looks(looking, clock)


async def test_many_finds_pay_for_no_more_looks_than_the_limit(looking: Poller, clock: Clock, pairs: Pairs) -> None:
    for _ in range(LOOKS_PAID_MAX):
        find(looking, clock, pairs[0])
    assert all(looks(looking, clock) for _ in range(LOOKS_PAID_MAX))
    assert not looks(looking, clock)


async def test_nobody_looks_for_longer_than_the_limit(looking: Poller, clock: Clock) -> None:
    clock.step_us = LOOK_US_MAX // 4
    reads: list[int] = []

    def wake_at_the_end() -> None:
        reads.append(clock.now_us)
        if clock.now_us - reads[0] == LOOK_US_MAX:
            looking.wake()

    clock.on_read = wake_at_the_end
    looking.read(always, 60.0)
    assert len(reads) == 6, "when it began, four times until it was over, and once before it slept"


async def test_nobody_looks_for_longer_than_it_may_wait(looking: Poller, clock: Clock) -> None:
    clock.step_us = LOOK_US_MAX // 4
    looking.read(always, LOOK_US_MAX / 2 / 1e6)
    assert clock.now_us == 4 * clock.step_us, "when it began, twice until it was over, and once before it slept"


async def test_what_is_there_already_pays_for_no_look(looking: Poller, clock: Clock, pairs: Pairs) -> None:
    ours, theirs = pairs[0]
    looking.add(ours.fileno(), lambda: ours.recv(9))
    theirs.send(b"x")
    looking.read(always, 60.0)
    looking.remove(ours.fileno())
    assert clock.now_us == 0
    assert looks(looking, clock)
    assert not looks(looking, clock)


async def test_a_pass_that_may_not_wait_does_not_look(looking: Poller, clock: Clock) -> None:
    looking.read(always)
    assert clock.now_us == 0
