"""Serving frames: a socket is read when its readers say so, other streams read themselves; all ends are the task's."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from shardraft.errors import ProtocolError
from shardraft.runtime.poller import Poller
from shardraft.transport.connection import Connection
from tests.transport.streams import FRAMES, RoomForAll, connection_over

pytestmark = pytest.mark.trio


class Loop:
    """Readers over real sockets; ``turn`` does what a host's loop does before its turn."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.add, self.remove = self.poller.add, self.poller.remove

    async def room(self) -> None:
        raise AssertionError("a socket is read when there is room")

    async def turn(self) -> None:
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(self.poller.fileno())
        self.poller.read(lambda: True)


@attrs.define
class Served:
    """A connection over a socket whose frames are being served."""

    loop: Loop
    connection: Connection
    theirs: trio.SocketStream
    taken: list[bytes]
    ended: list[BaseException | None]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    ours, theirs = (trio.SocketStream(each) for each in trio.socket.socketpair())
    it, scope = Served(Loop(), connection_over(ours), theirs, [], []), trio.CancelScope()

    def take(frames: list[bytes]) -> None:
        if FRAMES[3] in frames:
            scope.cancel()
        if FRAMES[4] in frames:
            raise ZeroDivisionError("a fault")
        it.taken += frames

    async def serve() -> None:
        try:
            with scope:
                await it.connection.serve_frames(take, it.loop)
        except BaseException as error:
            it.ended.append(error)
            if not isinstance(error, Exception):
                raise
        else:
            it.ended.append(None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        yield it
        nursery.cancel_scope.cancel()
    it.loop.poller.close()
    await ours.aclose()
    await theirs.aclose()


async def test_frames_are_taken_when_the_readers_are_told_and_not_before(served: Served) -> None:
    await served.theirs.send_all(b"".join(FRAMES[:2]))
    await wait_all_tasks_blocked()
    assert served.taken == []
    await served.loop.turn()
    assert served.taken == FRAMES[:2]


async def test_a_frame_in_pieces_is_taken_when_it_is_whole(served: Served) -> None:
    for place in range(len(FRAMES[0])):
        assert served.taken == []
        await served.theirs.send_all(FRAMES[0][place : place + 1])
        await served.loop.turn()
        assert (served.connection.incomplete_since is None) is (place == len(FRAMES[0]) - 1)
    assert served.taken == [FRAMES[0]]


async def test_it_ends_when_the_other_side_is_gone(served: Served) -> None:
    await served.theirs.send_all(FRAMES[0])
    await served.theirs.aclose()
    while not served.ended:
        await served.loop.turn()
        await wait_all_tasks_blocked()
    assert (served.taken, served.ended) == ([FRAMES[0]], [None])


async def test_bytes_that_are_no_frames_are_an_error_of_its_task(served: Served) -> None:
    await served.theirs.send_all(b"\xff" * 64)
    await served.loop.turn()
    await wait_all_tasks_blocked()
    assert isinstance(served.ended[0], ProtocolError)


async def test_what_taking_a_frame_raises_is_an_error_of_its_task(served: Served) -> None:
    await served.theirs.send_all(FRAMES[4])
    await served.loop.turn()
    await wait_all_tasks_blocked()
    assert isinstance(served.ended[0], ZeroDivisionError)


async def test_whoever_takes_frames_may_close_the_connection_and_then_refuse_one(served: Served) -> None:
    """The loop must not meet either: it would end the process."""
    await served.theirs.send_all(FRAMES[3] + FRAMES[4])
    await served.loop.turn()
    await wait_all_tasks_blocked()
    assert (served.taken, served.ended) == ([], [None])


async def test_after_its_end_nothing_is_read_any_more(served: Served) -> None:
    await served.theirs.send_all(FRAMES[4])
    await served.loop.turn()
    await served.theirs.send_all(FRAMES[0])
    served.loop.poller.wake()
    await served.loop.turn()
    await wait_all_tasks_blocked()
    assert (served.taken, len(served.ended)) == ([], 1)


async def test_a_cancelled_one_is_not_read_any_more_either() -> None:
    ours, theirs = (trio.SocketStream(each) for each in trio.socket.socketpair())
    loop, taken = Loop(), list[bytes]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection_over(ours).serve_frames, taken.extend, loop)
        await wait_all_tasks_blocked()
        await theirs.send_all(FRAMES[0])
        nursery.cancel_scope.cancel()
        loop.poller.read(lambda: True)
    loop.poller.read(lambda: True)
    assert taken == []
    await ours.aclose()
    await theirs.aclose()
    loop.poller.close()


class Taker:
    """Takes frames, and can be watched going."""

    def __call__(self, frames: list[bytes]) -> None:
        raise AssertionError("no frame is ever whole")


@pytest.mark.parametrize("is_theirs", [True, False])
async def test_what_a_connection_held_goes_with_it_and_not_with_the_collector(is_theirs: bool) -> None:
    """Part of a frame may be large, and the collector of a host comes seldom (``runtime.collector``)."""
    ours, theirs = (trio.SocketStream(each) for each in trio.socket.socketpair())
    loop, taker = Loop(), Taker()
    gone = weakref.ref(taker)
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection_over(ours).serve_frames, taker, loop)
            del taker
            await wait_all_tasks_blocked()
            await theirs.send_all(FRAMES[0][:20])
            await loop.turn()
            assert gone() is not None
            if is_theirs:
                await theirs.aclose()
                await loop.turn()
            else:
                nursery.cancel_scope.cancel()
        assert gone() is None
    finally:
        gc.enable()
    await ours.aclose()
    await theirs.aclose()
    loop.poller.close()


async def test_nothing_is_sent_to_a_file_that_got_the_number_of_a_closed_socket(tmp_path: Path) -> None:
    ours, theirs = (trio.SocketStream(each) for each in trio.socket.socketpair())
    connection, number = connection_over(ours), ours.socket.fileno()
    assert connection.send(FRAMES[0])
    await connection.aclose()
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    if fd != number:
        os.dup2(fd, number)
        os.close(fd)
    assert not connection.send(FRAMES[1])
    assert os.fstat(number).st_size == 0
    os.close(number)
    await theirs.aclose()


async def test_frames_that_came_with_the_hello_are_taken_first() -> None:
    ours, theirs = memory_stream_pair()
    connection, taken = connection_over(ours), list[bytes]()
    connection.unread(FRAMES[:2])
    await theirs.send_all(FRAMES[2])
    await theirs.send_eof()
    await connection.serve_frames(taken.extend, RoomForAll())
    assert taken == FRAMES[:3]


async def test_a_stream_that_is_no_socket_reads_on_when_there_is_room() -> None:
    ours, theirs = memory_stream_pair()
    readers, taken = RoomForAll(), list[bytes]()
    await theirs.send_all(FRAMES[0])
    await theirs.send_eof()
    await connection_over(ours).serve_frames(taken.extend, readers)
    assert (taken, readers.rooms) == ([FRAMES[0]], 1)
