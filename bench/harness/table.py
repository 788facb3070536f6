"""The table that a run prints. Every number in it has its workload, its version and its promise on disk in its row."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.harness.results import Line, Results
from bench.harness.rows import Kind
from bench.harness.targets import targets_of

WIDTH = 220
"""Where the output is no terminal."""
BUSY_SHARE = 0.15
"""A row during which other programs used more of the machine than this is marked."""
MIB = 1 << 20


def print_table(results: Results, sentences: Iterable[str], *, console: Console | None = None) -> None:
    """Print the rows in the order in which they were first measured, the same work next to each other."""
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    table = Table(title="the same work, interleaved, in one run on this machine", show_lines=True)
    for name in ("workload", "system", "on disk before it answers"):
        table.add_column(name, overflow="fold")
    for name in ("rate", "p50 ms", "p99 ms", "p99.9 ms", "CPU us/op", "disk B/op", "peak MiB", "read back"):
        table.add_column(name, justify="right")
    table.add_column("target", overflow="fold")
    order = list(dict.fromkeys(line.outcome.key for line in results))
    for line in sorted(results, key=lambda line: order.index(line.outcome.key)):
        table.add_row(*cells(line, results))
    console.print(table)
    for sentence in sentences:
        console.print(Text(sentence))


def cells(line: Line, results: Results) -> list[Text]:
    """One row of the table, a text for each column."""
    outcome, found = line.outcome, line.measurement
    head = [outcome.workload, f"{outcome.version or outcome.system}", outcome.promise]
    targets = "\n".join(target.describe(results) for target in targets_of(outcome.key, outcome.system))
    if found is None:
        body = [f"FAILED: {line.failure}", *[""] * 7, targets]
        return [Text(cell, style="red") for cell in head + body]
    p50, p99, p999 = line.percentiles or (None, None, None)
    checked = f"{found.read_back:,}" if found.read_back else ""
    body = [_rate(line), *map(_milliseconds, (p50, p99, p999))]
    body += [_number(line.cpu_us_per_operation), _number(line.disk_bytes_per_operation)]
    memory = f"{found.rss_bytes / MIB:,.0f}\n(largest {found.rss_bytes_largest / MIB:,.0f})"
    body += [memory if found.rss_bytes else "", checked, targets]
    return [Text(cell) for cell in head + body]


def _rate(line: Line) -> str:
    found = line.measurement
    assert found is not None, "only what was measured is printed"
    busy = f"\nothers took {found.others_share:.0%}" if found.others_share > BUSY_SHARE else ""
    if line.outcome.key.startswith(Kind.FAILOVER):
        gaps = sorted(found.samples)
        middle = gaps[len(gaps) // 2]
        return f"longest gap {gaps[-1]:.2f} s\nmedian {middle:.2f} s, of {len(gaps)}{busy}"
    if line.outcome.key.startswith(Kind.IDLE):
        return f"{100 * (line.cores or 0.0):.1f} % of a core{busy}"
    if line.outcome.key.startswith(Kind.MEMORY):
        return f"{found.rss_bytes_largest / MIB:,.0f} MiB, largest process{busy}"
    if line.per_second is None:
        return f"nothing done{busy}"
    rounds = f"\n{' / '.join(f'{each:,.0f}' for each in line.rounds)}" if len(line.rounds) > 1 else ""
    return f"{line.per_second:,.0f} {line.outcome.unit}/s{rounds}{busy}"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
