"""``shardraft import`` and ``export``: many keys at once, with bounded memory and a progress bar."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from shardraft.cli.common import bytes_of, shown, standard_output, target_of, target_options, with_router
from shardraft.cli.failures import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_USAGE, line_of
from shardraft.cli.importing import (
    NOT_WRITTEN,
    UNKNOWN,
    BadRecord,
    Import,
    Record,
    files_below,
    records_of_directory,
    records_of_lines,
)
from shardraft.cli.records import record_line
from shardraft.cli.reporting import progress

if TYPE_CHECKING:
    from shardraft_router import Router

LISTED_MAX = 20
"""Keys that an import names on the terminal when it failed in part; ``--failed`` names all of them."""


@click.command("import")
@click.argument("source", type=click.Path(exists=True, allow_dash=True), metavar="FILE|DIR|-")
@click.option("--prefix", default="", metavar="TEXT", help="Put this before each key.")
@click.option(
    "--failed",
    "failed_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write every key that was not written, or perhaps not, here, one JSON line each.",
)
@target_options
def import_command(
    source: str, prefix: str, failed_path: Path | None, endpoints: tuple[str, ...], timeout_seconds: float
) -> int:
    """Store a whole directory or JSON lines, many at a time.

    Of a directory, every regular file is stored under its path in it. Of a file, or of standard
    input, every line is one record: {"key": ..., "value": ...}, with key_base64 or value_base64
    for what is not UTF-8. When a key occurs twice the later one stands.

    A record that cannot be stored does not stop the others; a cluster that cannot be reached does.
    Importing again is safe.
    """
    target = target_of(endpoints, timeout_seconds)
    with _records(source, bytes_of(prefix, is_base64=False)) as (records, bytes_total):
        started = time.monotonic()
        interrupted = False
        with progress("importing", bytes_total) as advance:
            task = Import(records, advance)
            try:
                with_router(target, task.run)
            except* KeyboardInterrupt:
                interrupted = True
        seconds = time.monotonic() - started
    if failed_path is not None:
        failed_path.write_bytes(b"".join(task.failure_lines()))
    if interrupted:
        return _report_interruption(task)
    return _report(task, seconds)


@contextmanager
def _records(source: str, prefix: bytes) -> Iterator[tuple[Iterator[Record], int | None]]:
    """The records of ``source`` and how many bytes it has in all, if that is known."""
    if source == "-":
        yield records_of_lines(sys.stdin.buffer, prefix), None
    elif Path(source).is_dir():
        paths = sorted(files_below(Path(source)))
        yield records_of_directory(Path(source), paths, prefix), sum(path.stat().st_size for path in paths)
    else:
        with open(source, "rb") as file:
            yield records_of_lines(file, prefix), os.fstat(file.fileno()).st_size


def _report_interruption(task: Import) -> int:
    under_way = task.taken - task.written - len(task.failures)
    print(
        f"error: interrupted: {task.written} written, {task.count(NOT_WRITTEN)} not written, "
        f"{task.count(UNKNOWN) + max(0, under_way)} unknown; importing again is safe",
        file=sys.stderr,
    )
    return EXIT_INTERRUPTED


def _report(task: Import, seconds: float) -> int:
    megabytes = task.bytes_written / 1e6
    print(f"written {task.written} keys, {megabytes:.1f} MB, in {seconds:.1f} s ({megabytes / seconds:.1f} MB/s)")
    for key, (outcome, reason) in list(task.failures.items())[:LISTED_MAX]:
        print(f"{outcome}: {shown(key)}: {reason}", file=sys.stderr)
    if len(task.failures) > LISTED_MAX:
        print(f"... and {len(task.failures) - LISTED_MAX} more (--failed PATH writes all of them)", file=sys.stderr)
    if not task.failures and task.stopped is None:
        return 0
    parts = [f"{task.written} written", f"{task.count(NOT_WRITTEN)} not written", f"{task.count(UNKNOWN)} unknown"]
    if task.stopped is not None:
        parts.append(f"nothing sent after record {task.taken}: {line_of(task.stopped)}")
    print(f"error: incomplete import: {', '.join(parts)}", file=sys.stderr)
    return EXIT_USAGE if isinstance(task.stopped, BadRecord) and not task.exit_code else task.exit_code or EXIT_REFUSED


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-", metavar="[FILE|-]")
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with this.")
@click.option("--stale", is_flag=True, help="Read from a learner whatever it has applied.")
@target_options
def export_command(file: str, prefix: str, stale: bool, endpoints: tuple[str, ...], timeout_seconds: float) -> int:
    """Write all keys and values as JSON lines; "import" takes them back.

    They come in the order in which the cluster keeps them, which is the same each time. A FILE appears
    only once it is complete. Each page of the export is linearizable, the whole is no snapshot: keys
    that change meanwhile are there once, as they were at some moment.
    """

    async def export(router: Router, output: BinaryIO) -> int:
        from shardraft_router import Linearizable, Stale

        count = 0
        policy = Stale() if stale else Linearizable()
        with progress("exporting", None) as advance:
            pages = router.scan(prefix=bytes_of(prefix, is_base64=False), ordered=False, policy=policy)
            async with pages:
                async for key, value in pages:
                    output.write(record_line(key, value))
                    count += 1
                    advance(len(key) + len(value))
        return count

    target = target_of(endpoints, timeout_seconds)
    if file == "-":
        with_router(target, lambda router: export(router, standard_output()))
        return 0
    with _appearing(Path(file)) as output:
        count = with_router(target, lambda router: export(router, output))
    print(f"exported {count} keys to {file}", file=sys.stderr)
    return 0


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name when all went well, and else is gone."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as output:
            yield output
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
