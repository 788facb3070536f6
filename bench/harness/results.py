"""Everything measured in a run: rounds of one row put together, rates computed from their sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from bench.harness.histogram import merge, percentiles_ms
from bench.harness.rows import Measurement, Outcome

PERCENTAGES = (50.0, 99.0, 99.9)


@attrs.frozen(slots=True)
class Line:
    """One row of the table: what all rounds of a row on one system gave together.

    ``measurement`` holds their sums, and the highest memory; it is None when any round failed, and ``failure``
    says how. ``rounds`` are the rates of the single rounds, to see how far they lie apart.
    """

    outcome: Outcome
    measurement: Measurement | None
    failure: str
    rounds: tuple[float, ...]

    @property
    def per_second(self) -> float | None:
        found = self.measurement
        return found.operations / found.seconds if found and found.operations and found.seconds else None

    @property
    def percentiles(self) -> tuple[float, ...] | None:
        """p50, p99 and p99.9 in milliseconds."""
        return percentiles_ms(self.measurement.histogram, PERCENTAGES) if self.measurement else None

    @property
    def cpu_us_per_operation(self) -> float | None:
        """None where it means nothing: no operations, or servers that were killed meanwhile."""
        found = self.measurement
        return 1e6 * found.cpu_seconds / found.operations if found and found.operations and found.cpu_seconds else None

    @property
    def disk_bytes_per_operation(self) -> float | None:
        found = self.measurement
        return found.disk_bytes / found.operations if found and found.operations and found.cpu_seconds else None

    @property
    def cores(self) -> float | None:
        """How much of a core the servers used, all together."""
        found = self.measurement
        return found.cpu_seconds / found.seconds if found and found.cpu_seconds and found.seconds else None


class Results:
    """Lines by row and system."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        grouped: dict[tuple[str, str], list[Outcome]] = {}
        for outcome in outcomes:
            grouped.setdefault((outcome.key, outcome.system), []).append(outcome)
        self._lines = {place: _join(group) for place, group in grouped.items()}

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines.values())

    def line(self, key: str, system: str) -> Line | None:
        return self._lines.get((key, system))

    @property
    def failed(self) -> list[Line]:
        return [line for line in self if line.failure]


def _join(group: list[Outcome]) -> Line:
    measured = [outcome.measurement for outcome in group if outcome.measurement is not None]
    failure = "; ".join(dict.fromkeys(outcome.failure for outcome in group if outcome.failure))
    if failure:
        return Line(group[0], None, failure, ())
    rounds = tuple(each.operations / each.seconds for each in measured if each.operations and each.seconds)
    return Line(group[0], add(measured), "", rounds)


def add(parts: list[Measurement]) -> Measurement:
    """Sums, merged histograms, and of memory the highest."""
    seconds = sum(part.seconds for part in parts)
    return Measurement(
        operations=sum(part.operations for part in parts),
        calls=sum(part.calls for part in parts),
        seconds=seconds,
        histogram=merge(part.histogram for part in parts),
        cpu_seconds=sum(part.cpu_seconds for part in parts),
        client_cpu_seconds=sum(part.client_cpu_seconds for part in parts),
        disk_bytes=sum(part.disk_bytes for part in parts),
        rss_bytes=max(part.rss_bytes for part in parts),
        rss_bytes_largest=max(part.rss_bytes_largest for part in parts),
        others_share=sum(part.others_share * part.seconds for part in parts) / seconds if seconds else 0.0,
        written=sum(part.written for part in parts),
        read_back=sum(part.read_back for part in parts),
        wrong=sum(part.wrong for part in parts),
        samples=tuple(sample for part in parts for sample in part.samples),
    )
