"""A Raft-replicated, sharded key-value store with a tree of read replicas.

This package is the server side: the pure core (``raft``, ``kv``, ``shards``, ``learner``,
``host``), the two worlds that drive it (``runtime`` and ``sim``) and the commands (``cli``).
Programs that use a cluster import ``shardraft_router`` instead.

Importing ``shardraft`` loads neither trio nor lmdb nor pycapnp.
"""

__version__ = "0.1.0"


def build() -> str:
    """How the pure rooms run: ``"compiled"`` (a wheel's, decision 0021) or ``"plain Python"`` (a checkout's)."""
    from importlib.util import find_spec

    spec = find_spec("shardraft.types")
    return "plain Python" if spec is None or str(spec.origin).endswith(".py") else "compiled"


if not __debug__:
    # Assertions state what must be true for a promise to hold; a build without them promises nothing.
    raise RuntimeError("shardraft refuses to run under python -O: its assertions are part of the product")
