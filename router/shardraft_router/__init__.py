"""The client library of shardraft: bytes in, bytes out, for trio and asyncio programs alike.

::

    async with open_router("shardraft://h1:7001,h2:7001") as router:
        revision = await router.put(b"key", b"value")
        value = await router.get(b"key")

What this package does: offers the operations of a cluster as plain calls (``router``, ``scan``),
keeps one connection per host (``connection``), and drives the pure ``core``, which holds all of the
client's logic. What it never does: cache values, write anything to disk, start a thread, or retry
what might apply twice.

Names are loaded when they are first used, so that ``shardraft_router.core`` can be imported where
neither anyio nor pycapnp is installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from shardraft import __version__

if TYPE_CHECKING:
    from shardraft.errors import (
        Conflict,
        DeadlineExceeded,
        InvalidArgument,
        Overloaded,
        PartialWrite,
        SessionExpired,
        ShardraftError,
        TooLarge,
        TooStale,
        Unavailable,
    )
    from shardraft.kv.requests import ChangeMembersReply, LearnerPlace, SnapshotReply, StatusReply, TransferReply
    from shardraft_router.admin import Admin
    from shardraft_router.opening import open_router
    from shardraft_router.readings import Reading
    from shardraft_router.router import Router
    from shardraft_router.scan import Scan
    from shardraft_router.values import (
        AtLeast,
        Bounded,
        Delete,
        HostUnreachable,
        Linearizable,
        Put,
        ReadPolicy,
        Stale,
    )

__all__ = [
    "open_router",
    "Router",
    "Admin",
    "Scan",
    "Put",
    "Delete",
    "Reading",
    "ReadPolicy",
    "Linearizable",
    "Stale",
    "Bounded",
    "AtLeast",
    "LearnerPlace",
    "StatusReply",
    "ChangeMembersReply",
    "SnapshotReply",
    "TransferReply",
    "HostUnreachable",
    "ShardraftError",
    "Conflict",
    "DeadlineExceeded",
    "InvalidArgument",
    "Overloaded",
    "PartialWrite",
    "SessionExpired",
    "TooLarge",
    "TooStale",
    "Unavailable",
    "__version__",
]

_HOMES: Final = {
    "shardraft.errors": (
        "Conflict DeadlineExceeded InvalidArgument Overloaded PartialWrite SessionExpired ShardraftError TooLarge "
        "TooStale Unavailable"
    ),
    "shardraft.kv.requests": "ChangeMembersReply LearnerPlace SnapshotReply StatusReply TransferReply",
    "shardraft_router.admin": "Admin",
    "shardraft_router.opening": "open_router",
    "shardraft_router.readings": "Reading",
    "shardraft_router.router": "Router",
    "shardraft_router.scan": "Scan",
    "shardraft_router.values": "AtLeast Bounded Delete HostUnreachable Linearizable Put ReadPolicy Stale",
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
