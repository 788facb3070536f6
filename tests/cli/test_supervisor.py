"""The supervisor keeps real processes running, hears what they say, and leaves none behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from shardraft.cli import supervisor as room
from shardraft.cli.supervisor import ChildCommand, Supervisor, ending_of, level_of, open_log, take_lock
from shardraft.types import Endpoint
from tests.dev_cluster import runs
from tests.eventually import eventually, eventually_async

pytestmark = pytest.mark.trio

STEADY = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
DYING = "raise SystemExit('error: the disk belongs to another')"


class Stage:
    """A supervisor of Python snippets, and what it said."""

    def __init__(self, directory: Path, lock: int, *codes: str, restart: bool = True) -> None:
        self.said: list[str] = []
        self.changes = 0
        commands = [
            ChildCommand(f"child-{number}", (sys.executable, "-c", code), directory / f"{number}.log")
            for number, code in enumerate(codes)
        ]
        self.supervisor = Supervisor(
            commands, lock=lock, restart=restart, say=self.said.append, changed=self._changed
        )
        self.children = list(self.supervisor.children.values())

    def _changed(self) -> None:
        self.changes += 1

    async def all_up(self) -> None:
        await eventually_async(self._all_up)

    async def _all_up(self) -> bool:
        return all(child.last_line == "up" for child in self.children)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def test_children_stop_by_themselves_when_asked(tmp_path: Path, lock: int) -> None:
    stage = Stage(tmp_path, lock, STEADY, STEADY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.supervisor.run)
        await stage.all_up()
        assert await stage.supervisor.stop()
        nursery.cancel_scope.cancel()
    assert [child.process.returncode for child in stage.children if child.process] == [0, 0]
    assert stage.said == []


async def test_a_child_that_does_not_stop_is_killed(
    tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "STOP_SECONDS_MAX", 0.2)
    stage = Stage(tmp_path, lock, STUBBORN)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.supervisor.run)
        await stage.all_up()
        assert not await stage.supervisor.stop()
        nursery.cancel_scope.cancel()
    assert not runs(stage.children[0].pid)
    assert "did not stop within" in stage.said[0]


async def test_a_dead_child_is_started_again(tmp_path: Path, lock: int) -> None:
    stage = Stage(tmp_path, lock, STEADY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.supervisor.run)
        await stage.all_up()
        first = stage.children[0].pid
        stage.children[0].send_signal(signal.SIGKILL)

        async def is_another() -> bool:
            return stage.children[0].pid not in (0, first)

        await eventually_async(is_another)
        nursery.cancel_scope.cancel()
    assert stage.said == [f"child-0 (pid {first}) was killed by SIGKILL; starting it again in 0.2 s"]
    assert stage.changes == 2


async def test_a_dead_child_stays_dead_when_nothing_is_restarted(tmp_path: Path, lock: int) -> None:
    stage = Stage(tmp_path, lock, STEADY, restart=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.supervisor.run)
        await stage.all_up()
        stage.children[0].send_signal(signal.SIGKILL)

        async def is_dead() -> bool:
            return stage.said != []

        await eventually_async(is_dead)
        assert await stage.supervisor.stop()
        nursery.cancel_scope.cancel()
    assert stage.said[0].endswith("leaving it dead")
    assert stage.changes == 1


async def test_a_child_that_dies_at_once_is_known_with_its_last_words(tmp_path: Path, lock: int) -> None:
    stage = Stage(tmp_path, lock, STEADY, DYING, restart=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.supervisor.run)

        async def has_died() -> bool:
            return stage.supervisor.deaths_before_use() is not None

        await eventually_async(has_died)
        dead = stage.supervisor.deaths_before_use()
        nursery.cancel_scope.cancel()
    assert dead is stage.children[1]
    assert dead.last_line == "error: the disk belongs to another"
    assert "child-1: error: the disk belongs to another" in stage.said


async def test_cancelling_kills_every_child(tmp_path: Path, lock: int) -> None:
    stage = Stage(tmp_path, lock, STUBBORN, STUBBORN)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.supervisor.run)
        await stage.all_up()
        nursery.cancel_scope.cancel()
    assert not any(runs(child.pid) for child in stage.children)


async def test_what_a_child_says_is_in_its_log_and_warnings_are_repeated(tmp_path: Path, lock: int) -> None:
    code = "print('2026-01-01 10:00:00,123 info    began'); print('2026-01-01 10:00:00,124 warning disk-slow ms=900')"
    stage = Stage(tmp_path, lock, code, restart=False)
    stage.supervisor.alarming = ("warning",)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.supervisor.run)

        async def has_ended() -> bool:
            return len(stage.said) == 2

        await eventually_async(has_ended)
        nursery.cancel_scope.cancel()
    assert (tmp_path / "0.log").read_text().count("\n") == 2
    assert stage.said[0] == "child-0: 2026-01-01 10:00:00,124 warning disk-slow ms=900"
    assert stage.said[1].endswith("ended with exit code 0; leaving it dead")


async def test_a_child_waits_for_those_it_comes_after(tmp_path: Path, lock: int) -> None:
    port = free_port()
    listening = f"import signal, socket; s = socket.create_server(('127.0.0.1', {port})); print('up', flush=True)"
    commands = [
        ChildCommand("second", (sys.executable, "-c", STEADY), tmp_path / "2", (Endpoint("127.0.0.1", port),)),
        ChildCommand("first", (sys.executable, "-c", f"{listening}; signal.pause()"), tmp_path / "1"),
    ]
    order: list[str] = []

    def changed() -> None:
        order.extend(child.name for child in supervisor.children.values() if child.pid and child.name not in order)

    supervisor = Supervisor(commands, lock=lock, restart=False, say=print, changed=changed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)

        async def both_run() -> bool:
            return len(order) == 2

        await eventually_async(both_run)
        nursery.cancel_scope.cancel()
    assert order == ["first", "second"]


async def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    child = "from shardraft.cli.serve import _stop_when_input_ends as f; print('up', flush=True); f()"
    program = f"""
        import os, sys, trio
        from pathlib import Path
        from shardraft.cli.supervisor import ChildCommand, Supervisor, take_lock

        async def main():
            lock = await take_lock(Path({str(tmp_path)!r}) / "lock")
            command = ChildCommand("child", (sys.executable, "-c", {child!r}), Path({str(tmp_path)!r}) / "log")
            supervisor = Supervisor(
                [command], lock=lock, restart=True, say=print,
                changed=lambda: print(supervisor.children["child"].pid, flush=True))
            await supervisor.run()

        trio.run(main)
    """
    log = tmp_path / "log"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        eventually(lambda: log.exists() and log.read_text() == "up\n")
    finally:
        process.kill()
        process.communicate()
    eventually(lambda: not runs(pid))
    # The lock is free only now that the child is gone too.
    os.close(await take_lock(tmp_path / "lock"))


async def test_a_data_directory_in_use_is_refused_and_says_by_whom(tmp_path: Path) -> None:
    held = await take_lock(tmp_path / "lock")
    with pytest.raises(BlockingIOError, match=f"in use by another shardraft dev .pid {os.getpid()}."):
        await take_lock(tmp_path / "lock")
    os.close(held)
    os.close(await take_lock(tmp_path / "lock"))


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-11-23 09:00:00,001 warning refused host=1", "warning"),
        ("2026-11-23 09:00:00,001 error   disk-failed host=1", "error"),
        ("2026-11-23 09:00:00,001 info    became-leader reason=error", "info"),
        ('{"time": "2026-11-23T09:00:00", "level": "warning", "event": "refused"}', "warning"),
        ('{"time": "2026-11-23T09:00:00", "level": "info", "event": "error"}', "info"),
        ("error: the disk belongs to another", "error"),
        ("{not json", ""),
        ("[]", ""),
        ("", ""),
    ],
)
async def test_the_level_of_a_line_is_known_in_either_format(line: str, level: str) -> None:
    assert level_of(line) == level


async def test_how_a_process_ended_is_said_in_words() -> None:
    assert ending_of(0) == "ended with exit code 0"
    assert ending_of(-9) == "was killed by SIGKILL"
    assert ending_of(-250) == "was killed by signal 250"


async def test_a_long_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOG_BYTES_MAX", 10)
    path = tmp_path / "host.log"
    path.write_bytes(b"x" * 11)
    open_log(path).close()
    assert path.read_bytes() == b""
    assert (tmp_path / "host.log.1").read_bytes() == b"x" * 11
