"""When applied state goes to disk; ``compaction`` cuts logs behind it.

State is applied into memory and flushed in whole images (DESIGN section 3): an image equals
exactly the state at its ``last_applied``, and leaves only once the log is persisted that far
(PROTOCOL: never flush past ``persisted_index``). The log is what makes a write durable.
"""

from __future__ import annotations

import attrs

from shardraft.config import Limits
from shardraft.host.replica import Replica
from shardraft.host.turn import StateBatch
from shardraft.kv.machine import MachineImage
from shardraft.types import ShardId


@attrs.frozen(slots=True)
class _Flush:
    """A flush under way; ``submitted`` tells whether the store has it or it still waits for the log."""

    number: int
    replicas: tuple[Replica, ...]
    images: tuple[MachineImage, ...]


class Flushing:
    """The flush policy of a host: one flush at a time, of every replica that applied something.

    A flush begins at ``write_buffer_bytes_max`` or ``flush_age_ms_max``, or when the log of a shard
    cannot be compacted without it. At twice the bytes applying waits (``stalled``).
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._dirty: dict[ShardId, Replica] = {}
        self._oldest_us = 0
        self._number = 0
        self._waiting: _Flush | None = None
        self._submitted: _Flush | None = None
        self._wanted = False
        self.buffer_bytes = 0

    @property
    def stalled(self) -> bool:
        """Applied state fills memory faster than the disk takes it: apply nothing until a flush is done."""
        return self.buffer_bytes >= 2 * self._limits.write_buffer_bytes_max

    @property
    def idle(self) -> bool:
        """All that was applied is flushed."""
        return not self._dirty and self._waiting is None and self._submitted is None

    @property
    def deadline_us(self) -> int | None:
        if not self._dirty or self._waiting is not None or self._submitted is not None:
            return None
        return self._oldest_us + 1000 * self._limits.flush_age_ms_max

    def apply(self, replica: Replica, now_us: int) -> None:
        """Let ``replica`` apply what it may and count what that adds."""
        machine = replica.machine
        applied, buffered = machine.last_applied, machine.buffer_bytes
        replica.apply_committed()
        if machine.last_applied == applied:
            return
        self.buffer_bytes += machine.buffer_bytes - buffered
        self._mark_dirty(replica, now_us)

    def want(self) -> None:
        """Begin a flush at the next chance, whatever the bytes (a copy or a compaction waits for it)."""
        self._wanted = True

    def take(self, now_us: int) -> StateBatch | None:
        """The flush to submit, if one is due and its entries are all persisted."""
        if self._submitted is not None:
            return None
        if self._waiting is None and self._due(now_us):
            self._begin()
        flush = self._waiting
        if flush is None:
            return None
        for replica, image in zip(flush.replicas, flush.images, strict=True):
            if replica.log.persisted_index < image.state.last_applied:
                return None
        self._waiting, self._submitted = None, flush
        return StateBatch(flush.number, flush.images)

    def _due(self, now_us: int) -> bool:
        if not self._dirty:
            self._wanted = False
            return False
        if self._wanted or self.buffer_bytes >= self._limits.write_buffer_bytes_max:
            return True
        return now_us - self._oldest_us >= 1000 * self._limits.flush_age_ms_max

    def _begin(self) -> None:
        self._number += 1
        replicas = tuple(self._dirty[shard] for shard in sorted(self._dirty))
        self._waiting = _Flush(self._number, replicas, tuple(r.machine.begin_flush() for r in replicas))
        self._dirty = {}
        self._wanted = False

    def flushed(self, number: int) -> tuple[Replica, ...]:
        """The submitted flush is durable; the replicas whose ``flushed_index`` moved."""
        flush = self._submitted
        assert flush is not None, "a flush that nobody submitted finished"
        assert flush.number == number, "flushes finish in the order they were submitted"
        self._submitted = None
        for replica in flush.replicas:
            machine = replica.machine
            buffered = machine.buffer_bytes
            machine.end_flush()
            self.buffer_bytes += machine.buffer_bytes - buffered
        return flush.replicas

    def set_aside(self, replica: Replica) -> None:
        """A copy is about to replace the state of ``replica``: no further flush begins that would overwrite it."""
        self._dirty.pop(replica.shard, None)

    def take_back(self, replica: Replica, now_us: int) -> None:
        """The copy came to nothing: what ``replica`` has buffered is to be flushed after all."""
        if replica.machine.last_applied > replica.machine.flushed_index:
            self._mark_dirty(replica, now_us)

    def replaced(self, replica: Replica) -> None:
        """A copy replaced the state of ``replica``: what it has buffered is about to be dropped."""
        self.buffer_bytes -= replica.machine.buffer_bytes

    def left(self, replica: Replica) -> None:
        """``replica`` is about to be removed, and with it what it has buffered."""
        self.set_aside(replica)
        self.replaced(replica)

    def _mark_dirty(self, replica: Replica, now_us: int) -> None:
        if not self._dirty:
            self._oldest_us = now_us
        self._dirty[replica.shard] = replica

    def is_flushing(self, replica: Replica) -> bool:
        """A flush that holds an image of ``replica`` is under way."""
        return any(flush is not None and replica in flush.replicas for flush in (self._waiting, self._submitted))
