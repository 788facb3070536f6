"""What is compiled, and what is not although it lies in a compiled room."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PACKAGES: Final = {"shardraft": Path("shardraft"), "shardraft_router": Path("router/shardraft_router")}
"""Each package and where it lies in the source tree."""

SCHEMA: Final = Path("schema")
"""Where the schemas lie in the source tree; in a wheel they are in ``shardraft/schema``."""

ROOMS: Final = (
    "shardraft/types.py",
    "shardraft/raft",
    "shardraft/kv",
    "shardraft/shards",
    "shardraft/learner",
    "shardraft/host",
    "shardraft/sim",
    "shardraft/wire",
    "shardraft/runtime/arrivals.py",
    "shardraft/runtime/clock.py",
    "shardraft/runtime/log_commits.py",
    "shardraft/runtime/network.py",
    "shardraft/runtime/poller.py",
    "shardraft/runtime/turns.py",
    "shardraft/server/intake.py",
    "shardraft/storage/batches.py",
    "shardraft/storage/blocks.py",
    "shardraft/storage/layout.py",
    "shardraft/storage/shard_logs.py",
    "shardraft/transport/flow.py",
    "shardraft_router/core",
    "shardraft_router/berths.py",
    "shardraft_router/desk.py",
    "shardraft_router/readings.py",
)
"""The pure rooms, nearly all of whose time is Python that a compiler sees, what makes bytes of their values, what a
host does between two waits (decision 0028), and what each call of a router goes through without waiting in it (0025).
"""

WRITTEN_IN_C: Final = (
    "shardraft/octets/messages.c",
    "shardraft/octets/records.c",
    "shardraft/runtime/block_writer.c",
    "shardraft/transport/socket_calls.c",
)
"""Modules that need a C compiler; in a source tree Python does it (``octets.functions``, ``runtime.writers``,
``transport.at_once``).
"""

LEFT_AS_THEY_ARE: Final = {
    "shardraft/sim/failure.py": "mypyc makes no subclass of AssertionError",
    "shardraft_router/core/limits.py": "attrs' validators",
}
"""Modules of the compiled rooms that stay Python, and why. A package's ``__init__`` does too: it only names things."""


def compiled_modules(tree: Path) -> list[str]:
    """The modules to compile in a tree laid out like a wheel, relative to it, sorted."""
    found = []
    for room in ROOMS:
        paths = [tree / room] if room.endswith(".py") else sorted((tree / room).glob("*.py"))
        found += [str(path.relative_to(tree)) for path in paths if path.name != "__init__.py"]
    return [module for module in found if module not in LEFT_AS_THEY_ARE]
