"""What a simulation did and checked, in numbers."""

from __future__ import annotations

import attrs


@attrs.frozen(slots=True, kw_only=True)
class Report:
    """One simulation that kept every promise.

    ``trace_hash`` names the exact run: equal hashes, equal events in equal order. ``checked`` counts
    each invariant's checks by name; ``recovery_ms`` is how long after healing all shards had
    leaders, took a write, and all replicas and learners had caught up.
    """

    seed: int
    hosts: int
    shards: int
    learners: int
    seconds: float
    trace_hash: str
    events: int
    faults: int
    frames_sent: int
    frames_lost: int
    acknowledged: int
    refused: int
    unknown: int
    reads: int
    stale_reads: int
    duplicates: int
    copies: int
    recovery_ms: int
    checked: dict[str, int]

    def lines(self) -> list[str]:
        """The report for a person."""
        learners = f", {self.learners} learners" if self.learners else ""
        checked = ", ".join(f"{name} {count}" for name, count in self.checked.items())
        return [
            f"seed {self.seed}: {self.hosts} hosts, {self.shards} shards{learners}, {self.seconds:g} simulated seconds",
            f"{self.events} events, {self.faults} faults, {self.copies} copies installed",
            f"frames: {self.frames_sent} sent, {self.frames_lost} lost",
            f"writes: {self.acknowledged} acknowledged, {self.refused} refused, {self.unknown} of unknown outcome",
            f"retried operations answered without applying them twice: {self.duplicates}",
            f"reads: {self.reads} linearizable, {self.stale_reads} stale",
            f"recovered {self.recovery_ms} ms after healing",
            f"checked: {checked}",
            f"trace hash {self.trace_hash}",
        ]
