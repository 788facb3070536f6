"""``shardraft`` with a slower disk: every synced write takes longer by a fixed time.

The delay is slept on the thread that wrote after the real sync and before anybody hears of it, which is where a slower
disk would spend it; so the log is written by threads of Python here. It is part of the benchmark and of nothing else;
the product has no such switch.

    python -m bench.systems.slow_sync MILLISECONDS host --id 1 ...
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shardraft.runtime import driver, writers
from shardraft.storage import segment
from shardraft.storage.environment import Environment, Transaction


def slow_down(delay_seconds: float) -> None:
    """Let every block of the log and every transaction of the state take ``delay_seconds`` more."""
    quick = Environment.writing
    write_all = segment.write_all

    @contextmanager
    def slow(self: Environment) -> Iterator[Transaction]:
        with quick(self) as transaction:
            yield transaction
        time.sleep(delay_seconds)

    def slow_write_all(fd: int, parts: tuple[bytes, ...], at: int) -> None:
        write_all(fd, parts, at)
        time.sleep(delay_seconds)

    Environment.writing = slow  # type: ignore[method-assign]  # The one place where all transactions pass.
    segment.write_all = slow_write_all  # And that where all blocks do, on the log's thread
    writers.write_all = slow_write_all  # type: ignore[attr-defined]  # and on the writer's.
    driver.make_writer = _make_writer  # type: ignore[attr-defined]


def _make_writer() -> writers.Writer:
    return writers.ThreadsWriter(writers.WRITES_MAX)


if __name__ == "__main__":
    from shardraft.cli.main import run

    slow_down(float(sys.argv[1]) / 1000)
    sys.exit(run(sys.argv[2:]))
