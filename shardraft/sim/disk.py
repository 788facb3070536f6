"""When a simulated disk does what it was given, and what a crash leaves of it.

The twin of a process's two disk threads: one for the log, which joins the batches that wait into
one commit, and one for the state. Nothing is on the disk before its commit completes. A crash
keeps what was committed; the commit under way is kept or lost as a whole, for a transaction is
whole or not at all; what waits behind it is lost. An install of a copy is two commits, state
first, and a crash may fall between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from shardraft.host.events import CopyInstalled, CopySpooled, ShardMapKept, StateFlushed
from shardraft.host.turn import CopyCommand, DropCopy, InstallCopy, LogBatch, SpoolCopy, StageChunk, StateBatch
from shardraft.kv.machine import MachineState
from shardraft.shards.shard_map import ShardMap
from shardraft.sim.clock import Agenda
from shardraft.sim.store import SimStore

LogJob: TypeAlias = "list[tuple[int, LogBatch]] | tuple[InstallCopy, MachineState]"
StateJob: TypeAlias = StateBatch | CopyCommand | ShardMap

LOG_COMMIT_US: Final = (120, 700)
STATE_COMMIT_US: Final = (500, 8_000)
COPY_STEP_US: Final = (50, 600)
STALL_US_MAX: Final = 1_500_000
"""However slow a disk is, no step of it takes longer."""


class SimDisk:
    """The disk of one process at a time. ``slowness`` multiplies every latency; 1 is a healthy disk.

    ``on_committed`` hears the numbers of the turns whose log batches became durable, in order, and
    ``on_event`` the other completions, as an event class and its fields after ``now_us``.
    """

    def __init__(self, agenda: Agenda, random: Random, store: SimStore) -> None:
        self.store = store
        self.slowness = 1
        self.on_committed: Callable[[tuple[int, ...]], None] = _ignore
        self.on_event: Callable[..., None] = _ignore
        self._agenda = agenda
        self._random = random
        self._boot = 0
        self._log_jobs: deque[LogJob] = deque()
        self._log_busy = False
        self._state_jobs: deque[StateJob] = deque()
        self._state_busy = False

    @property
    def busy(self) -> bool:
        """A log commit is under way."""
        return self._log_busy

    def crash(self) -> None:
        """The process is gone at this moment."""
        self._boot += 1
        if self._log_busy and self._random.random() < 0.5:
            self._carry_out_log(self._log_jobs[0])
        if self._state_busy and self._random.random() < 0.5:
            self._carry_out_state(self._state_jobs[0])
        self._log_jobs.clear()
        self._state_jobs.clear()
        self._log_busy = self._state_busy = False
        self.store.crash()

    # The log's thread.

    def submit_log(self, number: int, batch: LogBatch) -> None:
        """Commit the log batch of turn ``number`` after all that was submitted before."""
        last = self._log_jobs[-1] if len(self._log_jobs) > 1 else None
        if isinstance(last, list):
            last.append((number, batch))  # The one at work is closed; this one joins those that wait.
        else:
            self._submit_log_job([(number, batch)])

    def _submit_log_job(self, job: LogJob) -> None:
        self._log_jobs.append(job)
        if not self._log_busy:
            self._begin_log_job()

    def _begin_log_job(self) -> None:
        self._log_busy = True
        self._after(LOG_COMMIT_US, self._log_job_done)

    def _log_job_done(self) -> None:
        job = self._log_jobs.popleft()
        self._carry_out_log(job)
        self._log_busy = False
        if self._log_jobs:
            self._begin_log_job()
        if isinstance(job, list):
            self.on_committed(tuple(number for number, _ in job))
        else:
            install, state = job
            self.on_event(CopyInstalled, install.shard, install.number, state)

    def _carry_out_log(self, job: LogJob) -> None:
        if isinstance(job, list):
            self.store.commit_log([batch for _, batch in job])
        else:
            self.store.reset_log(job[0].shard, job[0].index, job[0].term)

    # The state's thread.

    def submit_state(self, job: StateJob) -> None:
        """Flush, keep a map, or work on a copy, after all that was submitted before."""
        self._state_jobs.append(job)
        if not self._state_busy:
            self._begin_state_job()

    def _begin_state_job(self) -> None:
        self._state_busy = True
        is_commit = isinstance(self._state_jobs[0], StateBatch | InstallCopy | ShardMap)
        self._after(STATE_COMMIT_US if is_commit else COPY_STEP_US, self._state_job_done)

    def _state_job_done(self) -> None:
        job = self._state_jobs.popleft()
        self._state_busy = False
        if self._state_jobs:
            self._begin_state_job()
        self._carry_out_state(job, self.on_event)

    def _carry_out_state(self, job: StateJob, on_event: Callable[..., None] | None = None) -> None:
        """Do ``job``; without ``on_event`` the process is gone and nothing follows from it."""
        tell = on_event or _ignore
        store = self.store
        if isinstance(job, StateBatch):
            store.commit_state(job)
            tell(StateFlushed, job.number)
        elif isinstance(job, ShardMap):
            store.save_shard_map(job)
            tell(ShardMapKept, job)
        elif isinstance(job, SpoolCopy):
            tell(CopySpooled, job.shard, job.copy_id, *store.spool_copy(job.shard, job.copy_id))
        elif isinstance(job, DropCopy):
            store.drop_copy(job.copy_id)
        elif isinstance(job, StageChunk):
            store.stage_chunk(job.shard, job.number, job.data)
        else:
            state = store.install_copy(job.shard, job.index, job.term)
            if on_event is not None:
                self._submit_log_job((job, state))

    def _after(self, between_us: tuple[int, int], action: Callable[[], None]) -> None:
        delay_us = min(self._random.randrange(*between_us) * self.slowness, STALL_US_MAX)
        self._agenda.after(delay_us, self._if_alive, self._boot, action)

    def _if_alive(self, boot: int, action: Callable[[], None]) -> None:
        if boot == self._boot:
            action()


def _ignore(*_: object) -> None:
    """What happens to news before anybody listens."""
