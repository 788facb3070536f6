"""Starts child processes, keeps them running, collects what they log, and never leaves one behind.

A child is started with a pipe as its standard input and ``--exit-with-parent``: whatever happens to
this process, the pipe closes with it and the child stops. A child also holds the data directory's
lock, so the next supervisor waits until the last of them is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

import attrs
import trio

from shardraft.types import Endpoint

STOP_SECONDS_MAX: Final = 10.0
"""A child that has not stopped this long after SIGTERM is killed."""
BACK_OFF_SECONDS: Final = 0.1
BACK_OFF_SECONDS_MAX: Final = 5.0
"""How long to wait before starting a dead child again: doubled with each quick death, up to this."""
STEADY_SECONDS: Final = 10.0
"""A child that ran for this long is started again without much waiting."""
AFTER_SECONDS_MAX: Final = 5.0
"""A child that is to start after others is started after this long in any case."""
LOG_BYTES_MAX: Final = 16 << 20
"""A child's log file above this becomes ``*.log.1`` when the child is started."""
LINE_BYTES_MAX: Final = 64 << 10
"""A longer line of a child's log is cut into pieces of this size."""
_LISTEN: Final = "0A"
"""How the kernel calls the state of a listening socket (``TCP_LISTEN``)."""
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


@attrs.frozen(slots=True)
class ChildCommand:
    """One process to run: the name it has in messages, its command line, and the file its log goes to.

    ``after``: it is first started when one of these endpoints is listened on, or after a short while.
    """

    name: str
    command: tuple[str, ...]
    log_path: Path
    after: tuple[Endpoint, ...] = ()


class Child:
    """One supervised process; ``pid`` is 0 while it does not run."""

    def __init__(self, command: ChildCommand) -> None:
        self.command = command
        self.pid = 0
        self.last_line = ""
        self.quick_deaths = 0
        self.process: trio.Process | None = None

    @property
    def name(self) -> str:
        return self.command.name

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None


class Supervisor:
    """Owns all children. ``say`` prints one line; ``changed`` is called when a child got another pid.

    Lines of children at a level in ``alarming`` are said too; all of them are in their log files.
    """

    def __init__(
        self,
        commands: Sequence[ChildCommand],
        *,
        lock: int,
        restart: bool,
        say: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self.children = {command.name: Child(command) for command in commands}
        self._lock = lock
        self._restart = restart
        self._say = say
        self._changed = changed
        self._stopping = False
        self.alarming: tuple[str, ...] = LEVELS[3:]

    async def run(self) -> None:
        """Run all children until ``stop``, or until cancelled, which kills them."""
        async with trio.open_nursery() as nursery:
            for child in self.children.values():
                nursery.start_soon(self._keep_running, child)

    def deaths_before_use(self) -> Child | None:
        """A child that died at once, again and again (or once, when nothing is restarted), if there is one."""
        allowed = 4 if self._restart else 0
        return next((child for child in self.children.values() if child.quick_deaths > allowed), None)

    async def stop(self) -> bool:
        """Ask all children to stop, wait, and kill those that do not; whether all stopped by themselves."""
        self._stopping = True
        for child in self.children.values():
            child.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_SECONDS_MAX):
            for child in self.children.values():
                if child.process is not None:
                    await child.process.wait()
        slow = [child for child in self.children.values() if child.runs]
        for child in slow:
            self._say(f"{child.name} (pid {child.pid}) did not stop within {STOP_SECONDS_MAX:.0f} s; killing it")
            child.send_signal(signal.SIGKILL)
        return not slow

    async def _keep_running(self, child: Child) -> None:
        if child.command.after:
            await someone_listens(child.command.after)
        back_off = BACK_OFF_SECONDS
        while not self._stopping:
            started = time.monotonic()
            code = await self._run_once(child)
            if self._stopping:
                return
            steady = time.monotonic() - started >= STEADY_SECONDS
            child.quick_deaths = 0 if steady else child.quick_deaths + 1
            back_off = BACK_OFF_SECONDS if steady else min(2 * back_off, BACK_OFF_SECONDS_MAX)
            what_next = f"starting it again in {back_off:.1f} s" if self._restart else "leaving it dead"
            self._say(f"{child.name} (pid {child.pid}) {ending_of(code)}; {what_next}")
            child.pid = 0
            if not self._restart:
                return
            await trio.sleep(back_off)

    async def _run_once(self, child: Child) -> int:
        process = await trio.lowlevel.open_process(
            child.command.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C in the terminal reaches this process only, which then stops its children.
            pass_fds=(self._lock,),
        )
        child.process = process
        child.pid = process.pid
        self._changed()
        try:
            await self._collect_log(child, process)
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
            assert process.stdin is not None
            assert process.stdout is not None
            with trio.CancelScope(shield=True):
                await process.stdin.aclose()
                await process.stdout.aclose()

    async def _collect_log(self, child: Child, process: trio.Process) -> None:
        assert process.stdout is not None
        with open_log(child.command.log_path) as log:
            rest = b""
            async for data in process.stdout:
                log.write(data)
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > LINE_BYTES_MAX:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._heard(child, line.decode("utf-8", "replace").rstrip())
            if rest:
                self._heard(child, rest.decode("utf-8", "replace"))

    def _heard(self, child: Child, line: str) -> None:
        if not line:
            return
        child.last_line = line
        level = level_of(line)
        if level in self.alarming:
            self._say(f"{child.name}: {line}")


def level_of(line: str) -> str:
    """The level of a log line in either format, or of an error printed before logging began; "" if it has none."""
    if line.startswith("{"):
        try:
            value = json.loads(line)
        except ValueError:
            return ""
        return str(value.get("level", "")).lower() if isinstance(value, dict) else ""
    words = line.lower().split(maxsplit=3)[:3]
    return next((word.strip(":") for word in words if word.strip(":") in LEVELS), "")


def ending_of(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def open_log(path: Path) -> IO[bytes]:
    """The log file to append to, unbuffered; a long one is set aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))
    return open(path, "ab", buffering=0)


async def someone_listens(endpoints: Sequence[Endpoint]) -> None:
    """Wait until one of these local endpoints is listened on, but not for ever."""
    ports = {endpoint.port for endpoint in endpoints}
    with trio.move_on_after(AFTER_SECONDS_MAX):
        while ports.isdisjoint(listening_ports()):
            await trio.sleep(0.05)


def listening_ports() -> set[int]:
    """The TCP ports that anyone on this machine listens on, as the kernel lists them; nobody is connected to."""
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:  # A kernel without IPv6.
            continue
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == _LISTEN:
                ports.add(int(local.rpartition(":")[2], 16))
    return ports


async def take_lock(path: Path) -> int:
    """Lock a data directory and return the lock's descriptor, which children inherit.

    The lock is free once the supervisor and all of its children are gone. When only children are
    left they are about to stop, so that is waited for; ``BlockingIOError`` says that it is in use.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for waited in range(10 * int(STOP_SECONDS_MAX + 5)):
            if _try_lock(descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return descriptor
            if waited > 5 and _holder_runs(descriptor):
                break
            await trio.sleep(0.1)
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace")
        raise BlockingIOError(f"{path.parent} is in use by another shardraft dev (pid {holder or 'unknown'})")
    except BaseException:
        os.close(descriptor)
        raise


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder_runs(descriptor: int) -> bool:
    holder = os.pread(descriptor, 20, 0)
    return holder.isdigit() and Path(f"/proc/{int(holder)}").exists()
