"""A process that commits as fast as it can, until it is killed (``test_kill``).

``python -m tests.storage.committing DIRECTORY``: each turn appends one entry to shards 1 and 2 and every third
flushes the state of shard 1 and compacts far behind it. After each commit it prints, unbuffered, ``log N`` or
``state N``: entries, or state, up to N are durable.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from shardraft.host.turn import LogBatch
from shardraft.kv.commands import Stored
from shardraft.raft.ready import HardState, LogWrite
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


if __name__ == "__main__":
    run(Path(sys.argv[1]))
