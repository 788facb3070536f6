"""What a commit of several turns' batches adds to a block of the log."""

from __future__ import annotations

from collections.abc import Sequence

from shardraft.host.turn import LogBatch
from shardraft.raft.ready import HardState, LogWrite
from shardraft.storage.blocks import Block, ItemKind
from shardraft.storage.shard_logs import ShardLogs, base_item, hard_state_item, truncation_item
from shardraft.types import Index, ShardId, Term


def bytes_of(batch: LogBatch) -> int:
    """The encoded bytes of the entries of a batch."""
    return sum([len(entry.encoded) for write in batch.writes for entry in write.entries])


def add_batches(block: Block, logs: ShardLogs, batches: Sequence[LogBatch]) -> None:
    """Add the items of the batches of one commit; asserts that they fit what is there and each other."""
    making = _Making(block, logs)
    for batch in batches:
        making.add(batch)
    making.end()


class _Making:
    """Where the logs that are written to will stand."""

    def __init__(self, block: Block, logs: ShardLogs) -> None:
        self._block = block
        self._logs = logs
        self._lasts: dict[ShardId, Index] = {}
        self._hard_states: dict[ShardId, HardState] = {}

    def add(self, batch: LogBatch) -> None:
        for write in batch.writes:
            if write.truncate_from is not None:
                self._truncate(write.shard, write.truncate_from)
            if write.entries:
                self._append(write)
            if write.hard_state is not None:
                self._hard_states[write.shard] = write.hard_state
        for shard, index, term in batch.compactions:
            self._compact(shard, index, term)

    def end(self) -> None:
        """Add what only the last batch says."""
        for shard, hard_state in self._hard_states.items():
            self._block.add(ItemKind.HARD_STATE, hard_state_item(shard, hard_state))

    def _append(self, write: LogWrite) -> None:
        index = self._last(write.shard)
        for entry in write.entries:
            index += 1
            assert entry.index == index, "appended entries follow the log without a gap"
            self._block.add(ItemKind.ENTRY, entry.encoded)
        self._lasts[write.shard] = index

    def _truncate(self, shard: ShardId, index: Index) -> None:
        assert self._base(shard) < index, "what is compacted is committed and never truncated"
        self._block.add(ItemKind.TRUNCATION, truncation_item(shard, index))
        self._lasts[shard] = min(self._last(shard), index - 1)

    def _compact(self, shard: ShardId, index: Index, term: Term) -> None:
        if index > self._base(shard):
            assert index <= self._last(shard), "only what the log holds is compacted"
            self._block.add(ItemKind.BASE, base_item(shard, index, term))

    def _base(self, shard: ShardId) -> Index:
        log = self._logs.logs.get(shard)
        return 0 if log is None else log.base

    def _last(self, shard: ShardId) -> Index:
        last = self._lasts.get(shard)
        return self._logs.last(shard) if last is None else last
