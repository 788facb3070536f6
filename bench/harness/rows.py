"""The values that a run is made of: rows to measure, blocks of them, and what was measured."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs


class Kind(StrEnum):
    """What a row does. Its value is how the row is called in files."""

    PUTS = "puts"
    BATCHES = "batches"
    ATOMIC_BATCHES = "atomic-batches"
    GETS = "gets"
    STALE_GETS = "stale-gets"
    GET_MANY = "get-many"
    SCAN = "scan"
    YCSB = "ycsb"
    FAILOVER = "failover"
    IDLE = "idle"
    MEMORY = "memory"
    SIMULATION = "simulator-events"
    SIMULATED_IDLE = "simulator-idle"


SIMULATED = frozenset({Kind.SIMULATION, Kind.SIMULATED_IDLE})
"""Rows that are run by a program of their own, which starts no server."""

YCSB_MIXES = {
    "A": "50 % reads, 50 % updates",
    "B": "95 % reads, 5 % updates",
    "C": "reads only",
    "D": "95 % reads of the latest, 5 % inserts",
    "E": "95 % scans of 1 to 100 entries, 5 % inserts",
    "F": "50 % reads, 50 % read-modify-writes",
}


@attrs.frozen(slots=True, kw_only=True)
class Cluster:
    """What a system is started with. ``shards`` and ``sync_delay_ms`` mean something to shardraft only."""

    members: int = 3
    shards: int = 8
    readers: int = 0
    sync_delay_ms: float = 0.0


@attrs.frozen(slots=True, kw_only=True)
class Row:
    """One line to measure.

    ``key`` is the same for every system that runs the same work. ``batch`` is how many keys one call carries,
    ``records`` how many are written before, ``times`` how often a failover is repeated, or how many seeds are
    simulated. ``seconds`` is the timed part, ``warm_up_seconds`` the same work before it, or for an idle row the
    time to come to rest.
    """

    key: str
    kind: Kind
    in_flight: int = 1
    batch: int = 1
    seconds: float = 0.0
    warm_up_seconds: float = 0.0
    records: int = 0
    mix: str = ""
    times: int = 0

    @property
    def unit(self) -> str:
        """What ``operations`` of its measurement counts."""
        if self.kind in (Kind.BATCHES, Kind.ATOMIC_BATCHES, Kind.PUTS, Kind.FAILOVER):
            return "puts"
        if self.kind is Kind.SCAN:
            return "entries"
        if self.kind is Kind.GET_MANY:
            return "keys"
        if self.kind in SIMULATED:
            return "events" if self.kind is Kind.SIMULATION else "simulated seconds"
        return "gets" if self.kind in (Kind.GETS, Kind.STALE_GETS) else "operations"

    @property
    def workload(self) -> str:
        """The work in words; what it is done to is said by ``Block.subject``."""
        many = f"{self.in_flight} in flight"
        return {
            Kind.PUTS: f"puts, {many}",
            Kind.BATCHES: f"puts in batches of {self.batch:,}, {many}",
            Kind.ATOMIC_BATCHES: f"puts in all-or-nothing batches of {self.batch:,}, {many}",
            Kind.GETS: f"gets, {many}",
            Kind.STALE_GETS: f"stale gets, {many}",
            Kind.GET_MANY: f"get_many of {self.batch:,}, {many}",
            Kind.SCAN: f"scan of all {self.records:,} entries",
            Kind.YCSB: f"YCSB {self.mix} ({YCSB_MIXES.get(self.mix, '')}; zipfian), {many}",
            Kind.FAILOVER: f"kill -9 of the leader under 100 puts/s, {self.times} times",
            Kind.IDLE: "idle",
            Kind.MEMORY: f"memory after {self.records:,} keys",
            Kind.SIMULATION: f"simulator events, default faults and every invariant, {self.times} seeds",
            Kind.SIMULATED_IDLE: "simulated seconds per second, idle",
        }[self.kind] + (f", for {self.seconds:.0f} s" if self.key.endswith("-steady") else "")

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Row:
        return cls(**{**fields, "kind": Kind(fields["kind"])})


@attrs.frozen(slots=True, kw_only=True)
class Block:
    """Rows that one system runs one after the other, on a cluster that is started for them."""

    number: int
    system: str
    cluster: Cluster
    rows: tuple[Row, ...]
    seconds_max: float

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Block:
        rows = tuple(Row.from_json(row) for row in fields["rows"])
        return cls(**{**fields, "cluster": Cluster(**fields["cluster"]), "rows": rows})


@attrs.frozen(slots=True, kw_only=True)
class Measurement:
    """The sums of one row in one round; rates follow from them.

    ``operations`` counts keys (``Row.unit``), ``calls`` what was timed one by one into ``histogram`` (an
    encoded hdrhistogram of microseconds, empty if there is none). ``cpu_seconds`` and ``disk_bytes`` are of all server
    processes, ``rss_bytes`` the highest sum of them seen and ``rss_bytes_largest`` the largest one of them.
    ``others_share`` is how much of the machine programs outside the run took. ``samples`` are single
    values, such as the gaps of a failover in seconds.
    """

    operations: int = 0
    calls: int = 0
    seconds: float = 0.0
    histogram: str = ""
    cpu_seconds: float = 0.0
    client_cpu_seconds: float = 0.0
    disk_bytes: int = 0
    rss_bytes: int = 0
    rss_bytes_largest: int = 0
    others_share: float = 0.0
    written: int = 0
    read_back: int = 0
    wrong: int = 0
    samples: tuple[float, ...] = ()


@attrs.frozen(slots=True, kw_only=True)
class Outcome:
    """What became of one row of one block: a measurement, or the sentence that says why there is none."""

    key: str
    system: str
    workload: str
    unit: str
    version: str
    promise: str
    measurement: Measurement | None = None
    failure: str = ""

    def __attrs_post_init__(self) -> None:
        assert (self.measurement is None) == bool(self.failure), "a row has a number or a reason why not"
        if self.measurement is not None:
            assert self.workload, "a number has its workload"
            assert self.version, "a number has its version"
            assert self.promise, "a number has its promise on disk"

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Outcome:
        measured = fields["measurement"]
        if measured is not None:
            measured = Measurement(**{**measured, "samples": tuple(measured["samples"])})
        return cls(**{**fields, "measurement": measured})
