"""Writers of blocks, in Python and, where it was compiled, in C: written whole, told of in order, bounded."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from shardraft.runtime import writers
from shardraft.runtime.writers import WRITES_MAX, ThreadsWriter, Writer, make_writer

STOP_SECONDS: Final = 20.0
KINDS: Final = ["threads"] if writers._CompiledWriter is None else ["threads", "compiled"]


@pytest.fixture(params=KINDS)
def writer(request: pytest.FixtureRequest) -> Iterator[Writer]:
    writer = ThreadsWriter(4) if request.param == "threads" else make_writer()
    yield writer
    assert writer.stop(STOP_SECONDS)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_DSYNC)
    yield fd
    os.close(fd)


def finished(writer: Writer, count: int) -> list[int]:
    """Wait, as a loop does, until so many writes are finished."""
    poll = select.epoll()
    poll.register(writer.fileno(), select.EPOLLIN)
    found: list[int] = []
    while len(found) < count:
        assert poll.poll(STOP_SECONDS), "the file descriptor says when something is finished"
        found += writer.take_finished()
    poll.close()
    return found


def test_a_compiled_tree_writes_in_c() -> None:
    assert (type(make_writer()) is ThreadsWriter) is (writers._CompiledWriter is None)


def test_parts_are_written_behind_each_other_where_they_belong(writer: Writer, fd: int) -> None:
    writer.write(fd, (b"head", b"body" * 1000, b"!"), 10)
    writer.write(fd, (b"next",), 5000)
    assert finished(writer, 2) == [0, 0]
    assert os.pread(fd, 6000, 0) == bytes(10) + b"head" + b"body" * 1000 + b"!" + bytes(985) + b"next"


def test_what_is_written_is_kept_until_then_whoever_else_forgets_it(writer: Writer, fd: int) -> None:
    for number in range(WRITES_MAX):
        writer.write(fd, (b"%08d" % number * 10_000,), number * 80_000)
    assert finished(writer, WRITES_MAX) == [0] * WRITES_MAX
    for number in range(WRITES_MAX):
        assert os.pread(fd, 80_000, number * 80_000) == b"%08d" % number * 10_000


def test_results_come_in_the_order_in_which_writes_were_given(writer: Writer, fd: int) -> None:
    """A bad one is finished at once, and a large one before it takes a while."""
    for _ in range(20):
        writer.write(fd, (bytes(4 << 20),), 0)
        writer.write(-1, (b"bad",), 0)
        writer.write(fd, (b"good",), 0)
        assert finished(writer, 3) == [0, errno.EBADF, 0]


def test_nothing_is_finished_where_nothing_was_given(writer: Writer) -> None:
    assert writer.take_finished() == []


def test_more_writes_than_the_limit_are_refused_until_some_were_taken(writer: Writer, fd: int) -> None:
    for number in range(WRITES_MAX):
        writer.write(fd, (b"x",), number)
    with pytest.raises(RuntimeError, match="too many writes are under way"):
        writer.write(fd, (b"y",), 0)
    taken = len(finished(writer, 1))
    writer.write(fd, (b"z",), 0)
    assert len(finished(writer, WRITES_MAX - taken + 1)) == WRITES_MAX - taken + 1


def test_what_was_given_is_written_before_the_end_and_nothing_after_it(writer: Writer, fd: int) -> None:
    for number in range(WRITES_MAX):
        writer.write(fd, (b"%02d" % number,), 2 * number)
    assert writer.stop(STOP_SECONDS)
    assert os.pread(fd, 100, 0) == b"".join(b"%02d" % number for number in range(WRITES_MAX))
    assert writer.take_finished() == [0] * WRITES_MAX
    with pytest.raises(RuntimeError, match="the writer was stopped"):
        writer.write(fd, (b"x",), 0)


def test_a_file_that_is_full_says_so(writer: Writer) -> None:
    fd = os.open("/dev/full", os.O_RDWR)
    writer.write(fd, (b"x" * 100,), 0)
    assert finished(writer, 1) == [errno.ENOSPC]
    os.close(fd)


if writers._CompiledWriter is not None:

    def test_the_writer_in_c_refuses_what_it_cannot_hold(fd: int) -> None:
        writer = make_writer()
        for parts in ((b"1",) * 5, (bytearray(b"x"),), ("x",)):
            with pytest.raises((ValueError, TypeError)):
                writer.write(fd, parts, 0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="threads are 1 to 16"):
            type(writer)(17)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="seconds to wait"):
            writer.stop(float("nan"))
        assert writer.stop(STOP_SECONDS)


def test_a_thread_that_hangs_is_not_waited_for_longer_than_asked(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, hung = os.pipe()
    monkeypatch.setattr(writers, "write_all", lambda *_: os.read(reader, 1))
    writer = ThreadsWriter(1)
    writer.write(fd, (b"x",), 0)
    assert not writer.stop(0.01)
    assert writer.take_finished() == []
    os.write(hung, b"x")
    assert writer.stop(STOP_SECONDS)
    os.close(reader)
    os.close(hung)
