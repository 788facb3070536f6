"""What the rows are to reach: each target compares lines of one run, and stands beside the row it belongs to."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from bench.harness.results import Line, Results

Measure = Callable[[Line], float | None]
OWN = "shardraft"
OWN_CLIENTS = (OWN, "shardraft-asyncio")
"""One client process, on trio and on asyncio; the peers' Python clients run on asyncio."""


@attrs.frozen(slots=True)
class Target:
    """``measure`` of the row ``key`` on ``system``, divided by that of another line unless ``other`` is empty.

    ``other`` is (row, system). ``text`` says in words what is compared.
    """

    key: str
    text: str
    measure: Measure
    bound: float
    at_least: bool
    other: tuple[str, str] = ("", "")
    other_measure: Measure | None = None
    system: str = OWN

    def value(self, results: Results) -> float | None:
        """None when a line is missing or failed."""
        own = _of(results.line(self.key, self.system), self.measure)
        if not self.other[0]:
            return own
        other = _of(results.line(*self.other), self.other_measure or self.measure)
        return own / other if own is not None and other else None

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def describe(self, results: Results) -> str:
        """As it stands in the table: the value, the bound, and whether it is met."""
        value = self.value(results)
        bound = f"{'≥' if self.at_least else '≤'} {_number(self.bound)}"
        if value is None:
            return f"{self.text}: {bound}, not measured"
        return f"{self.text}: {_number(value)}, {bound} {'✓' if self.is_met(value) else '✗'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _of(line: Line | None, measure: Measure) -> float | None:
    return measure(line) if line is not None and line.measurement is not None else None


def rate(line: Line) -> float | None:
    return line.per_second


def p50(line: Line) -> float | None:
    return line.percentiles[0] if line.percentiles else None


def tail(line: Line) -> float | None:
    """p99 over p50."""
    return line.percentiles[1] / line.percentiles[0] if line.percentiles else None


def cpu(line: Line) -> float | None:
    return line.cpu_us_per_operation


def cores(line: Line) -> float | None:
    return line.cores


def percent_of_a_core_per_host(line: Line) -> float | None:
    return None if line.cores is None else 100 * line.cores / 3


def median_gap(line: Line) -> float | None:
    """The upper one of two in the middle, as the table shows it."""
    gaps = sorted(line.measurement.samples) if line.measurement else []
    return gaps[len(gaps) // 2] if gaps else None


def worst_gap(line: Line) -> float | None:
    return max(line.measurement.samples, default=None) if line.measurement else None


def memory(line: Line) -> float | None:
    return float(line.measurement.rss_bytes_largest) if line.measurement else None


def _against(key: str, system: str, bound: float, text: str, other_key: str = "") -> Target:
    return Target(key, text, rate, bound, True, (other_key or key, system))


_OF_A_CLIENT = (
    _against("puts-64", "etcd", 4.0, "rate / etcd's"),
    _against("puts-256", "etcd", 5.0, "rate / etcd's"),
    _against("puts-64", "etcd-h2load", 2.0, "rate / etcd's with h2load"),
    _against("puts-256", "etcd-h2load", 2.5, "rate / etcd's with h2load"),
    _against("batches-100", "etcd", 3.0, "rate / etcd's in transactions of 100"),
    _against("gets-64", "etcd", 6.0, "rate / etcd's"),
    _against("gets-256", "etcd", 8.0, "rate / etcd's"),
    _against("stale-gets-64", "etcd", 8.0, "rate / etcd's serializable"),
    _against("stale-gets-256", "etcd", 10.0, "rate / etcd's serializable"),
    _against("stale-gets-256", "redis", 5.0, "rate / Redis sub-replica's"),
    _against("stale-gets-256", "redis-benchmark", 1.2, "rate / Redis sub-replica's with redis-benchmark"),
    _against("get-many-100", "etcd", 25.0, "keys/s / etcd's gets/s, 256 in flight", "gets-256"),
)
TARGETS = (
    Target("puts-1", "p50 / etcd's", p50, 1.0, False, ("puts-1", "etcd")),
    *(attrs.evolve(target, system=client) for client in OWN_CLIENTS for target in _OF_A_CLIENT),
    Target("puts-256", "CPU / etcd's", cpu, 0.4, False, ("puts-256", "etcd")),
    Target("puts-256-steady", "p99 / p50", tail, 4.0, False),
    _against("puts-256-shards-64", OWN, 0.75, "rate / that of 1 shard", "puts-256-shards-1"),
    Target("idle-shards-1000", "% of a core per host", percent_of_a_core_per_host, 2.0, False),
    Target("memory", "largest process / etcd's", memory, 1.0, False, ("memory", "etcd")),
    Target("idle", "CPU / etcd's", cores, 1.0, False, ("idle", "etcd")),
    _against("puts-256", "pysyncobj-at-once", 3.0, "rate / PySyncObj's, each entry at once"),
    Target("failover", "median gap in s", median_gap, 0.3, False),
    Target("failover", "longest gap in s", worst_gap, 0.6, False),
    _against("puts-256-slow-sync", OWN, 0.5, "rate / without the delay", "puts-256"),
    _against("batches-100-slow-sync", OWN, 0.8, "rate / without the delay", "batches-100"),
    Target("simulator-events", "events/s on one core", rate, 20_000, True, system="simulator"),
    Target("simulator-idle", "simulated s per s on one core", rate, 200, True, system="simulator"),
)


def targets_of(key: str, system: str) -> list[Target]:
    """The targets that stand beside this row."""
    return [target for target in TARGETS if (target.key, target.system) == (key, system)]
