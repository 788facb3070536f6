"""A listener: every fault ends its own connection, with a sentence where one can arrive, and no other."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from shardraft.config import Limits, TransportConfig
from shardraft.errors import DeadlineExceeded, ErrorCode, InvalidArgument, ProtocolError, TooLarge
from shardraft.kv.requests import ErrorReply
from shardraft.transport.connection import Connection
from shardraft.transport.notes import ConnectionRefused, HandlerFailed
from shardraft.transport.sockets import bound_endpoint, check_listen_address, connect_tcp, open_listeners
from shardraft.types import Endpoint
from shardraft.wire.client import decode_reply
from shardraft.wire.framing import FrameDecoder
from shardraft.wire.hello import Hello, HelloReply, Role, decode_hello_reply, encode_hello
from tests.transport.streams import FRAMES, TIMING, NobodyCalls, echo, read_to_end, server_in

pytestmark = pytest.mark.trio


async def refused_hello(stream: trio.abc.HalfCloseableStream) -> HelloReply:
    answer = await read_to_end(stream)
    await stream.aclose()
    return decode_hello_reply(answer)


async def test_a_greeted_connection_is_served() -> None:
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        connection = await server.greeted()
        connection.send(FRAMES[0])
        assert await connection.receive_frames() == [FRAMES[0]]
        assert server.listener.connections == 1
        await connection.aclose()
        await wait_all_tasks_blocked()
        assert server.listener.connections == 0
        assert server.notes == []


async def test_a_side_that_says_nothing_is_closed_at_the_handshake_timeout(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        started = trio.current_time()
        reply = await refused_hello(server.dial())
        assert trio.current_time() - started == pytest.approx(TIMING.handshake_timeout_ms / 1000)
        assert reply.error is not None
        assert reply.error.code is ErrorCode.DEADLINE_EXCEEDED
        await wait_all_tasks_blocked()
        [note] = server.notes
        assert isinstance(note, ConnectionRefused)
        assert note.text == "said no hello within 5 s"


async def test_a_hello_byte_by_byte_does_not_stretch_the_handshake(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        stream = server.dial()
        started = trio.current_time()

        @nursery.start_soon
        async def trickle() -> None:
            for place in range(len(encode_hello(Hello(role=Role.CLIENT)))):
                with trio.move_on_after(1):
                    await trio.sleep_forever()
                await stream.send_all(encode_hello(Hello(role=Role.CLIENT))[place : place + 1])

        await read_to_end(stream)
        assert trio.current_time() - started == pytest.approx(TIMING.handshake_timeout_ms / 1000)
        nursery.cancel_scope.cancel()


async def test_a_stranger_may_send_no_more_than_a_hello() -> None:
    """Until the hello is answered a frame is 4 KiB at most, whatever the limit for others."""
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        stream = server.dial()
        await stream.send_all(b"\0\0\0\0" + (1024).to_bytes(4, "little") + bytes(100))
        reply = await refused_hello(stream)
        assert reply.error is not None
        assert reply.error.code is ErrorCode.TOO_LARGE


async def test_a_client_is_told_when_its_frame_is_too_slow_and_others_are_not_closed(autojump_clock: MockClock) -> None:
    seconds = TIMING.frame_timeout_ms / 1000
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        nursery.start_soon(server.listener.serve, [NobodyCalls()])
        slow, idle = await server.greeted(), await server.greeted()
        slow.send(FRAMES[0][:9])
        started = trio.current_time()
        [answer] = await slow.receive_frames()
        reply = decode_reply(answer)
        assert isinstance(reply, ErrorReply)
        assert isinstance(reply.error, DeadlineExceeded)
        assert await slow.receive_frames() == []
        assert seconds <= trio.current_time() - started <= 1.25 * seconds
        await slow.aclose()
        await wait_all_tasks_blocked()
        assert server.notes == [
            ConnectionRefused("", ErrorCode.DEADLINE_EXCEEDED, "a frame was not complete within 30 s")
        ]
        idle.send(FRAMES[1])
        assert await idle.receive_frames() == [FRAMES[1]]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("bad", "error_class"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", InvalidArgument),
        (b"\x16\x03\x01\x02\x00\x01\x00", InvalidArgument),
        (bytes(8), InvalidArgument),
        (b"\xff\xff\xff\xff", InvalidArgument),
        (b"\x57\x02\0\0", InvalidArgument),
        (b"\0\0\0\0\xff\xff\xff\xff", TooLarge),
    ],
    ids=["http", "tls", "length 0", "2**32 segments", "600 segments", "32 GiB"],
)
async def test_bad_frames_of_a_client_are_answered_and_end_its_connection_only(
    bad: bytes, error_class: type[Exception]
) -> None:
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        good, guilty = await server.greeted(), await server.greeted()
        guilty.send(bad)
        [answer] = await guilty.receive_frames()
        reply = decode_reply(answer)
        assert isinstance(reply, ErrorReply)
        assert reply.request_id == 0
        assert isinstance(reply.error, error_class)
        assert reply.error.applied == "no"
        assert await guilty.receive_frames() == []
        good.send(FRAMES[1])
        assert await good.receive_frames() == [FRAMES[1]]
        await guilty.aclose()
        await wait_all_tasks_blocked()
        assert [type(note) for note in server.notes] == [ConnectionRefused]
        nursery.cancel_scope.cancel()


async def test_a_frame_cut_off_by_the_end_is_dropped_quietly() -> None:
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        connection = await server.greeted()
        connection.send(FRAMES[0][:20])
        await wait_all_tasks_blocked()
        await connection.aclose()
        await wait_all_tasks_blocked()
        assert (server.listener.connections, server.notes) == (0, [])


async def test_a_peer_that_breaks_the_protocol_is_closed_without_a_reply_of_the_client_protocol() -> None:
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        connection = await server.greeted(Role.PEER)
        connection.send(bytes(8))
        assert await connection.receive_frames() == []
        nursery.cancel_scope.cancel()


async def test_a_fault_of_the_handler_ends_one_connection() -> None:
    async def stumble(connection: Connection, hello: Hello) -> None:
        if hello.role is Role.LEARNER:
            raise ZeroDivisionError("a fault")
        await echo(connection, hello)

    async with trio.open_nursery() as nursery:
        server = server_in(nursery, stumble)
        good, guilty = await server.greeted(), await server.greeted(Role.LEARNER)
        assert await guilty.receive_frames() == []
        await guilty.aclose()
        await wait_all_tasks_blocked()
        [note] = server.notes
        assert isinstance(note, HandlerFailed)
        assert isinstance(note.error, ZeroDivisionError)
        good.send(FRAMES[1])
        assert await good.receive_frames() == [FRAMES[1]]
        nursery.cancel_scope.cancel()


async def test_a_protocol_error_of_the_handler_is_told_to_the_client() -> None:
    async def refuse(_: Connection, __: Hello) -> None:
        raise ProtocolError(ErrorCode.INVALID_ARGUMENT, "the frame is no request of this protocol")

    async with trio.open_nursery() as nursery:
        connection = await server_in(nursery, refuse).greeted()
        [answer] = await connection.receive_frames()
        reply = decode_reply(answer)
        assert isinstance(reply, ErrorReply)
        assert str(reply.error) == "the frame is no request of this protocol"
        nursery.cancel_scope.cancel()


async def test_one_connection_too_many_is_told_so_and_the_others_stay() -> None:
    async with trio.open_nursery() as nursery:
        server = server_in(nursery, limits=Limits(connections_max=2))
        first, second = await server.greeted(), await server.greeted()
        reply = await refused_hello(server.dial())
        assert reply.error is not None
        assert reply.error.code is ErrorCode.OVERLOADED
        await second.aclose()
        await wait_all_tasks_blocked()
        third = await server.greeted()
        for connection in (first, third):
            connection.send(FRAMES[0])
            assert await connection.receive_frames() == [FRAMES[0]]
        nursery.cancel_scope.cancel()


async def test_so_many_too_many_that_they_are_closed_without_a_word(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = server_in(nursery, limits=Limits(connections_max=1), timing=TransportConfig(refusals_max=2))
        await server.greeted()
        streams = [server.dial() for _ in range(50)]
        answers = [await read_to_end(stream) for stream in streams]
        assert sum(1 for answer in answers if answer) == 2
        assert server.listener.connections == 1
        nursery.cancel_scope.cancel()


async def test_a_client_that_never_reads_costs_one_outbox_and_is_closed(autojump_clock: MockClock) -> None:
    refusals: list[int] = []

    async def flood(connection: Connection, _: Hello) -> None:
        while connection.send(FRAMES[0]):
            pass
        refusals.append(connection.outbox_bytes)
        connection.close()

    limits = Limits(outbox_bytes_max=64 * len(FRAMES[0]))
    async with trio.open_nursery() as nursery:
        server = server_in(nursery, flood, limits)
        connection = await server.greeted()
        await wait_all_tasks_blocked()
        [waiting] = refusals
        assert limits.outbox_bytes_max - len(FRAMES[0]) < waiting <= limits.outbox_bytes_max
        await connection.aclose()


async def test_stop_sends_what_is_queued_and_returns_when_all_are_gone(autojump_clock: MockClock) -> None:
    async def wait(connection: Connection, _: Hello) -> None:
        connection.send(FRAMES[0])
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server = server_in(nursery, wait)
        nursery.start_soon(server.listener.serve, [NobodyCalls()])
        connection = await server.greeted()
        server.listener.stop()
        assert await connection.receive_frames() == [FRAMES[0]]
        assert await connection.receive_frames() == []
        late = server.dial()
        assert await read_to_end(late) == b""
        await connection.aclose()
        nursery.cancel_scope.cancel()


async def test_a_real_socket_is_served_and_stop_ends_serve() -> None:
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        listeners = await open_listeners(Endpoint("127.0.0.1", 0))
        await nursery.start(server.listener.serve, listeners)
        stream = await connect_tcp(bound_endpoint(listeners[0]), TIMING)
        await stream.send_all(encode_hello(Hello(role=Role.CLIENT)))
        decoder = FrameDecoder(1 << 20)
        [answer] = decoder.feed(await stream.receive_some())
        assert decode_hello_reply(answer).host == 1
        await stream.send_all(b"".join(FRAMES))
        echoed: list[bytes] = []
        while len(echoed) < len(FRAMES):
            echoed += decoder.feed(await stream.receive_some())
        assert echoed == FRAMES
        server.listener.stop()
        assert await stream.receive_some() == b""
        await stream.aclose()


async def test_a_refusal_survives_unread_bytes_on_a_real_socket() -> None:
    """The kernel resets a connection that is closed with unread bytes; the refusal must arrive nevertheless."""
    async with trio.open_nursery() as nursery:
        server = server_in(nursery)
        listeners = await open_listeners(Endpoint("127.0.0.1", 0))
        await nursery.start(server.listener.serve, listeners)
        stream = await connect_tcp(bound_endpoint(listeners[0]), TIMING)
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n" + bytes(150_000))
        reply = await refused_hello(stream)
        assert reply.error is not None
        assert "an HTTP request" in reply.error.text
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
async def test_loopback_needs_no_permission(host: str) -> None:
    check_listen_address(host, insecure=False)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "a.example", "localhost.example", "2001:db8::1"])
async def test_anything_else_must_be_called_insecure_by_name(host: str) -> None:
    check_listen_address(host, insecure=True)
    with pytest.raises(InvalidArgument, match=r"refusing to listen on .*--insecure"):
        check_listen_address(host, insecure=False)
    with pytest.raises(InvalidArgument):
        await open_listeners(Endpoint(host, 0))
