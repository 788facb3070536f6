"""One shard on this host: its log, its machine, and reads of what is applied.

``Voter`` and ``LearnerReplica`` add how entries get here. Both apply committed entries in order,
serve stale reads, are flushed and compacted alike, and may be a source of the read tree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shardraft.config import Limits
from shardraft.errors import InvalidArgument, WrongShard
from shardraft.host.pending import Pending, PendingRequests
from shardraft.kv.commands import ApplyResult, Batch, BatchCodec
from shardraft.kv.machine import Machine
from shardraft.kv.requests import ReadReply, ReadRequest, ScanReply, ScanRequest
from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.log import RaftLog
from shardraft.raft.membership import decode_membership
from shardraft.types import Index, ShardId

_APPLY_BYTES_MAX: Final = 4 << 20
"""Entry bytes applied per shard in one turn; more follow in the next, so that a turn stays short."""

_READ_KEY_BYTES: Final = 256
"""Looking a key up takes about as long as copying so many bytes."""


class UnknownEntryKind(Exception):
    """A committed entry of a kind that this program does not know: the host stops, it never skips one."""


class Replica:
    """What a voter's and a learner's replica of one shard have in common.

    ``tier`` is its place in the read tree (0: voter). ``decodes`` counts batches decoded at apply.
    """

    def __init__(
        self,
        shard: ShardId,
        log: RaftLog,
        machine: Machine,
        codec: BatchCodec,
        limits: Limits,
        pending: PendingRequests,
    ) -> None:
        self.shard = shard
        self.log = log
        self.machine = machine
        self.tier: Callable[[], int] = lambda: 0
        self.serving = True
        """Reads are answered; not while a copy is being installed, nor once a learner's log diverged."""
        self.installing = False
        """A received copy is about to replace state and log: no entry is taken or applied."""
        self.compaction_due_us = 0
        """From when on a log that is too long, and held for somebody, is looked at again."""
        self._codec = codec
        self._limits = limits
        self._pending = pending

    @property
    def commit_index(self) -> Index:
        raise NotImplementedError

    def compact(self, index: Index) -> None:
        """Forget the entries up to and including ``index``, which are flushed."""
        self.log.compact_to(index)

    @property
    def applied_behind(self) -> bool:
        """Committed entries wait to be applied."""
        return self.machine.last_applied < self.commit_index

    def apply_committed(self) -> None:
        """Apply what is committed, up to the limits of one turn (section 5.3, "apply")."""
        machine = self.machine
        low = machine.last_applied + 1
        high = min(self.commit_index + 1, low + self._limits.apply_entries_max)
        if low >= high:
            return
        for entry in self.log.entries(low, high, _APPLY_BYTES_MAX):
            self.apply_entry(entry)

    def apply_entry(self, entry: Entry) -> None:
        machine = self.machine
        if entry.kind == EntryKind.BATCH:
            batch = self.batch_of(entry)
            result = machine.apply_batch(entry.index, entry.term, entry.time_us, entry.checksum, batch)
            self.applied_batch(entry, result)
        elif entry.kind == EntryKind.NOOP:
            machine.apply_noop(entry.index, entry.term, entry.time_us, entry.checksum)
        elif entry.kind == EntryKind.MEMBERSHIP:
            self._apply_membership(entry)
        elif entry.kind == EntryKind.EXPIRY:
            before_us = int.from_bytes(entry.payload, "little")
            machine.apply_expiry(entry.index, entry.term, entry.time_us, entry.checksum, before_us)
        else:
            raise UnknownEntryKind(
                f"shard {self.shard}: entry {entry.index} is of kind {entry.kind}, which a newer program wrote; "
                "upgrade this host and start it again"
            )

    def _apply_membership(self, entry: Entry) -> None:
        last_replica = decode_membership(entry.payload).members[-1].replica
        self.machine.apply_membership(
            entry.index, entry.term, entry.time_us, entry.checksum, entry.payload, last_replica
        )

    def batch_of(self, entry: Entry) -> Batch:
        """The batch in an entry; the leader, who decoded it at the door, overrides this."""
        return self._codec.decode_batch(entry.payload)

    def applied_batch(self, entry: Entry, result: ApplyResult) -> None:
        """Called after each applied batch; the leader answers its client here."""

    def answer_read(self, pending: Pending) -> int:
        """Answer a read from the applied state; the range is checked after the wait (PROTOCOL, split).

        Returns what that cost, in bytes.
        """
        request = pending.request
        if isinstance(request, ReadRequest):
            return self._answer_get(pending, request)
        assert isinstance(request, ScanRequest)
        return self._answer_scan(pending, request)

    def _answer_get(self, pending: Pending, request: ReadRequest) -> int:
        machine = self.machine
        room = self._limits.page_bytes_max
        if not machine.key_range.holds_all(request.keys):
            self._pending.fail(pending, WrongShard(epoch=machine.epoch, shard=self.shard))
            return _READ_KEY_BYTES
        values: list[bytes | None] = []
        revisions: list[int] = []
        for stored in machine.get_many(request.keys, room):
            if stored is None:
                values.append(None)
                revisions.append(0)
                continue
            room -= len(stored.value)
            if room < 0 and values:
                break
            values.append(stored.value)
            revisions.append(stored.revision)
        reply = ReadReply(request.request_id, machine.last_applied, None, self.tier(), values, revisions)
        self._pending.answer(pending, reply)
        return self._limits.page_bytes_max - room + _READ_KEY_BYTES * len(values)

    def _answer_scan(self, pending: Pending, request: ScanRequest) -> int:
        machine = self.machine
        start = max(request.start, machine.key_range.start)
        end = machine.key_range.end
        if request.end and (not end or request.end < end):
            end = request.end
        if end and start >= end:
            self._pending.fail(pending, WrongShard(epoch=machine.epoch, shard=self.shard))
            return _READ_KEY_BYTES
        entries_max = min(request.limit, self._limits.scan_entries_max)
        found, more = machine.scan(start, end, entries_max, self._limits.page_bytes_max)
        reply = ScanReply(
            request.request_id,
            machine.last_applied,
            None,
            self.tier(),
            [key for key, _ in found],
            [b""] * len(found) if request.keys_only else [stored.value for _, stored in found],
            [stored.revision for _, stored in found],
            more,
        )
        self._pending.answer(pending, reply)
        return _READ_KEY_BYTES * (1 + len(found)) + sum(len(stored.value) for _, stored in found)

    def check_read(self, request: ReadRequest | ScanRequest) -> None:
        """The door's check of a read; raises ``InvalidArgument``."""
        if isinstance(request, ReadRequest):
            if not 0 < len(request.keys) <= self._limits.read_keys_max:
                raise InvalidArgument(f"a read names 1 to {self._limits.read_keys_max} keys", shard=self.shard)
        elif request.limit <= 0 or (request.end and request.end <= request.start):
            raise InvalidArgument("a scan needs a positive limit and an end after its start", shard=self.shard)
