"""Progress bars, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str, bytes_total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while the body runs; it is given the call that says how many bytes went by.

    Where standard error is no terminal nothing is drawn.
    """
    if not sys.stderr.isatty():
        yield lambda _bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=bytes_total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def portion(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error while the body runs; it is given the call that says which part is done, 0 to 1.

    Where standard error is no terminal nothing is drawn.
    """
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, str], None]]:
    """A spinner on standard error while the body runs; it is given the call that says how many of ``what``, and more.

    Where standard error is no terminal nothing is drawn.
    """
    if not sys.stderr.isatty():
        yield lambda _count, _more: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda count, more: bar.update(task, description=f"{count} {what}, {more}")
