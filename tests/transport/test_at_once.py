"""Sockets that are read and written without waiting, by the functions in Python and, where they were compiled, in C."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from random import Random
from typing import Any

import attrs
import pytest

from shardraft.transport import at_once

COMPILED = "shardraft.transport.socket_calls"


@attrs.frozen
class Functions:
    """One kind of both functions."""

    read: Callable[[int], bytes | None]
    write: Callable[[int, bytes], int]


IN_PYTHON = Functions(at_once.read_in_python, at_once.write_in_python)
IN_C: list[Any] = [import_module(COMPILED)] if find_spec(COMPILED) else []
BOTH = [IN_PYTHON, *(Functions(module.read_at_once, module.write_at_once) for module in IN_C)]


@pytest.fixture(params=BOTH, ids=["python", "c"][: len(BOTH)])
def functions(request: pytest.FixtureRequest) -> Functions:
    assert isinstance(request.param, Functions)
    return request.param


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of one connection over loopback, which do not block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.create_connection(server.getsockname())
        right, _ = server.accept()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


def test_those_in_use_are_the_compiled_ones_where_there_are_any() -> None:
    assert (at_once.read_at_once, at_once.write_at_once) == (BOTH[-1].read, BOTH[-1].write)


def test_what_was_written_is_read(functions: Functions, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    assert functions.write(left.fileno(), b"") == 0
    assert functions.write(left.fileno(), b"some bytes") == 10
    assert functions.read(right.fileno()) == b"some bytes"


def test_nothing_to_read_is_none_and_the_end_is_empty(
    functions: Functions, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    assert functions.read(right.fileno()) is None
    left.shutdown(socket.SHUT_WR)
    assert functions.read(right.fileno()) == b""


def test_the_kernel_takes_what_it_has_room_for_and_all_of_it_arrives_in_order(
    functions: Functions, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    data = Random(1).randbytes(32 << 20)
    sent = functions.write(left.fileno(), data)
    assert 0 < sent < len(data)
    while taken := functions.write(left.fileno(), data[sent:]):
        sent += taken
    received = []
    while (part := functions.read(right.fileno())) is not None:
        received.append(part)
        assert 0 < len(part) <= 256 << 10
    assert b"".join(received) == data[:sent]


def test_a_broken_connection_takes_nothing_and_is_at_its_end(
    functions: Functions, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    left.close()  # The other end is reset.
    assert functions.read(right.fileno()) == b""
    assert functions.write(right.fileno(), b"some bytes") == 0


def test_a_descriptor_that_is_none_is_an_end_too(functions: Functions) -> None:
    with socket.socket() as closed:
        fd = closed.fileno()
    for number in (fd, -1):
        assert functions.read(number) == b""
        assert functions.write(number, b"some bytes") == 0


def test_the_functions_in_c_refuse_what_is_no_descriptor_and_what_are_no_bytes() -> None:
    for module in IN_C:
        for number in (-2, 1 << 31, 1 << 64):
            with pytest.raises((ValueError, OverflowError)):
                module.read_at_once(number)
            with pytest.raises((ValueError, OverflowError)):
                module.write_at_once(number, b"")
        with pytest.raises(TypeError):
            module.read_at_once("7")
        for wrong in ((1,), (1, "text"), (1, b"", 2), ("1", b"")):
            with pytest.raises(TypeError):
                module.write_at_once(*wrong)


def test_the_functions_in_c_do_not_wait_for_a_socket_that_blocks(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    left.setblocking(True)
    right.setblocking(True)
    for module in IN_C:
        assert module.read_at_once(right.fileno()) is None
        assert 0 < module.write_at_once(left.fileno(), bytes(32 << 20)) < 32 << 20
