"""``shardraft get``, ``put``, ``delete``, ``scan``: keys and values by hand."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shardraft.cli.common import (
    bytes_of,
    print_json,
    shown,
    standard_output,
    target_of,
    target_options,
    with_router,
)
from shardraft.cli.failures import EXIT_REFUSED
from shardraft.cli.records import fields_of, record_line

if TYPE_CHECKING:
    from shardraft_router import Reading, Router

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

base64_option = click.option("--base64", "is_base64", is_flag=True, help="Keys and values are in base64.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
stale_option = click.option("--stale", is_flag=True, help="Read from a learner whatever it has applied.")
if_revision_option = click.option(
    "--if-revision", type=click.IntRange(min=1), metavar="N", help="Only if the key has this revision."
)


@click.command("get")
@click.argument("key")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="PATH|-",
    help="Write exactly the value's bytes there, with no line end after them.",
)
@base64_option
@stale_option
@json_option
@target_options
def get_command(
    key: str,
    path: str | None,
    is_base64: bool,
    stale: bool,
    as_json: bool,
    endpoints: tuple[str, ...],
    timeout_seconds: float,
) -> int:
    """Print the value of KEY; without one the exit code is 1."""
    wanted = bytes_of(key, is_base64=is_base64)

    async def read(router: Router) -> Reading:
        from shardraft_router import Linearizable, Stale

        return await router.read(wanted, Stale() if stale else Linearizable())

    reading = with_router(target_of(endpoints, timeout_seconds), read)
    if as_json:
        print_json(
            {
                **fields_of(wanted, reading.value),
                "revision": reading.revision,
                "applied_index": reading.applied_index,
                "age_seconds": reading.age_seconds,
                "served_by": reading.served_by,
                "tier": reading.tier,
            }
        )
        return 0 if reading.value is not None else EXIT_REFUSED
    if reading.value is None:
        return _refuse(f"no such key: {shown(wanted)}")
    return _print_value(reading.value, path, is_base64=is_base64)


def _print_value(value: bytes, path: str | None, *, is_base64: bool) -> int:
    if path is not None and path != "-":
        Path(path).write_bytes(value)
        return 0
    if is_base64:
        value = base64.b64encode(value)
    elif path is None and not _is_text(value):
        return _refuse(f"the value is not text ({len(value)} bytes): use --file PATH, --file - or --base64")
    standard_output().write(value if path == "-" else value + b"\n")
    return 0


@click.command("put")
@click.argument("key")
@click.argument("value", required=False)
@click.option(
    "--file",
    "source",
    type=click.File("rb"),
    metavar="PATH|-",
    help="Take the value's bytes from a file, or from standard input.",
)
@if_revision_option
@click.option("--if-absent", is_flag=True, help="Only if the key does not exist.")
@base64_option
@json_option
@target_options
def put_command(
    key: str,
    value: str | None,
    source: Any,
    if_revision: int | None,
    if_absent: bool,
    is_base64: bool,
    as_json: bool,
    endpoints: tuple[str, ...],
    timeout_seconds: float,
) -> int:
    """Store VALUE, or the content of --file, under KEY and print the key's revision."""
    if (value is None) == (source is None):
        raise click.UsageError("give either a VALUE or --file")
    if if_absent and if_revision is not None:
        raise click.UsageError("--if-absent and --if-revision exclude each other")
    wanted = bytes_of(key, is_base64=is_base64)
    data = source.read() if value is None else bytes_of(value, is_base64=is_base64)

    async def write(router: Router) -> int:
        return await router.put(wanted, data, if_revision=if_revision, if_absent=if_absent)

    revision = with_router(target_of(endpoints, timeout_seconds), write)
    if as_json:
        print_json({**fields_of(wanted), "revision": revision})
    else:
        print(f"revision {revision}")
    return 0


@click.command("delete")
@click.argument("key")
@if_revision_option
@base64_option
@json_option
@target_options
def delete_command(
    key: str,
    if_revision: int | None,
    is_base64: bool,
    as_json: bool,
    endpoints: tuple[str, ...],
    timeout_seconds: float,
) -> int:
    """Delete KEY. It is no error if there is none."""
    wanted = bytes_of(key, is_base64=is_base64)

    async def write(router: Router) -> int | None:
        return await router.delete(wanted, if_revision=if_revision)

    revision = with_router(target_of(endpoints, timeout_seconds), write)
    if as_json:
        print_json({**fields_of(wanted), "deleted": revision is not None, "revision": revision})
    else:
        print("no such key" if revision is None else f"deleted at revision {revision}")
    return 0


@click.command("scan")
@click.argument("prefix", default="")
@click.option("--start", metavar="KEY", help="From this key on.")
@click.option("--end", metavar="KEY", help="Up to and without this key.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many.")
@click.option("--keys-only", is_flag=True, help="Leave the values out.")
@click.option("--unordered", is_flag=True, help="In any order, which is faster.")
@base64_option
@stale_option
@json_option
@target_options
def scan_command(
    prefix: str,
    start: str | None,
    end: str | None,
    limit: int | None,
    keys_only: bool,
    unordered: bool,
    is_base64: bool,
    stale: bool,
    as_json: bool,
    endpoints: tuple[str, ...],
    timeout_seconds: float,
) -> int:
    """List keys that begin with PREFIX, and their values, in order; one "KEY<tab>VALUE" a line.

    Lines are for reading: what is not printable is escaped. --json prints one exact record a line.
    """
    bounds = [None if each is None else bytes_of(each, is_base64=is_base64) for each in (start, end)]

    async def scan(router: Router) -> None:
        from shardraft_router import Linearizable, Stale

        output = standard_output()
        pages = router.scan(
            prefix=bytes_of(prefix, is_base64=is_base64),
            start=bounds[0],
            end=bounds[1],
            limit=limit,
            ordered=not unordered,
            policy=Stale() if stale else Linearizable(),
        )
        async with pages:
            async for key, value in pages:
                output.write(_line(key, None if keys_only else value, as_json=as_json, is_base64=is_base64))

    with_router(target_of(endpoints, timeout_seconds), scan)
    return 0


def _line(key: bytes, value: bytes | None, *, as_json: bool, is_base64: bool) -> bytes:
    if as_json:
        return record_line(key, value)
    cells = [key] if value is None else [key, value]
    if is_base64:
        return b"\t".join(base64.b64encode(cell) for cell in cells) + b"\n"
    return "\t".join(shown(cell) for cell in cells).encode() + b"\n"


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_REFUSED
