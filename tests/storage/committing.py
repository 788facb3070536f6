"""A process that commits as fast as it can, until it is killed (``test_kill``).

``python -m tests.storage.committing DIRECTORY [runs]``: each turn appends one entry to shards 1 and 2 and every third
flushes the state of shard 1 and compacts far behind it. After each commit it prints, unbuffered, ``log N`` or
``state N``: entries, or state, up to N are durable. With ``runs`` every flush is a run of several transactions, and
they are merged a few records at a time; ``run N`` says that the next part of one is being written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from shardraft.host.turn import LogBatch
from shardraft.kv.commands import Stored
from shardraft.kv.machine import MachineImage
from shardraft.kv.records import Record
from shardraft.raft.ready import HardState, LogWrite
from shardraft.storage import state as state_module
from shardraft.storage.store import open_store
from shardraft.types import Index
from tests.contracts.store_world import entry, flush, state_at

KEYS = 40
KEPT_ENTRIES = 30


def value_at(index: Index, number: int) -> Stored:
    """What key ``number`` holds in the state at ``index``."""
    return Stored(index, b"%d/%d " % (index, number) * 40)


def say(what: str, index: Index) -> None:
    os.write(1, f"{what} {index}\n".encode())


def run(directory: Path) -> None:
    store = open_store(directory, cluster_id=None, host=None)
    found = {shard.shard: shard for shard in store.recover().shards}
    index = max(found[1].log.first_index - 1 + len(found[1].log.terms), 0)
    base = found[1].log.first_index - 1
    while True:
        index += 1
        writes = tuple(
            LogWrite(shard, 0, None, (entry(shard, index, 1, b"%d" % index * 200),), HardState(1, 1, index - 1))
            for shard in (1, 2)
        )
        compactions: tuple[tuple[int, int, int], ...] = ()
        if index % 3 == 0:
            flush(store, state_at(1, index - 1), {b"%02d" % n: value_at(index - 1, n) for n in range(KEYS)})
            say("state", index - 1)
            if index - 1 - KEPT_ENTRIES > base:
                base = index - 1 - KEPT_ENTRIES
                compactions = ((1, base, 1),)
        store.commit_log([LogBatch(writes, compactions)])
        say("log", index)


def flush_as_runs() -> None:
    """What happens with flushes of many thousand keys happens with forty."""
    state_module.SMALL_FLUSH_RECORDS_MAX = KEYS // 4  # type: ignore[misc]
    state_module.PUT_RECORDS_MAX = KEYS // 4  # type: ignore[attr-defined]
    state_module.TRANSACTION_BYTES_MAX = 5_000  # type: ignore[misc]
    rows_of = state_module._rows_of

    def rows_said(image: MachineImage) -> Iterator[list[tuple[bytes, Record]]]:
        for rows in rows_of(image):
            say("run", image.state.last_applied)
            yield rows

    state_module._rows_of = rows_said


if __name__ == "__main__":
    if "runs" in sys.argv:
        flush_as_runs()
    run(Path(sys.argv[1]))
