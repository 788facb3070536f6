"""When a simulated disk does what it was given, and what a crash leaves of it.

The twin of a process's disk threads: one for the log, which joins the batches that wait into one
commit, one for the state, and one that makes copies. Nothing is on the disk before its commit completes. A crash
keeps what was committed; the commit under way is kept or lost as a whole, for a transaction is
whole or not at all; what waits behind it is lost. An install of a copy is two commits, state
first, and a crash may fall between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final, TypeAlias

from shardraft.errors import CopyRefused
from shardraft.host.events import (
    CopyInstalled,
    CopyRejected,
    CopySpooled,
    ReplicaCreated,
    ReplicaRemoved,
    ShardMapKept,
    StateFlushed,
)
from shardraft.host.turn import (
    CopyCommand,
    CreateReplica,
    DropCopy,
    InstallCopy,
    LogBatch,
    RemoveReplica,
    ReplicaCommand,
    SpoolCopy,
    StageChunk,
    StateBatch,
)
from shardraft.kv.machine import MachineState
from shardraft.shards.shard_map import ShardMap
from shardraft.sim.clock import Agenda, draw
from shardraft.sim.store import SimStore

LogJob: TypeAlias = "list[tuple[int, LogBatch]] | tuple[InstallCopy, MachineState] | RemoveReplica"
StateJob: TypeAlias = StateBatch | CopyCommand | ReplicaCommand | ShardMap

LOG_COMMIT_US: Final = (120, 700)
STATE_COMMIT_US: Final = (500, 8_000)
COPY_STEP_US: Final = (50, 600)
STALL_US_MAX: Final = 1_500_000
"""However slow a disk is, no step of it takes longer."""


class _Thread:
    """Does one job after the other, each after its latency; ``carry_out`` is what a job does."""

    def __init__(self, disk: SimDisk, carry_out: Callable[[Any], None]) -> None:
        self.jobs: deque[Any] = deque()
        self._disk = disk
        self._carry_out = carry_out

    def submit(self, job: object) -> None:
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._begin()

    def _begin(self) -> None:
        self._disk.after_latency_of(self.jobs[0], self._done)

    def _done(self) -> None:
        job = self.jobs.popleft()
        if self.jobs:
            self._begin()
        self._carry_out(job)

    def crash(self, keep: bool) -> None:
        """The job under way, if any, is kept or lost as a whole; the others never happen."""
        jobs, self.jobs = self.jobs, deque()
        if jobs and keep:
            self._carry_out(jobs[0])


class SimDisk:
    """The disk of one process at a time. ``slowness`` multiplies every latency and ``log_slowness`` the log's.

    ``on_committed`` hears the numbers of the turns whose log batches became durable, in order, and
    ``on_event`` the other completions, as an event class and its fields after ``now_us``.
    """

    def __init__(self, agenda: Agenda, random: Random, store: SimStore) -> None:
        self.store = store
        self.slowness = 1
        self.log_slowness = 1
        self.on_committed: Callable[[tuple[int, ...]], None] = _ignore
        self.on_event: Callable[..., None] = _ignore
        self._agenda = agenda
        self._random = random
        self._boot = 0
        self._is_crashing = False
        self._log = _Thread(self, self._carry_out_log)
        self._state = _Thread(self, self._carry_out_state)
        self._copies = _Thread(self, self._carry_out_copy)

    @property
    def busy(self) -> bool:
        """A log commit is under way."""
        return bool(self._log.jobs)

    def crash(self) -> None:
        """The process is gone at this moment; of what it asked for, nothing more follows."""
        self._boot += 1
        self._is_crashing = True
        for thread in (self._log, self._state, self._copies):
            thread.crash(keep=self._random.random() < 0.5)
        self._is_crashing = False
        self.store.crash()

    # What a turn asks for.

    def submit_log(self, number: int, batch: LogBatch) -> None:
        """Commit the log batch of turn ``number`` after all that was submitted before."""
        last = self._log.jobs[-1] if len(self._log.jobs) > 1 else None
        if isinstance(last, list):
            last.append((number, batch))  # The one at work is closed; this one joins those that wait.
        else:
            self._log.submit([(number, batch)])

    def submit_state(self, job: StateJob) -> None:
        """Flush, keep a map, or work on a copy, after all that was submitted before."""
        if isinstance(job, SpoolCopy | DropCopy):
            self._copies.submit(job)
        else:
            self._state.submit(job)

    # What happens on the threads.

    def _carry_out_log(self, job: LogJob) -> None:
        if isinstance(job, list):
            self.store.commit_log([batch for _, batch in job])
            if not self._is_crashing:
                self.on_committed(tuple(number for number, _ in job))
        elif isinstance(job, RemoveReplica):
            self.store.remove_log(job.shard)
            self._tell(ReplicaRemoved, job.shard)
        else:
            install, state = job
            self.store.reset_log(install.shard, install.index, install.term)
            self._tell(CopyInstalled, install.shard, install.number, state)

    def _carry_out_state(self, job: StateBatch | ShardMap | StageChunk | InstallCopy | ReplicaCommand) -> None:
        if isinstance(job, StateBatch):
            self.store.commit_state(job)
            self._tell(StateFlushed, job.number)
        elif isinstance(job, ShardMap):
            self.store.save_shard_map(job)
            self._tell(ShardMapKept, job)
        elif isinstance(job, StageChunk):
            self._stage(job)
        elif isinstance(job, CreateReplica):
            self.store.create_replica(job.replica, job.state)
            self._tell(ReplicaCreated, job.state.shard)
        elif isinstance(job, RemoveReplica):
            self._remove(job)
        else:
            self._install(job)

    def _stage(self, job: StageChunk) -> None:
        try:
            self.store.stage_chunk(job.shard, job.number, job.data)
        except CopyRefused:
            return  # What was staged is gone with it, and the install that follows will be refused.

    def _install(self, job: InstallCopy) -> None:
        """State first; then the log is reset on its own thread, after every batch submitted so far."""
        try:
            state = self.store.install_copy(job.shard, job.index, job.term)
        except CopyRefused as refused:
            self._tell(CopyRejected, job.shard, job.number, str(refused))
            return
        if not self._is_crashing:
            self._log.submit((job, state))

    def _remove(self, job: RemoveReplica) -> None:
        """Tombstone and state first; then the log, on its own thread."""
        self.store.remove_replica(job.shard, job.replica)
        if not self._is_crashing:
            self._log.submit(job)

    def _carry_out_copy(self, job: SpoolCopy | DropCopy) -> None:
        if isinstance(job, SpoolCopy):
            self._tell(CopySpooled, job.shard, job.copy_id, *self.store.spool_copy(job.shard, job.copy_id))
        else:
            self.store.drop_copy(job.copy_id)

    def _tell(self, kind: type, *fields: object) -> None:
        if not self._is_crashing:
            self.on_event(kind, *fields)

    # Time.

    def after_latency_of(self, job: object, action: Callable[[], None]) -> None:
        """Do ``action`` when ``job``, begun now, is done, unless the process is gone by then."""
        slowness = self.slowness
        if isinstance(job, StateBatch | InstallCopy | CreateReplica | ShardMap):
            between_us = STATE_COMMIT_US
        elif isinstance(job, StageChunk | SpoolCopy | DropCopy):
            between_us = COPY_STEP_US
        else:
            between_us = LOG_COMMIT_US
            slowness *= self.log_slowness
        delay_us = min(draw(self._random, between_us) * slowness, STALL_US_MAX)
        self._agenda.after(delay_us, self._if_alive, self._boot, action)

    def _if_alive(self, boot: int, action: Callable[[], None]) -> None:
        if boot == self._boot:
            action()


def _ignore(*_: object) -> None:
    """What happens to news before anybody listens."""
