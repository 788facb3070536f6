"""One simulation from beginning to end: break things, heal them, demand progress, judge the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from shardraft.kv.commands import ANY_REVISION, PUT
from shardraft.kv.requests import Consistency
from shardraft.sim.client import SimClient
from shardraft.sim.faults import Faults
from shardraft.sim.history import Operation, OperationKind
from shardraft.sim.linearizable import check
from shardraft.sim.options import SimulationOptions
from shardraft.sim.report import Report
from shardraft.sim.trace import Listener
from shardraft.sim.workload import COLD_KEYS, HOT_KEYS, TAGGED_KEYS
from shardraft.sim.world import World
from shardraft.types import ShardId
from shardraft_router.core.calls import ReadCall, WriteCall

RECOVERY_ELECTION_TIMEOUTS_MAX: Final = 10
"""Within so many election timeouts after healing, everything must work again (DESIGN promise 5)."""

_STEP_US: Final = 100_000

Progress = Callable[[float], None]


def run_seed(
    seed: int,
    *,
    hosts: int = 3,
    shards: int = 2,
    learners: tuple[int, ...] = (1, 1),
    seconds: float = 20.0,
    verbose: bool = False,
) -> Report:
    """Run one seed; ``verbose`` prints every event. Raises ``SimulationFailure``."""
    options = SimulationOptions(seed=seed, hosts=hosts, shards=shards, learners=learners, seconds=seconds)
    return simulate(options, listener=print if verbose else None)


def simulate(options: SimulationOptions, progress: Progress | None = None, listener: Listener | None = None) -> Report:
    """Run one simulation and report what was checked.

    ``progress`` hears now and then which part of the simulated time has passed, from 0 to 1;
    ``listener`` hears a line for each event. Raises ``SimulationFailure`` when a promise is broken.
    """
    return Simulation(options, listener).run(progress)


class Simulation:
    """A world and its three acts: faults, healing, judgement."""

    def __init__(self, options: SimulationOptions, listener: Listener | None = None) -> None:
        self.options = options
        self.world = World(options, listener)
        self.faults = Faults(self.world)

    def run(self, progress: Progress | None = None) -> Report:
        """All three acts."""
        world = self.world
        world.start()
        if self.options.faults:
            self.faults.start()
        end_us = int(self.options.seconds * 1e6)
        while world.agenda.now_us < end_us:
            world.run_until(min(end_us, world.agenda.now_us + 500_000))
            if progress is not None:
                progress(world.agenda.now_us / end_us)
        self.faults.stop()
        recovery_ms = self._recover()
        self._read_everything()
        compared = self._judge()
        return self._report(recovery_ms, compared)

    # Healing.

    def _recover(self) -> int:
        """Heal, and demand progress within the stated time; how long it took, in milliseconds."""
        world = self.world
        world.workload.running = False
        world.agenda.after(0, world.heal)
        world.run_until(world.agenda.now_us)
        healed_us = world.agenda.now_us
        timeout_us = 2 * world.config.raft.election_timeout_ms * 1000
        deadline_us = healed_us + RECOVERY_ELECTION_TIMEOUTS_MAX * timeout_us
        probes = [self._probe(shard.shard, deadline_us - healed_us) for shard in world.shard_map.shards]
        while not self._has_recovered(probes):
            if world.agenda.now_us >= deadline_us:
                raise world.failure(self._why_not(probes))
            world.run_until(world.agenda.now_us + _STEP_US)
        return (world.agenda.now_us - healed_us) // 1000

    def _probe(self, shard: ShardId, timeout_us: int) -> WriteCall:
        """A write that must succeed on that shard."""
        client = self.world.clients[0]
        number = 0
        while self.world.shard_map.locate(b"probe-%d" % number)[0].shard != shard:
            number += 1
        key = b"probe-%d" % number
        call = client.core.write(PUT, key, b"alive", ANY_REVISION, client.clock.now_us() + timeout_us)
        call.waiter = None
        client.pump()
        return call

    def _has_recovered(self, probes: list[WriteCall]) -> bool:
        return self.world.has_settled() and all(probe.done and probe.error is None for probe in probes)

    def _why_not(self, probes: list[WriteCall]) -> str:
        world = self.world
        shards = [shard.shard for shard in world.shard_map.shards]
        missing = [f"shard {shard} has no leader" for shard in shards if world.leader_of(shard) is None]
        for shard, probe in zip(shards, probes, strict=True):
            if not probe.done or probe.error is not None:
                missing.append(f"a write to shard {shard} did not succeed ({probe.error!r})")
        behind = [process for process in world.processes.values() if not world.is_caught_up(process)]
        missing += [f"{process.node} has not caught up ({describe(process.host)})" for process in behind]
        return f"no progress within {RECOVERY_ELECTION_TIMEOUTS_MAX} election timeouts of healing: " + "; ".join(
            missing
        )

    # Judgement.

    def _read_everything(self) -> None:
        """Read every key once more, linearizably: nothing acknowledged may be missing."""
        world = self.world
        client = world.clients[0]
        keys = (*HOT_KEYS, *COLD_KEYS, *TAGGED_KEYS)
        called = {key: world.workload.history.next_position() for key in keys}
        deadline_us = client.clock.now_us() + 5_000_000
        calls = {key: client.core.read(key, Consistency.LINEARIZABLE, deadline_us) for key in keys}
        client.pump()
        limit_us = world.agenda.now_us + 6_000_000
        while not all(call.done for call in calls.values()) and world.agenda.now_us < limit_us:
            world.run_until(world.agenda.now_us + _STEP_US)
        for key, call in calls.items():
            self._record_read(client, key, called[key], call)

    def _record_read(self, client: SimClient, key: bytes, called: int, call: ReadCall) -> None:
        world = self.world
        if not call.done or call.error is not None:
            raise world.failure(f"after healing, {key!r} could not be read: {call.error!r}")
        value, revision = call.values[0], call.revisions[0]
        try:
            world.judge.read_was_told(key, revision, value, call.applied_index)
        except AssertionError as error:
            raise world.failure(str(error)) from error
        returned = world.workload.history.next_position()
        operation = Operation(key, OperationKind.GET, called, returned, value, revision=revision)
        world.workload.history.operations.append(operation)

    def _judge(self) -> int:
        """Compare all contents with what was committed, and all histories with linearizability."""
        world = self.world
        compared = 0
        try:
            for process in world.processes.values():
                compared += world.invariants.check_contents(process)
        except AssertionError as error:
            raise world.failure(str(error)) from error
        self.check_refusals()
        finding = check(world.workload.finish())
        if not finding.good:
            raise world.failure(f"{finding.verdict.value} at key {finding.key!r}: {finding.reason}")
        return compared

    def check_refusals(self) -> None:
        """Certainly not applied: none of these values may ever have been written."""
        world = self.world
        for shard in world.shard_map.shards:
            for value in world.invariants.oracle(shard.shard).values():
                if value in world.workload.refused_values:
                    raise world.failure(f"a client was told that {value[:16]!r} was certainly not applied, and it was")

    def _report(self, recovery_ms: int, compared: int) -> Report:
        world, options = self.world, self.options
        counts, told = world.invariants.counts, world.workload.counts
        oracles = [world.invariants.oracle(shard.shard) for shard in world.shard_map.shards]
        checked = attrs.asdict(counts)
        checked["replicas_compared"] = compared
        checked["operations_linearized"] = len(world.workload.history.operations)
        return Report(
            seed=options.seed,
            hosts=options.hosts,
            shards=options.shards,
            learners=sum(options.learners),
            seconds=options.seconds,
            trace_hash=world.trace.digest(),
            events=world.trace.records,
            faults=self.faults.count,
            faults_by_kind=dict(sorted((self.faults.by_kind | world.happened).items())),
            frames_sent=world.network.frames_sent,
            frames_lost=world.network.frames_lost,
            frames_doubled=world.network.frames_doubled,
            frames_late=world.network.frames_late,
            acknowledged=told.acknowledged,
            refused=told.refused,
            unknown=told.unknown,
            reads=told.reads,
            stale_reads=told.stale_reads,
            duplicates=sum(oracle.duplicates for oracle in oracles),
            copies=world.copies_installed,
            recovery_ms=recovery_ms,
            checked=checked,
        )


def describe(host: object) -> str:
    """Where each replica of a host stands, for a failure's text."""
    replicas = getattr(host, "replicas", {})
    return ", ".join(
        f"shard {shard}: commit {replica.commit_index} applied {replica.machine.last_applied}"
        for shard, replica in replicas.items()
    )
