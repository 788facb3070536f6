"""What clients are told, compared with what was committed."""

from __future__ import annotations

from shardraft.shards.shard_map import ShardMap
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.invariants import Invariants


class Judge:
    """Every method raises ``SimulationFailure`` when a client was told what is not so."""

    def __init__(self, shard_map: ShardMap, invariants: Invariants) -> None:
        self._shard_map = shard_map
        self._invariants = invariants

    def write_was_told(self, key: bytes, revision: int, value: bytes | None) -> None:
        """An acknowledged write, a delete if ``value`` is None, must be committed by then."""
        shard, routing = self._shard_map.locate(key)
        if not self._invariants.oracle(shard.shard).wrote(routing, revision, value):
            raise SimulationFailure(
                f"a client was told of a write of {key!r} at revision {revision} that was not committed"
            )

    def read_was_told(self, key: bytes, revision: int, value: bytes | None, applied_index: int) -> None:
        """A read must be exact at the index that it names, and that must be committed."""
        shard, routing = self._shard_map.locate(key)
        oracle = self._invariants.oracle(shard.shard)
        if applied_index > oracle.applied_index or oracle.at(routing, applied_index) != (revision, value):
            raise SimulationFailure(
                f"a read of {key!r} saw revision {revision} at index {applied_index}, where it was"
                f" {oracle.at(routing, applied_index)[0]}"
            )
