"""What a simulation did and checked, in numbers."""

from __future__ import annotations

from typing import Final

import attrs

from shardraft.sim.crash_points import Point

TORN: Final = "torn batch"
STOPPED: Final = "stop at a damaged record"
REFUSED: Final = "refusal of a disk"
SENT_BY_FOLLOWER: Final = "copy sent by a follower"
HAPPENINGS: Final = (TORN, STOPPED, REFUSED, SENT_BY_FOLLOWER, *[point.crash for point in Point])
"""What ``World.happened`` counts: what a fault may lead to, depending on where it meets the hosts."""


@attrs.frozen(slots=True, kw_only=True)
class Report:
    """One simulation that kept every promise.

    ``trace_hash`` names the exact run: equal hashes, equal events in equal order. ``checked`` counts
    each invariant's checks by name; ``recovery_ms`` is how long after healing all shards had
    leaders, took a write, and all replicas and learners had caught up. ``faults_by_kind``: how often each kind
    of fault broke something, and each thing happened that depends on where a fault meets the hosts.
    """

    seed: int
    hosts: int
    shards: int
    learners: int
    seconds: float
    trace_hash: str
    events: int
    faults: int
    faults_by_kind: dict[str, int]
    frames_sent: int
    frames_lost: int
    frames_doubled: int
    frames_late: int
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
        kinds = ", ".join(f"{name} {count}" for name, count in self.faults_by_kind.items())
        frames = f"{self.frames_lost} lost, {self.frames_doubled} doubled, {self.frames_late} late"
        checked = ", ".join(f"{name} {count}" for name, count in self.checked.items())
        return [
            f"seed {self.seed}: {self.hosts} hosts, {self.shards} shards{learners}, {self.seconds:g} simulated seconds",
            f"{self.events} events, {self.faults} faults, {self.copies} copies installed",
            f"faults by kind: {kinds or 'none'}",
            f"frames: {self.frames_sent} sent, {frames}",
            f"writes: {self.acknowledged} acknowledged, {self.refused} refused, {self.unknown} of unknown outcome",
            f"retried operations answered without applying them twice: {self.duplicates}",
            f"reads: {self.reads} linearizable, {self.stale_reads} stale",
            f"recovered {self.recovery_ms} ms after healing",
            f"checked: {checked}",
            f"trace hash {self.trace_hash}",
        ]
