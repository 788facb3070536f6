"""What lies on disks as applied state: exactly what was committed up to its last_applied, and no further than the log.

PROTOCOL, "Log, state, snapshots": every state commit equals exactly the state at its ``last_applied``, and
none goes past what is persisted in the log. A replica that is up does not show a mistake here, for it reads
its memory first; the next one that starts from this disk does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from shardraft.kv.commands import Stored
from shardraft.kv.machine import MachineImage
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.oracle import ShardOracle
from shardraft.sim.store import SimStore
from shardraft.types import HostId, Revision, ShardId


class FlushedState:
    """Compares the disks in ``stores`` with the committed history. Every ``check_*`` raises ``SimulationFailure``."""

    def __init__(self, stores: Mapping[HostId, SimStore], oracle: Callable[[ShardId], ShardOracle]) -> None:
        self._stores = stores
        self._oracle = oracle

    def check_flush(self, host: HostId, image: MachineImage) -> None:
        """One shard's part of a flush just took effect."""
        state = image.state
        log, index = self._stores[host].logs[state.shard], state.last_applied
        if log.first_index <= index + 1 and log.term_at(index) != state.last_applied_term:
            raise SimulationFailure(
                f"flushed state: host {host}, shard {state.shard}: the state at {index} of term"
                f" {state.last_applied_term} is on the disk, and the log ends at {log.last_index}, with term"
                f" {log.term_at(index)} there"
            )
        self._check_keys(host, state.shard, image.changes)

    def check_all(self, host: HostId, shard: ShardId) -> None:
        """A process starts from its disk, or installed a copy: look at every key."""
        kept, oracle = self._stores[host].states[shard], self._oracle(shard)
        index = kept.state.last_applied
        if index <= oracle.applied_index:
            self._check_keys(host, shard, kept.items.keys() | oracle.keys_at(index))

    def _check_keys(self, host: HostId, shard: ShardId, keys: Iterable[bytes]) -> None:
        kept, oracle = self._stores[host].states[shard], self._oracle(shard)
        state = kept.state
        index = state.last_applied
        if index > oracle.applied_index:
            return  # The process ended before anybody could see that this is committed.
        wrong = [key for key in keys if _version(kept.items.get(key)) != oracle.at(key, index)]
        if wrong or state.revision != oracle.revision_at(index):
            raise SimulationFailure(
                f"flushed state: host {host}, shard {shard}: what is on the disk as the state at {index} is not what"
                f" was committed up to there (its revision is {state.revision}, keys that differ: {sorted(wrong)[:3]})"
            )


def _version(stored: Stored | None) -> tuple[Revision, bytes | None]:
    return (0, None) if stored is None else (stored.revision, stored.value)
