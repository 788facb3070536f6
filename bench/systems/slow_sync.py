"""``shardraft`` with a slower disk: every synced write takes longer by a fixed time.

The delay is slept on the writer thread after the real sync and before anybody hears of it, which is where a slower
disk would spend it. It is part of the benchmark and of nothing else; the product has no such switch.

    python -m bench.systems.slow_sync MILLISECONDS host --id 1 ...
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shardraft.storage.blocks import Block
from shardraft.storage.environment import Environment, Transaction
from shardraft.storage.segment import Segment


def slow_down(delay_seconds: float) -> None:
    """Let every block of the log and every transaction of the state take ``delay_seconds`` more."""
    quick = Environment.writing
    append = Segment.append

    @contextmanager
    def slow(self: Environment) -> Iterator[Transaction]:
        with quick(self) as transaction:
            yield transaction
        time.sleep(delay_seconds)

    def slow_append(self: Segment, block: Block) -> tuple[int, bytes]:
        result = append(self, block)
        time.sleep(delay_seconds)
        return result

    Environment.writing = slow  # type: ignore[method-assign]  # The one place where all transactions pass.
    Segment.append = slow_append  # type: ignore[method-assign]  # And that where all blocks do.


if __name__ == "__main__":
    from shardraft.cli.main import run

    slow_down(float(sys.argv[1]) / 1000)
    sys.exit(run(sys.argv[2:]))
