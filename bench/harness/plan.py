"""Which system runs which rows, in which order: the full plan and the quick one.

Systems take turns: a block of rows on one, the same on the next, and in the second round in the opposite order, so that
a machine that becomes slower or faster meanwhile does so for all alike. Each block has a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from bench.harness.ports import System
from bench.harness.rows import YCSB_MIXES, Block, Cluster, Kind, Row

BLOCK_SECONDS_EXTRA = 90.0
ROW_SECONDS_EXTRA = 20.0
PUTTERS = ("shardraft", "etcd", "redis", "nats", "pysyncobj", "pysyncobj-at-once", "shardraft-asyncio", "etcd-h2load")
READERS = ("shardraft", "etcd", "redis", "nats", "redis-benchmark", "etcd-h2load", "shardraft-asyncio")


@attrs.frozen(slots=True, kw_only=True)
class Scale:
    """What tells a quick run from a full one."""

    seconds: float
    warm_up_seconds: float
    rounds: int
    putters: tuple[str, ...] = PUTTERS
    readers: tuple[str, ...] = READERS
    in_flight: tuple[int, ...] = (1, 16, 64, 256)
    read_in_flight: tuple[int, ...] = (64, 256)
    batches: tuple[int, ...] = (100, 1_000)
    records: int = 100_000
    mixes: tuple[str, ...] = tuple(YCSB_MIXES)
    mixers: tuple[str, ...] = ("shardraft", "etcd", "redis")
    shards: tuple[int, ...] = (1, 8, 64)
    voters: tuple[int, ...] = (1, 3, 5)
    voters_systems: tuple[str, ...] = ("shardraft", "etcd")
    steady_seconds: float = 60.0
    failovers: int = 10
    idle_seconds: float = 10.0
    idle_settle_seconds: float = 8.0
    idlers: tuple[str, ...] = ("shardraft", "etcd", "redis", "nats", "pysyncobj")
    memory_systems: tuple[str, ...] = ("shardraft", "etcd", "redis", "nats", "pysyncobj-at-once")
    simulated_seeds: int = 20
    minutes_max: float = 45.0


FULL = Scale(seconds=5.0, warm_up_seconds=1.0, rounds=2)
QUICK = Scale(
    seconds=1.2,
    warm_up_seconds=0.4,
    rounds=1,
    putters=("shardraft", "etcd", "pysyncobj-at-once", "etcd-h2load"),
    readers=("shardraft", "etcd", "redis", "redis-benchmark", "etcd-h2load"),
    in_flight=(1, 64, 256),
    batches=(100,),
    records=20_000,
    mixes=("A",),
    mixers=("shardraft", "etcd"),
    shards=(1, 64),
    voters=(5,),
    voters_systems=("shardraft",),
    steady_seconds=6.0,
    failovers=1,
    idle_seconds=3.0,
    idle_settle_seconds=4.0,
    idlers=("shardraft", "etcd"),
    memory_systems=("shardraft", "etcd"),
    simulated_seeds=4,
    minutes_max=5.0,
)
MEMORY_RECORDS = 100_000
IDLE_SHARDS = 1_000
SYNC_DELAY_MS = 5.0
SIMULATED_SHARDS = 2
SIMULATED_LEARNERS = 2
"""Of ``shardraft sim`` where nothing else is said."""


def make_plan(scale: Scale, systems: dict[str, System], *, kinds: Iterable[str] = ()) -> list[Block]:
    """All blocks in order. Rows that a system does not offer are left out, and so are blocks without rows.

    ``kinds`` picks rows by how their keys begin; none picks all.
    """
    wishes = [*_puts(scale), *_reads(scale), *_mixes(scale), *_variations(scale), *_rest(scale), *_simulated(scale)]
    blocks: list[Block] = []
    for name, cluster, rows in wishes:
        system = systems.get(name)
        if system is None:
            continue
        offered = tuple(row for row in rows if _is_offered(row, system) and _is_wanted(row, tuple(kinds)))
        if offered:
            seconds = BLOCK_SECONDS_EXTRA + sum(_seconds(row) for row in offered)
            blocks.append(
                Block(number=len(blocks) + 1, system=name, cluster=cluster, rows=offered, seconds_max=seconds)
            )
    return blocks


Wish = tuple[str, Cluster, list[Row]]


def _is_offered(row: Row, system: System) -> bool:
    return row.kind in system.offers and (system.is_ordered or row.mix != "E")


def _is_wanted(row: Row, kinds: Sequence[str]) -> bool:
    return not kinds or any(row.key.startswith(kind) for kind in kinds)


def _seconds(row: Row) -> float:
    return row.warm_up_seconds + row.seconds + ROW_SECONDS_EXTRA * max(1, row.times) + row.records / 1_000


def _turns(scale: Scale, names: Sequence[str]) -> list[str]:
    """The systems round by round, every other round backwards."""
    return [name for turn in range(scale.rounds) for name in (names if turn % 2 == 0 else names[::-1])]


def _put_row(scale: Scale, in_flight: int, suffix: str = "") -> Row:
    return _timed(scale, Row(key=f"puts-{in_flight}{suffix}", kind=Kind.PUTS, in_flight=in_flight))


def _batch_row(scale: Scale, batch: int, suffix: str = "", kind: Kind = Kind.BATCHES) -> Row:
    in_flight = 16 if batch <= 100 else 4
    return _timed(scale, Row(key=f"{kind}-{batch}{suffix}", kind=kind, batch=batch, in_flight=in_flight))


def _timed(scale: Scale, row: Row) -> Row:
    return attrs.evolve(row, seconds=scale.seconds, warm_up_seconds=scale.warm_up_seconds)


def _puts(scale: Scale) -> list[Wish]:
    rows = [_put_row(scale, in_flight) for in_flight in scale.in_flight]
    rows += [_batch_row(scale, batch) for batch in scale.batches]
    rows.append(_batch_row(scale, 100, kind=Kind.ATOMIC_BATCHES))
    slow_rows = [_put_row(scale, in_flight, "-slow-sync") for in_flight in scale.in_flight]
    slow_rows += [_batch_row(scale, size, "-slow-sync") for size in scale.batches]
    wishes: list[Wish] = []
    for name in _turns(scale, scale.putters):
        wishes.append((name, Cluster(), rows))
        if name == "shardraft":
            wishes.append((name, Cluster(sync_delay_ms=SYNC_DELAY_MS), slow_rows))
    return wishes


def _reads(scale: Scale) -> list[Wish]:
    rows = [
        Row(key=f"{kind}-{in_flight}", kind=kind, in_flight=in_flight)
        for kind in (Kind.GETS, Kind.STALE_GETS)
        for in_flight in scale.read_in_flight
    ]
    rows.append(Row(key="get-many-100", kind=Kind.GET_MANY, in_flight=16, batch=100))
    rows.append(Row(key="scan", kind=Kind.SCAN))
    rows = [_timed(scale, attrs.evolve(row, records=scale.records)) for row in rows]
    return [(name, Cluster(readers=1), rows) for name in _turns(scale, scale.readers)]


def _mixes(scale: Scale) -> list[Wish]:
    rows = [
        _timed(scale, Row(key=f"ycsb-{mix}", kind=Kind.YCSB, mix=mix, in_flight=64, records=scale.records // 5))
        for mix in scale.mixes
    ]
    return [(name, Cluster(), rows) for name in scale.mixers]


def _variations(scale: Scale) -> list[Wish]:
    wishes: list[Wish] = []
    for shards in _turns(scale, [str(count) for count in scale.shards]):
        row = _put_row(scale, 256, f"-shards-{shards}")
        wishes.append(("shardraft", Cluster(shards=int(shards)), [row]))
    for voters in scale.voters:
        row = _put_row(scale, 256, f"-voters-{voters}")
        wishes += [(name, Cluster(members=voters), [row]) for name in scale.voters_systems]
    steady = attrs.evolve(_put_row(scale, 256, "-steady"), seconds=scale.steady_seconds)
    return [*wishes, ("shardraft", Cluster(), [steady])]


def _rest(scale: Scale) -> list[Wish]:
    failover = Row(key="failover", kind=Kind.FAILOVER, times=scale.failovers)
    wishes: list[Wish] = [(name, Cluster(shards=1), [failover]) for name in ("shardraft", "etcd")]
    idle = Row(key="idle", kind=Kind.IDLE, seconds=scale.idle_seconds, warm_up_seconds=scale.idle_settle_seconds)
    wishes += [(name, Cluster(), [idle]) for name in scale.idlers]
    many = attrs.evolve(idle, key=f"idle-shards-{IDLE_SHARDS}")
    wishes.append(("shardraft", Cluster(shards=IDLE_SHARDS), [many]))
    memory = Row(key="memory", kind=Kind.MEMORY, records=MEMORY_RECORDS)
    return [*wishes, *((name, Cluster(), [memory]) for name in scale.memory_systems)]


def _simulated(scale: Scale) -> list[Wish]:
    events = Row(key="simulator-events", kind=Kind.SIMULATION, times=scale.simulated_seeds)
    idle = Row(key="simulator-idle", kind=Kind.SIMULATED_IDLE, seconds=scale.seconds)
    return [
        ("simulator", Cluster(shards=SIMULATED_SHARDS, readers=SIMULATED_LEARNERS), [events]),
        ("simulator", Cluster(shards=SIMULATED_SHARDS), [idle]),
    ]
