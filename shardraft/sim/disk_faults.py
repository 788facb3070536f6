"""What breaks on disks: slow ones, ones that hang or are full, changed bytes, and disks of another time.

A disk is wiped, or an old copy of it is put back, only where all other hosts have met a later start than
it will show, which is what they find it out by; and in one world this happens to less than half of the
hosts. (Hosts that met none count such a disk as the newest: that gap is the price of finding out without asking
everybody, and an operator must not restore disks at all.)
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from shardraft.host.events import DiskSpace
from shardraft.kv.commands import Stored
from shardraft.sim.network import Node
from shardraft.sim.process import Process
from shardraft.sim.store import COPY_NONCES, SimStore
from shardraft.sim.world import World
from shardraft.types import HostId, ShardId

DOWN_US: Final = (20_000, 4_000_000)
"""How long a process is down that was killed, unless the fault says otherwise."""


class Schedule(Protocol):
    """What a family of faults needs of the schedule that it belongs to (``Faults``)."""

    world: World
    random: Random
    is_running: bool

    def later(self, between_us: tuple[int, int], action: Callable[[], object]) -> None:
        """Do ``action``, the end of a fault, after a while; healing may have been faster."""
        ...

    def crash(self, process: Process, down_us: tuple[int, int] = DOWN_US) -> None:
        """Kill a process, and start it again after a while."""
        ...

    def start_again(self, process: Process) -> None:
        """Start a process that is down."""
        ...

    def cut(self, what: str, directions: list[tuple[Node, Node]], between_us: tuple[int, int]) -> None:
        """Let nothing arrive in these directions for a while; ``what`` tells the trace why."""
        ...

    def uncut(self, directions: list[tuple[Node, Node]]) -> None:
        """Let everything arrive in these directions again."""
        ...


class DiskFaults:
    """The kinds of faults that are about one disk. Each returns False when there was nothing to break."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._world = schedule.world
        self._replaced: set[HostId] = set()
        """Hosts that had another disk at some time. Only asked for membership and size."""
        self.kinds: tuple[Callable[[], bool | None], ...] = (
            self._slow_disk,
            self._hang_disk,
            self._tear_batch,
            self._fill_disk,
            self._damage_copy,
            self._damage_entry,
            self._damage_value,
            self._wipe_disk,
            self._put_old_disk_back,
        )

    def _any(self) -> Process:
        return self._schedule.random.choice(list(self._world.processes.values()))

    def _slow_disk(self) -> None:
        schedule, process = self._schedule, self._any()
        slowness = schedule.random.choice((10, 50, 400, 2_000))
        if schedule.random.random() < 0.5:
            self._world.note(f"the disk of {process.node} is {slowness} times slower")
            process.disk.slowness = slowness
        else:
            self._world.note(f"the log of {process.node} is {slowness} times slower")
            process.disk.log_slowness = slowness
        schedule.later((100_000, 3_000_000), lambda: self._good_disk(process))

    def _tear_batch(self) -> None:
        """A log so slow that batches wait behind each other, and a crash among them."""
        process = self._schedule.random.choice(self._world.voters())
        self._world.note(f"the log of {process.node} is slow, and it will crash")
        process.disk.log_slowness = 2_000
        self._schedule.later((50_000, 500_000), lambda: self._crash_slow(process))

    def _crash_slow(self, process: Process) -> None:
        self._schedule.crash(process)
        self._good_disk(process)

    def _good_disk(self, process: Process) -> None:
        process.disk.slowness = process.disk.log_slowness = 1

    def _hang_disk(self) -> None:
        """No write comes to an end; a process that ends meanwhile cannot start before that is over."""
        process = self._any()
        log, state = self._schedule.random.choice(((True, True), (True, False), (False, True)))
        what = "disk" if log and state else "log" if log else "state"
        self._world.note(f"the {what} of {process.node} hangs")
        process.disk.hang(log=log, state=state)
        self._schedule.later((200_000, 5_000_000), lambda: self._release(process))

    def _release(self, process: Process) -> None:
        self._world.note(f"the disk of {process.node} does not hang any more")
        process.disk.release()
        self._schedule.start_again(process)

    def _fill_disk(self) -> None:
        process = self._schedule.random.choice(self._world.voters())
        self._world.note(f"the disk of {process.node} is nearly full")
        process.take(DiskSpace, True)
        self._schedule.later((100_000, 3_000_000), lambda: self._world.make_room(process))

    def _damage_copy(self) -> None:
        process = self._any()
        self._world.note(f"the next copy that {process.node} sends is damaged")
        process.disk.store.damages_next_chunk = True

    def _damage_entry(self) -> bool:
        """A bit of a log entry is read as its opposite, until the disk is mended."""
        process, shard = self._any(), self._any_shard()
        log = process.disk.store.logs.get(shard)
        if log is None or not log.encoded:
            return False
        place = self._schedule.random.randrange(len(log.encoded))
        self._damage(process, log.encoded[place], f"entry {log.first_index + place} of shard {shard}")
        return True

    def _damage_value(self) -> bool:
        """A bit of a flushed value is read as its opposite, until the disk is mended."""
        process, shard = self._any(), self._any_shard()
        kept = process.disk.store.states.get(shard)
        if kept is None or not kept.items:
            return False
        key = self._schedule.random.choice(sorted(kept.items))
        self._damage(process, kept.items[key], f"the value of {key!r}")
        return True

    def _any_shard(self) -> ShardId:
        return self._schedule.random.choice(self._world.shard_map.shards).shard

    def _damage(self, process: Process, what: bytes | Stored, name: str) -> None:
        """Half the time the process starts over meanwhile, and reads all of its log."""
        self._world.note(f"on the disk of {process.node}, {name} is damaged")
        process.disk.store.flipped = what
        if self._schedule.random.random() < 0.5:
            self._schedule.crash(process)
        self._schedule.later((500_000, 5_000_000), lambda: self._mend(process))

    def _mend(self, process: Process) -> None:
        self._world.note(f"the disk of {process.node} is as it was written")
        process.disk.store.flipped = None
        self._schedule.start_again(process)

    # Disks of another time.

    def _wipe_disk(self) -> bool:
        """A host starts from an empty disk under its old id; later its newest disk is found again."""
        process = self._schedule.random.choice(self._world.voters())
        if not self._would_be_found_out(process, 1):
            return False
        cluster_id, node = self._world.shard_map.cluster_id, process.node
        blank = SimStore(cluster_id, node, self._world.shard_map, first_nonce=2 * COPY_NONCES)
        self._impersonate(process, blank, "an empty disk")
        return True

    def _put_old_disk_back(self) -> bool:
        """A copy of a disk is made, the host starts over and goes on, and then the copy takes the disk's place."""
        process = self._schedule.random.choice(self._world.voters())
        if not process.is_up or process.impersonates:
            return False
        self._world.note(f"the disk of {process.node} is copied")
        copy = process.disk.store.old_copy()
        self._world.crash(process.node)
        self._world.start_process(process.node)
        self._schedule.later((500_000, 4_000_000), lambda: self._put_back(process, copy))
        return True

    def _put_back(self, process: Process, copy: SimStore) -> None:
        if self._would_be_found_out(process, copy.start.incarnation + 1):
            self._impersonate(process, copy, "an old copy of its disk")

    def _would_be_found_out(self, process: Process, incarnation: int) -> bool:
        """Whether everybody else has met the host in ``incarnation`` or later, and most hosts keep their disks."""
        voters = self._world.voters()
        if process.impersonates or 2 * len(self._replaced | {process.node}) >= len(voters):
            return False
        others = [other for other in voters if other is not process]
        return all(other.newest_disk.met.incarnation_of(process.node) >= incarnation for other in others)

    def _impersonate(self, process: Process, store: SimStore, what: str) -> None:
        self._world.note(f"{process.node} gets {what}")
        self._replaced.add(process.node)
        self._world.impersonate(process.node, store)
        self._schedule.later((500_000, 5_000_000), lambda: self._newest(process))

    def _newest(self, process: Process) -> None:
        self._world.note(f"{process.node} gets its newest disk back")
        self._world.put_back_disk(process.node)
        self._schedule.start_again(process)
