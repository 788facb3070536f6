"""A connection: frames in, a bounded outbox out, one end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from shardraft.errors import ErrorCode, ProtocolError
from shardraft.transport.connection import Connection
from tests.transport.streams import FRAMES, TIMING, connection_over, read_to_end

pytestmark = pytest.mark.trio


async def nothing(_: Connection) -> None:
    """A body that ends at once."""


async def until_the_end(connection: Connection) -> None:
    while await connection.receive_frames():
        pass


async def for_ever(_: Connection) -> None:
    await trio.sleep_forever()


async def test_all_frames_of_one_receive_come_together_and_the_end_is_an_empty_list() -> None:
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    await theirs.send_all(b"".join(FRAMES))
    assert await connection.receive_frames() == FRAMES
    await theirs.send_all(FRAMES[0][:20])
    await theirs.send_eof()
    assert await connection.receive_frames() == []
    assert connection.bytes_received == len(b"".join(FRAMES)) + 20


async def test_a_frame_in_pieces_is_waited_for() -> None:
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def trickle() -> None:
            for place in range(len(FRAMES[0])):
                await theirs.send_all(FRAMES[0][place : place + 1])
                await wait_all_tasks_blocked()

        assert await connection.receive_frames() == [FRAMES[0]]


async def test_it_is_known_since_when_a_frame_is_incomplete(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    assert connection.incomplete_since is None
    await theirs.send_all(FRAMES[0] + FRAMES[1][:9])
    await connection.receive_frames()
    began = connection.incomplete_since
    assert began == trio.current_time()
    with trio.move_on_after(5):
        await theirs.send_all(FRAMES[1][9:10])
        await connection.receive_frames()
    assert connection.incomplete_since == began, "another byte does not renew it"
    await theirs.send_all(FRAMES[1][10:])
    assert await connection.receive_frames() == [FRAMES[1]]
    assert connection.incomplete_since is None


async def test_a_stream_closed_under_its_reader_is_an_end_like_any_other() -> None:
    ours, _theirs = memory_stream_pair()
    connection = connection_over(ours)
    await trio.aclose_forcefully(ours)
    assert await connection.receive_frames() == []


async def test_what_was_put_back_comes_first() -> None:
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    connection.unread(FRAMES[:2])
    await theirs.send_all(FRAMES[2])
    assert await connection.receive_frames() == FRAMES[:2]
    assert await connection.receive_frames() == [FRAMES[2]]


async def test_everything_queued_leaves_in_one_write() -> None:
    ours, theirs = memory_stream_pair()
    writes: list[int] = []
    deliver = ours.send_stream.send_all_hook
    assert deliver is not None

    async def count_and_deliver() -> None:
        writes.append(1)
        await deliver()

    ours.send_stream.send_all_hook = count_and_deliver
    connection = connection_over(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run_writer)
        await wait_all_tasks_blocked()
        assert [connection.send(frame) for frame in FRAMES] == [True] * 5
        assert bytes(await theirs.receive_some()) == b"".join(FRAMES)
        await wait_all_tasks_blocked()
        assert writes == [1]
        assert (connection.bytes_sent, connection.outbox_bytes) == (len(b"".join(FRAMES)), 0)
        nursery.cancel_scope.cancel()


async def test_a_full_outbox_refuses_and_keeps_what_it_has() -> None:
    ours, theirs = memory_stream_pair()
    size = len(FRAMES[0])
    connection = connection_over(ours, outbox_bytes_max=2 * size)
    assert [connection.send(frame) for frame in FRAMES[:3]] == [True, True, False]
    assert connection.outbox_bytes == 2 * size
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run_writer)
        await wait_all_tasks_blocked()
        assert connection.send(FRAMES[4])
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await ours.aclose()
    assert await read_to_end(theirs) == FRAMES[0] + FRAMES[1] + FRAMES[4]


async def test_bytes_on_their_way_count_as_waiting() -> None:
    ours, _theirs = lockstep_stream_pair()
    connection = connection_over(ours, outbox_bytes_max=len(FRAMES[0]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run_writer)
        connection.send(FRAMES[0])
        await wait_all_tasks_blocked()
        assert not connection.send(FRAMES[1]), "a reader that does not read must not make us hold two outboxes"
        nursery.cancel_scope.cancel()


async def test_what_is_queued_still_leaves_when_the_body_ends() -> None:
    ours, theirs = memory_stream_pair()

    async def speak(connection: Connection) -> None:
        connection.send(FRAMES[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection_over(ours).run, speak)
        assert await read_to_end(theirs) == FRAMES[0]
        await theirs.aclose()


async def test_close_ends_the_body_and_accepts_nothing_more() -> None:
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, for_ever)
        await wait_all_tasks_blocked()
        connection.send(FRAMES[0])
        connection.close()
        assert not connection.send(FRAMES[1])
        assert await read_to_end(theirs) == FRAMES[0]
        await theirs.aclose()


async def test_a_reader_that_does_not_read_keeps_a_closed_connection_for_the_linger_only(
    autojump_clock: MockClock,
) -> None:
    ours, _theirs = lockstep_stream_pair()
    connection = connection_over(ours)
    connection.send(FRAMES[0])
    started = trio.current_time()
    await connection.run(nothing)
    assert trio.current_time() - started == pytest.approx(TIMING.linger_ms / 1000)


async def test_what_still_arrives_after_a_close_is_swallowed() -> None:
    """Closing a TCP socket with unread bytes resets it and destroys the refusal that was sent last."""
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    connection.send(FRAMES[0])
    await theirs.send_all(bytes(200_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, nothing)
        assert await read_to_end(theirs) == FRAMES[0]
        await wait_all_tasks_blocked()
        await theirs.send_all(bytes(10))
        await theirs.aclose()


async def test_a_broken_line_cancels_the_body_and_is_no_error() -> None:
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, for_ever)
        await trio.aclose_forcefully(theirs)
        connection.send(FRAMES[0])
    assert connection.closing


async def test_an_error_of_the_body_leaves_as_itself() -> None:
    async def fail(_: Connection) -> None:
        raise KeyError("a fault")

    ours, theirs = memory_stream_pair()
    await theirs.aclose()
    with pytest.raises(KeyError, match="a fault"):
        await connection_over(ours).run(fail)


async def test_bytes_that_are_no_frames_end_the_body_with_a_typed_error() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"GET / HTTP/1.1\r\n\r\n")
    await theirs.send_eof()
    with pytest.raises(ProtocolError, match="an HTTP request"):
        await connection_over(ours).run(until_the_end)
    await theirs.aclose()


async def test_a_fault_found_by_another_task_is_raised_by_run() -> None:
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    raised: list[ProtocolError] = []

    async def run(body: Callable[[Connection], Awaitable[None]]) -> None:
        try:
            await connection.run(body)
        except ProtocolError as error:
            raised.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, for_ever)
        await wait_all_tasks_blocked()
        connection.fail(ProtocolError(ErrorCode.DEADLINE_EXCEEDED, "too slow"))
        connection.fail(ProtocolError(ErrorCode.OVERLOADED, "a second one"))
        await theirs.aclose()
    assert [str(error) for error in raised] == ["too slow"]


async def test_aclose_drops_what_is_queued() -> None:
    ours, theirs = memory_stream_pair()
    connection = connection_over(ours)
    connection.send(FRAMES[0])
    await connection.aclose()
    assert await read_to_end(theirs) == b""


async def test_a_cancelled_run_closes_the_stream() -> None:
    ours, theirs = memory_stream_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection_over(ours).run(for_ever)
    assert await read_to_end(theirs) == b""
