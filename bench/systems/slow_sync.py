"""``shardraft`` with a slower disk: every synced transaction takes longer by a fixed time.

The delay is slept on the writer thread after the real sync and before anybody hears of it, which is where a slower
disk would spend it. It is part of the benchmark and of nothing else; the product has no such switch.

    python -m bench.systems.slow_sync MILLISECONDS host --id 1 ...
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shardraft.storage.environment import Environment, Transaction


def slow_down(delay_seconds: float) -> None:
    """Let every write transaction of every environment of this process take ``delay_seconds`` more."""
    quick = Environment.writing

    @contextmanager
    def slow(self: Environment) -> Iterator[Transaction]:
        with quick(self) as transaction:
            yield transaction
        time.sleep(delay_seconds)

    Environment.writing = slow  # type: ignore[method-assign]  # The one place where all transactions pass.


if __name__ == "__main__":
    from shardraft.cli.main import run

    slow_down(float(sys.argv[1]) / 1000)
    sys.exit(run(sys.argv[2:]))
