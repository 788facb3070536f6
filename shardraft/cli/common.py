"""What several commands share: parameter types, the options that name a cluster, text and bytes."""

from __future__ import annotations

import base64
import binascii
import errno
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import attrs
import click

from shardraft.types import Endpoint, HostId

if TYPE_CHECKING:
    from shardraft_router import Router

Result = TypeVar("Result")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

VOTERS = (1, 3, 5)
"""How many voters a group may have."""
SHARDS_MAX = 1024
"""Hash partitioning has this many slots, and a shard has at least one."""
LEARNERS_PER_TIER_MAX = 99


def endpoint(text: str | Endpoint) -> Endpoint:
    """The type of an option that takes HOST:PORT."""
    try:
        return text if isinstance(text, Endpoint) else parse_endpoint(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def peer(text: str) -> tuple[HostId, Endpoint]:
    """The type of an option that takes ID=HOST:PORT, a voter host and where it listens."""
    number, separator, place = text.partition("=")
    if not separator or not number.isdecimal() or not 0 < int(number) < 2**32:
        raise click.BadParameter(f"{text} is not of the form ID=HOST:PORT, with an ID from 1 to {2**32 - 1}")
    return int(number), endpoint(place)


def host_count(text: str) -> int:
    """The type of ``--hosts``."""
    if not text.isdecimal():
        raise click.BadParameter(f"{text} is not a number")
    check_host_count(int(text))
    return int(text)


def check_host_count(count: int) -> None:
    """Every host holds every shard, so there are as many hosts as a group may have voters."""
    if count not in VOTERS:
        raise click.BadParameter(f"a group has 1, 3 or 5 voters, so a cluster has 1, 3 or 5 hosts, not {count}")


def tiers(text: str) -> tuple[int, ...]:
    """The type of ``--learners``: how many in tier 1, in tier 2 and so on; 0 for none."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) <= LEARNERS_PER_TIER_MAX for part in parts):
        raise click.BadParameter(f"{text} is not a list of numbers up to {LEARNERS_PER_TIER_MAX}, one per tier, as 2,2")
    counts = tuple(int(part) for part in parts)
    while counts and counts[-1] == 0:
        counts = counts[:-1]
    if 0 in counts:
        raise click.BadParameter(f"{text}: a tier below an empty tier has no parents")
    return counts


def parse_endpoint(text: str) -> Endpoint:
    """``HOST:PORT`` as a value; raises ``ValueError`` with what is wrong with it."""
    return Endpoint.of(text)


@attrs.frozen(slots=True)
class Target:
    """The cluster that a command talks to, and how long one call may take."""

    endpoints: tuple[str, ...]
    timeout_seconds: float


def target_options(command: Decorated) -> Decorated:
    """Add ``--endpoint`` and ``--timeout``; the command receives them as ``target``, a ``Target``."""
    for option in (
        click.option(
            "--timeout",
            "timeout_seconds",
            type=click.FloatRange(0, 60, min_open=True),
            default=10.0,
            show_default=True,
            metavar="SECONDS",
            help="How long one operation may take, retries included.",
        ),
        click.option(
            "--endpoint",
            "endpoints",
            multiple=True,
            envvar="SHARDRAFT_ENDPOINT",
            metavar="HOST:PORT[,...]",
            help="Where the cluster listens; any of its hosts will do, and several are safer. "
            "[env: SHARDRAFT_ENDPOINT; default: the cluster of shardraft dev]",
        ),
    ):
        command = option(command)
    return command


def target_of(endpoints: tuple[str, ...], timeout_seconds: float) -> Target:
    """The options of ``target_options`` as one value, the local cluster when no endpoint is given."""
    parts = [part for given in endpoints for part in given.removeprefix("shardraft://").split(",") if part.strip()]
    if endpoints and not parts:
        raise click.UsageError("--endpoint names no host")
    try:
        named = tuple(str(parse_endpoint(part)) for part in parts)
    except ValueError as error:
        raise click.UsageError(f"--endpoint: {error}") from None
    return Target(named or local_endpoints(), timeout_seconds)


def default_data_dir() -> Path:
    """Where ``shardraft dev`` keeps its cluster unless told otherwise."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "shardraft" / "dev"


def local_endpoints() -> tuple[str, ...]:
    """The hosts of the cluster in the default data directory of ``shardraft dev``."""
    try:
        layout = json.loads((default_data_dir() / "cluster.json").read_text())
        return tuple(str(host["endpoint"]) for host in layout["hosts"])
    except (OSError, ValueError, KeyError, TypeError):
        raise click.UsageError(
            "which cluster? Give --endpoint HOST:PORT, set SHARDRAFT_ENDPOINT, or start a local one with: shardraft dev"
        ) from None


def with_router(target: Target, body: Callable[[Router], Awaitable[Result]]) -> Result:
    """Open a router to ``target``, run ``body`` with it, and return what that returns."""
    import trio

    from shardraft_router import open_router

    async def run() -> Result:
        async with open_router(list(target.endpoints), timeout_seconds=target.timeout_seconds) as router:
            return await body(router)

    return trio.run(run)


def bytes_of(text: str, *, is_base64: bool) -> bytes:
    """A key or value from the command line; an argument that is not UTF-8 arrives as the bytes it was."""
    if not is_base64:
        return text.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise click.UsageError(f"not base64: {text}") from None


def shown(data: bytes) -> str:
    """``data`` for a person, on one line: text where it is text, escapes where it is not."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def standard_output() -> BinaryIO:
    """Standard output for bytes; what was printed before comes first. ``OSError`` when the caller closed it."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    sys.stdout.flush()
    return sys.stdout.buffer


def print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))
