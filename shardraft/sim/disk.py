"""When a simulated disk does what it was given, and what a crash leaves of it.

The twin of a process's disk threads: one for the log, which joins the batches that wait into one
commit, one for the state, and one that makes copies. Nothing is on the disk before its commit completes. A crash
keeps what was committed, and of what each thread was given after that any number of the first: the
disk may have been faster than anybody heard. Each of them is whole or not there at all, for a
transaction is, but batches that would have been joined may be *torn* from each other: the thread was
free to take fewer along. An install of a copy is two commits, state first, and a crash may fall between them.

A disk that *hangs* finishes nothing until it is released.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import accumulate, chain
from random import Random
from typing import Any, Final, TypeAlias

from shardraft.errors import CopyRefused, StorageError
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
from shardraft.sim.clock import Agenda, drawing
from shardraft.sim.crash_points import Point
from shardraft.sim.store import SimStore

LogJob: TypeAlias = "list[tuple[int, LogBatch]] | tuple[InstallCopy, MachineState] | RemoveReplica"
StateJob: TypeAlias = StateBatch | CopyCommand | ReplicaCommand | ShardMap

LOG_COMMIT_US: Final = (120, 700)
STATE_COMMIT_US: Final = (500, 8_000)
COPY_STEP_US: Final = (50, 600)
STALL_US_MAX: Final = 1_500_000
"""However slow a disk is, no step of it takes longer."""


class _Thread:
    """Does one job after the other, each after its latency; ``carry_out`` is what a job does.

    ``begun_us``: when the job at work began. ``hangs``: no job comes to an end.
    """

    def __init__(self, disk: SimDisk, carry_out: Callable[[Any], None]) -> None:
        self.jobs: deque[Any] = deque()
        self.begun_us = 0
        self.hangs = False
        self._disk = disk
        self._carry_out = carry_out
        self._held = False

    def submit(self, job: object) -> None:
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._begin()

    def _begin(self) -> None:
        self.begun_us = self._disk.after_latency_of(self.jobs[0], self._done)

    def _done(self, boot: int) -> None:
        if boot != self._disk.boot:
            return  # The process that gave it the job is gone.
        if self.hangs:
            self._held = True
            return
        job = self.jobs.popleft()
        if self.jobs:
            self._begin()
        try:
            self._carry_out(job)
        except StorageError as error:
            self._disk.on_failure(error)

    def release(self) -> None:
        """The job that hung comes to an end after its latency, counted from now."""
        self.hangs = False
        if self._held:
            self._held = False
            self._disk.after_latency_of(self.jobs[0], self._done)

    def crash(self, random: Random) -> bool:
        """Half the time some of the first jobs are kept, and else none; whether that tore batches from each other."""
        jobs, self.jobs = self.jobs, deque()
        self._held = False
        if not jobs or random.random() < 0.5:
            return False
        parts = [_parts(job) for job in jobs]
        kept = random.randint(1, sum(map(len, parts)))
        for part in list(chain.from_iterable(parts))[:kept]:
            self._carry_out(part)
        return kept not in accumulate(map(len, parts))


def _parts(job: Any) -> list[Any]:
    """The least that may be kept of ``job``, one after the other: joined batches each alone."""
    return [[batch] for batch in job] if isinstance(job, list) else [job]


class SimDisk:
    """The disk of one process at a time. ``slowness`` multiplies every latency and ``log_slowness`` the log's.

    ``on_committed`` hears the numbers of the turns whose log batches became durable, in order, and
    ``on_event`` the other completions, as an event class and its fields after ``now_us``; ``on_failure`` that something
    on it is damaged. ``at_point`` hears where the work stands, and says whether the process has just crashed
    there. ``torn`` counts the crashes that tore batches from each other.
    """

    def __init__(self, agenda: Agenda, random: Random, store: SimStore) -> None:
        self.store = store
        self.slowness = 1
        self.log_slowness = 1
        self.torn = 0
        self.is_hung = False
        """Whether anything of it hangs."""
        self.boot = 0
        """How many of its processes are gone."""
        self.on_committed: Callable[[tuple[int, ...]], None] = _ignore
        self.on_event: Callable[..., None] = _ignore
        self.on_failure: Callable[[StorageError], None] = _ignore
        self.at_point: Callable[[Point], bool] = _never
        self._agenda = agenda
        self._random = random
        self._draw_log_us = drawing(random, LOG_COMMIT_US)
        draw_state_us, draw_copy_us = drawing(random, STATE_COMMIT_US), drawing(random, COPY_STEP_US)
        self._draws_us: dict[type, Callable[[], int]] = {
            **dict.fromkeys((StateBatch, InstallCopy, CreateReplica, ShardMap), draw_state_us),
            **dict.fromkeys((StageChunk, SpoolCopy, DropCopy), draw_copy_us),
        }
        """How long a job of each kind takes that is not one of the log."""
        self._is_crashing = False
        self._log = _Thread(self, self._carry_out_log)
        self._state = _Thread(self, self._carry_out_state)
        self._copies = _Thread(self, self._carry_out_copy)

    def hang(self, *, log: bool, state: bool) -> None:
        """Finish nothing of the log, of the state, or of both, until ``release``; a crash changes nothing about it."""
        self.is_hung = log or state
        self._log.hangs = log
        self._state.hangs = self._copies.hangs = state

    def release(self) -> None:
        """Finish what hung, and be a good disk again."""
        self.slowness = self.log_slowness = 1
        self.is_hung = False
        for thread in (self._log, self._state, self._copies):
            thread.release()

    @property
    def log_at_work_since_us(self) -> int | None:
        """Since when the log commit at work has been at work; None when there is none."""
        job = self._log.jobs[0] if self._log.jobs else None
        return self._log.begun_us if isinstance(job, list) else None

    def crash(self) -> None:
        """The process is gone at this moment; of what it asked for, nothing more follows."""
        self.boot += 1
        self._is_crashing = True
        self.torn += self._log.crash(self._random)
        for thread in (self._state, self._copies):
            thread.crash(self._random)
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
            numbers, batches = zip(*job, strict=True)
            self.store.commit_log(list(batches))
            if not self._is_crashing:
                self.on_committed(numbers)
                self.at_point(Point.DURABLE)
        elif isinstance(job, RemoveReplica):
            self.store.remove_log(job.shard)
            self._tell(Point.RESET, ReplicaRemoved, job.shard)
        else:
            install, state = job
            self.store.reset_log(install.shard, install.index, install.term)
            self._tell(Point.RESET, CopyInstalled, install.shard, install.number, state)

    def _carry_out_state(self, job: StateBatch | ShardMap | StageChunk | InstallCopy | ReplicaCommand) -> None:
        if isinstance(job, StateBatch):
            self.store.commit_state(job)
            self._tell(Point.FLUSHED, StateFlushed, job.number)
        elif isinstance(job, ShardMap):
            self.store.save_shard_map(job)
            self._tell(Point.FLUSHED, ShardMapKept, job)
        elif isinstance(job, StageChunk):
            self._stage(job)
        elif isinstance(job, CreateReplica):
            self.store.create_replica(job.replica, job.state)
            self._tell(Point.FLUSHED, ReplicaCreated, job.state.shard)
        elif isinstance(job, RemoveReplica):
            self._remove(job)
        else:
            self._install(job)

    def _stage(self, job: StageChunk) -> None:
        try:
            self.store.stage_chunk(job.shard, job.number, job.data)
        except CopyRefused:
            return  # What was staged is gone with it, and the install that follows will be refused.
        if not self._is_crashing:
            self.at_point(Point.STAGED)

    def _install(self, job: InstallCopy) -> None:
        """State first; then the log is reset on its own thread, after every batch submitted so far."""
        try:
            state = self.store.install_copy(job.shard, job.index, job.term)
        except CopyRefused as refused:
            self._tell(Point.STAGED, CopyRejected, job.shard, job.number, str(refused))
            return
        if not self._is_crashing and not self.at_point(Point.INSTALLED):
            self._log.submit((job, state))

    def _remove(self, job: RemoveReplica) -> None:
        """Tombstone and state first; then the log, on its own thread."""
        self.store.remove_replica(job.shard, job.replica)
        if not self._is_crashing and not self.at_point(Point.INSTALLED):
            self._log.submit(job)

    def _carry_out_copy(self, job: SpoolCopy | DropCopy) -> None:
        if isinstance(job, SpoolCopy):
            spooled = self.store.spool_copy(job.shard, job.copy_id)
            self._tell(Point.SPOOLED, CopySpooled, job.shard, job.copy_id, *spooled)
        else:
            self.store.drop_copy(job.copy_id)

    def _tell(self, point: Point, kind: type, *fields: object) -> None:
        if not self._is_crashing:
            self.on_event(kind, *fields)
            self.at_point(point)

    # Time.

    def after_latency_of(self, job: object, action: Callable[[int], None]) -> int:
        """Do ``action`` with the ``boot`` of now when ``job``, begun now, is done; what time it is now."""
        slowness, draw_us = self.slowness, self._draws_us.get(type(job))
        if draw_us is None:
            slowness *= self.log_slowness
            draw_us = self._draw_log_us
        delay_us = min(draw_us() * slowness, STALL_US_MAX)
        self._agenda.after(delay_us, action, self.boot)
        return self._agenda.now_us


def _ignore(*_: object) -> None:
    """What happens to news before anybody listens."""


def _never(_: Point) -> bool:
    """Nobody is made to crash."""
    return False
