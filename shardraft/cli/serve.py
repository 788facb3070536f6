"""``shardraft host`` and ``shardraft learner``: one process of a cluster."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shardraft.cli.common import SHARDS_MAX, check_host_count, endpoint, peer
from shardraft.errors import InvalidArgument
from shardraft.shards.shard_map import Partitioning
from shardraft.types import Endpoint, HostId

if TYPE_CHECKING:
    from shardraft.config import HostConfig

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

STOP_SECONDS_MAX = 15.0
"""A process whose supervisor is gone and that has not stopped after this long ends at once."""


def serve_options(command: Decorated) -> Decorated:
    """The options that a host and a learner have in common."""
    for option in (
        click.option("--exit-with-parent", is_flag=True, hidden=True, help="Stop when standard input ends."),
        click.option(
            "--config",
            "config_path",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Limits and timeouts other than the defaults, as TOML: tables [raft], [limits] and [transport] with "
            "the names of shardraft/config.py.",
        ),
        click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True),
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            show_default=True,
        ),
        click.option("--insecure", is_flag=True, help="Listen off loopback although there is no TLS yet."),
        click.option(
            "--advertise", type=endpoint, metavar="HOST:PORT", help="What others are told instead of --listen."
        ),
        click.option(
            "--data-dir",
            type=click.Path(file_okay=False, path_type=Path),
            required=True,
            metavar="DIR",
            help="Where this process, and no other, keeps its data.",
        ),
        click.option("--listen", type=endpoint, required=True, metavar="HOST:PORT", help="Where to listen."),
        click.option(
            "--id",
            "host",
            type=click.IntRange(1, 2**32 - 1),
            required=True,
            metavar="N",
            help="This process's number, unique in the cluster for good.",
        ),
    ):
        command = option(command)
    return command


@click.command("host")
@serve_options
@click.option(
    "--peer",
    "peers",
    type=peer,
    multiple=True,
    metavar="ID=HOST:PORT",
    help="A voter host with which the cluster is made, this one included; give all of them, the same on each, also "
    "after hosts have come and gone.  [1, 3 or 5]",
)
@click.option(
    "--join",
    multiple=True,
    metavar="HOST:PORT[,...]",
    help="Instead of --peer: start without shards in the running cluster of that host, and wait for "
    '"shardraft member add".',
)
@click.option("--empty", is_flag=True, help="Say that the host starts without shards; --join implies it.")
@click.option(
    "--shards",
    type=click.IntRange(1, SHARDS_MAX),
    default=8,
    show_default=True,
    help="How many shards the cluster is made with; the same on each host.",
)
@click.option(
    "--partitioning",
    type=click.Choice(["hash", "range"]),
    default="hash",
    show_default=True,
    help="How keys are spread over shards; the same on each host.",
)
@click.option(
    "--cluster",
    "cluster_token",
    default="shardraft",
    show_default=True,
    metavar="TOKEN",
    help="A name that keeps clusters apart; the same on each host.",
)
def host_command(
    host: HostId,
    listen: Endpoint,
    peers: tuple[tuple[HostId, Endpoint], ...],
    join: tuple[str, ...],
    empty: bool,
    partitioning: str,
    **options: Any,
) -> int:
    """Start one voter host; three of them on three machines make a cluster.

    \b
    shardraft host --id 1 --listen 10.0.0.1:7400 --data-dir /var/lib/shardraft \\
      --peer 1=10.0.0.1:7400 --peer 2=10.0.0.2:7400 --peer 3=10.0.0.3:7400 --insecure

    Later ones join it, under ids that were never used:

    \b
    shardraft host --id 4 --listen 10.0.0.4:7400 --data-dir /var/lib/shardraft \\
      --empty --join 10.0.0.1:7400 --insecure
    shardraft member add --host 4 --at 10.0.0.4:7400 --endpoint 10.0.0.1:7400
    """
    if empty and not join:
        raise click.UsageError("an --empty host belongs to a cluster that runs: name one of its hosts with --join")
    if bool(peers) == bool(join):
        raise click.UsageError("give either --peer, for a host that the cluster is made with, or --join")
    if join:
        named = _endpoints(join, "--join")
        check_reachable(options["advertise"] or listen)
        return _serve(host=host, listen=listen, join=named, **options)
    ids = sorted(number for number, _ in peers)
    if len(set(ids)) != len(ids):
        raise click.UsageError(f"--peer names a host twice: {', '.join(map(str, ids))}")
    check_host_count(len(ids))
    if host not in ids:
        raise click.UsageError(f"--peer must name this host too: --peer {host}={options['advertise'] or listen}")
    return _serve(
        host=host, listen=listen, peers=tuple(sorted(peers)), partitioning=Partitioning[partitioning.upper()], **options
    )


@click.command("learner")
@serve_options
@click.option(
    "--parent",
    "parents",
    multiple=True,
    required=True,
    metavar="HOST:PORT[,...]",
    help="The host or learner to follow; more of them are tried in turn when it is gone.",
)
def learner_command(parents: tuple[str, ...], **options: Any) -> int:
    """Start one learner: a read replica of all shards, fed by a voter host or by another learner."""
    return _serve(parents=_endpoints(parents, "--parent"), **options)


def _endpoints(given: tuple[str, ...], option: str) -> tuple[Endpoint, ...]:
    named = tuple(endpoint(part) for text in given for part in text.split(",") if part.strip())
    if not named:
        raise click.UsageError(f"{option} names no host")
    return named


def check_reachable(place: Endpoint) -> None:
    """Others are told this place, and connect to it: it must name a host."""
    if place.host in ("0.0.0.0", "::", "*"):
        raise click.UsageError(f"others cannot connect to {place}: say where they reach this host with --advertise")


def _serve(*, exit_with_parent: bool, config_path: Path | None, **options: Any) -> int:
    from shardraft.server.app import run
    from shardraft.server.options import ServerOptions

    if config_path is not None:
        options["config"] = _config_of(config_path)
    if exit_with_parent:
        threading.Thread(target=_stop_when_input_ends, name="exit-with-parent", daemon=True).start()
    return run(ServerOptions(exit_with_parent=exit_with_parent, **options))


def _config_of(path: Path) -> HostConfig:
    from shardraft.server.config_file import read_config

    try:
        return read_config(path)
    except InvalidArgument as error:
        raise click.UsageError(f"--config: {error}") from None


def _stop_when_input_ends() -> None:
    """Stop gracefully when the supervisor is gone, however it went: its end of the pipe closes with it.

    A parent-death signal would not do: it is bound to the thread that started this process.
    """
    while os.read(sys.stdin.fileno(), 4096):
        pass
    logging.getLogger("shardraft.cli").warning("the supervisor is gone; stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(STOP_SECONDS_MAX)
    os._exit(1)
