"""The systems that can be measured, a module each; a peer's client library is imported only when it is used.

What this package never does: decide what is measured. A system that needs something which is not installed says so
in a sentence (``System.missing``).
"""

from __future__ import annotations

from bench.harness.ports import System


def all_systems() -> dict[str, System]:
    """Every system by name, in the order in which they take their turns."""
    from bench.systems.etcd import Etcd
    from bench.systems.etcd_h2load import EtcdH2load
    from bench.systems.nats import Nats
    from bench.systems.pysyncobj import PySyncObj
    from bench.systems.redis import Redis
    from bench.systems.redis_benchmark import RedisBenchmark
    from bench.systems.shardraft import Shardraft
    from bench.systems.simulator import Simulator

    found: list[System] = [
        Shardraft("shardraft", "trio"),
        Shardraft("shardraft-asyncio", "asyncio"),
        Etcd(),
        EtcdH2load(),
        Redis(),
        RedisBenchmark(),
        Nats(),
        PySyncObj("pysyncobj", sends_at_once=False),
        PySyncObj("pysyncobj-at-once", sends_at_once=True),
        Simulator(),
    ]
    return {system.name: system for system in found}


def find_system(name: str) -> System:
    return all_systems()[name]
