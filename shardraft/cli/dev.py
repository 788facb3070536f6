"""``shardraft dev``: a real local cluster, one process per host and learner, supervised."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import click
import trio

from shardraft.cli.common import SHARDS_MAX, default_data_dir, host_count, tiers
from shardraft.cli.failures import EXIT_REFUSED
from shardraft.cli.layout import Layout, Place, Wish, port_is_free, settle, write_atomically
from shardraft.cli.readiness import is_ready
from shardraft.cli.supervisor import LEVELS, ChildCommand, Supervisor, take_lock

READY_POLL_SECONDS = 0.1
SLOW_START_SECONDS = 30.0
"""After this long without a working cluster the terminal is told that it is still waiting."""


@attrs.frozen(slots=True)
class DevOptions:
    """What ``shardraft dev`` was asked for."""

    data_dir: Path
    wish: Wish
    ready_file: Path | None
    restart: bool
    log_level: str
    log_format: str


@click.command("dev")
@click.option("--hosts", type=host_count, metavar="1|3|5", help="Voter hosts.  [default: 3]")
@click.option("--shards", type=click.IntRange(1, SHARDS_MAX), metavar="N", help="Shards.  [default: 8]")
@click.option("--learners", type=tiers, metavar="N,N,...", help="Learners of tier 1, 2, ...  [default: 2,2]")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the cluster's data stays.  [default: shardraft/dev in the user's data directory]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_000),
    metavar="N",
    help="The first of consecutive ports.  [default: ports that are free]",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write the cluster's places and process ids here, as JSON, once all of it works.",
)
@click.option("--no-restart", is_flag=True, help="Leave a dead process dead.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def dev_command(
    hosts: int | None,
    shards: int | None,
    learners: tuple[int, ...] | None,
    data_dir: Path | None,
    port: int | None,
    ready_file: Path | None,
    no_restart: bool,
    log_level: str,
    log_format: str,
) -> int:
    """Start a whole local cluster and watch over it.

    One process per host and learner, on loopback, with real disks. The data and the ports stay:
    the next start with the same --data-dir goes on where this one stopped. Ctrl-C stops it.
    """
    options = DevOptions(
        (data_dir or default_data_dir()).absolute(),
        Wish(hosts, shards, learners, port),
        ready_file,
        not no_restart,
        log_level,
        log_format,
    )
    return trio.run(_dev, options)


def command_of(place: Place, layout: Layout, options: DevOptions) -> ChildCommand:
    """The command line that runs one process of the cluster."""
    kind = "learner" if place.tier else "host"
    command = [sys.executable, "-m", "shardraft", kind, "--exit-with-parent", "--id", str(place.host)]
    command += ["--listen", str(place.endpoint), "--data-dir", str(options.data_dir / place.name)]
    command += ["--log-level", options.log_level, "--log-format", options.log_format]
    if place.tier:
        command += ["--parent", ",".join(str(each) for each in layout.parents_of(place))]
    else:
        command += ["--shards", str(layout.shards), "--cluster", layout.cluster_token]
        for peer in layout.hosts:
            command += ["--peer", f"{peer.host}={peer.endpoint}"]
    log_path = options.data_dir / "logs" / f"{place.name}.log"
    return ChildCommand(place.name, tuple(command), log_path, layout.parents_of(place) if place.tier else ())


async def _dev(options: DevOptions) -> int:
    if options.ready_file is not None:
        options.ready_file.unlink(missing_ok=True)
    lock = await take_lock(options.data_dir / "dev.lock")
    layout = settle(options.data_dir, options.wish)
    for place in layout.places:
        if not port_is_free(place.endpoint.port):
            raise click.UsageError(f"{place.name} belongs on {place.endpoint}, and another program listens there")
    return await Dev(options, layout, lock).run()


class Dev:
    """One run of the local cluster, from the first process started to the last one stopped."""

    def __init__(self, options: DevOptions, layout: Layout, lock: int) -> None:
        self.options = options
        self.layout = layout
        self.ready = False
        self.exit_code = 0
        self.finished = trio.Event()
        self.supervisor = Supervisor(
            [command_of(place, layout, options) for place in layout.places],
            lock=lock,
            restart=options.restart,
            say=say,
            changed=self.write_ready_file,
        )

    async def run(self) -> int:
        """Run until a signal comes, or the cluster proves unable to start; the exit code."""
        say(
            f"starting {len(self.layout.hosts)} hosts, {self.layout.shards} shards and "
            f"{len(self.layout.learners)} learners; data in {self.options.data_dir}"
        )
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.supervisor.run)
                nursery.start_soon(self.watch_start)
                nursery.start_soon(self.watch_signals, signals, nursery.cancel_scope)
                await self.finished.wait()
                if self.options.ready_file is not None:
                    self.options.ready_file.unlink(missing_ok=True)
                if not await self.supervisor.stop():
                    self.exit_code = EXIT_REFUSED
                nursery.cancel_scope.cancel()
        say("stopped")
        return self.exit_code

    async def watch_signals(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """The first signal stops the cluster, a second one does not wait for it."""
        async for number in signals:
            if self.finished.is_set():
                say("killing what is left")
                scope.cancel()
            say(f"{signal.Signals(number).name}: stopping the cluster")
            self.finished.set()

    async def watch_start(self) -> None:
        """Wait until the cluster works, then say so; give up when it cannot start."""
        started = time.monotonic()
        patience = SLOW_START_SECONDS
        while not self.finished.is_set():
            dead = self.supervisor.deaths_before_use()
            if dead is not None:
                text = f"{dead.name} does not start: {dead.last_line} (see {dead.command.log_path})"
                print(f"error: {text}", file=sys.stderr)
                self.exit_code = EXIT_REFUSED
                self.finished.set()
                return
            if await is_ready(self.layout):
                self.ready = True
                # Before this, processes that look for each other in vain are nothing to be alarmed about.
                self.supervisor.alarming = LEVELS[2:]
                self.write_ready_file()
                self.announce(time.monotonic() - started)
                return
            if time.monotonic() - started > patience:
                say(f"still not ready after {patience:.0f} s; the logs are in {self.options.data_dir / 'logs'}")
                patience *= 2
            await trio.sleep(READY_POLL_SECONDS)

    def announce(self, seconds: float) -> None:
        """Print where everything listens and what to do next."""
        for place in self.layout.places:
            role = f"tier {place.tier} below {place.parent}" if place.tier else "voter"
            pid = self.supervisor.children[place.name].pid
            say(f"  {place.name:<12} {place.endpoint!s:<18} pid {pid:<8} {role}")
        say(f"ready after {seconds:.1f} s. Try, in another terminal:")
        if self.options.data_dir != default_data_dir():
            say(f"  export SHARDRAFT_ENDPOINT={','.join(str(place.endpoint) for place in self.layout.hosts)}")
        say("  shardraft put hello world && shardraft get hello")
        say("  shardraft status")
        say("Ctrl-C stops the cluster and keeps its data.")

    def write_ready_file(self) -> None:
        """Write the ready file, and write it anew whenever a process was started again."""
        if not self.ready or self.options.ready_file is None:
            return
        hosts = [
            {
                "id": place.host,
                "endpoint": str(place.endpoint),
                "pid": self.supervisor.children[place.name].pid,
                "data_dir": str(self.options.data_dir / place.name),
            }
            for place in self.layout.hosts
        ]
        learners = [
            {
                "id": place.host,
                "tier": place.tier,
                "parent": place.parent,
                "endpoint": str(place.endpoint),
                "pid": self.supervisor.children[place.name].pid,
            }
            for place in self.layout.learners
        ]
        value = {"hosts": hosts, "learners": learners, "shards": self.layout.shards}
        write_atomically(self.options.ready_file, json.dumps(value, indent=2) + "\n")


def say(line: str) -> None:
    """Print one line for the person at the terminal; a closed terminal must not stop the cluster."""
    try:
        print(line, flush=True)
    except OSError:
        return
