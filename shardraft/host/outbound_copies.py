"""All copies that a host sends: which are under way, which wait, and the snapshots they share.

At most ``copies_max`` are sent at once, in the order in which they were wanted. Receivers of one
shard share one spooled snapshot as long as the log still follows it; one that nobody receives is
kept for ``copy_keep_ms``, so that a broken link resumes, and then dropped. All copies together keep to
``copy_bytes_per_second_max``, and share it evenly: receivers are served chunk by chunk, in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from shardraft.config import Limits
from shardraft.host.copy import CopySender, CopyTarget, ReadChunk, SenderState
from shardraft.host.copy_pace import CopyPace
from shardraft.host.events import CopySpooled
from shardraft.host.messages import CopyChunk, CopyReply
from shardraft.host.turn import CopyNote, DropCopy, SpoolCopy
from shardraft.types import NO_HOST, HostId, Index, ShardId

_Key = tuple[ShardId, HostId, int]


@attrs.define(slots=True, eq=False)
class _Snapshot:
    """One spooled snapshot, or one that is being spooled (``copy`` is None)."""

    copy_id: int
    shard: ShardId
    copy: CopySpooled | None = None
    senders: int = 0
    unused_since_us: int = 0
    is_current: bool = True
    """Further receivers may share it."""


@attrs.define(slots=True, eq=False)
class _Transfer:
    sender: CopySender
    snapshot: _Snapshot


@attrs.frozen(slots=True)
class CopiesReady:
    """What comes of the copies being sent.

    ``finished``: the receiver has installed the copy of that index; the caller says so to Raft or to the
    feed. ``failed``: it has not and will not; the caller lets Raft probe, or closes the learner's link.
    """

    chunks: tuple[tuple[CopyTarget, CopyChunk], ...] = ()
    commands: tuple[SpoolCopy | DropCopy, ...] = ()
    finished: tuple[tuple[CopyTarget, Index], ...] = ()
    failed: tuple[CopyTarget, ...] = ()
    notes: tuple[CopyNote, ...] = ()


_NOTHING: Final = CopiesReady()


class OutboundCopies:
    """The one owner of all senders of a host and of the snapshots they read.

    ``first_copy_id`` must be above every one this host used in earlier starts:
    ``incarnation << 32`` is. ``log_first_index`` tells a shard's first kept index at that moment.
    """

    def __init__(
        self,
        limits: Limits,
        first_copy_id: int,
        read_chunk: ReadChunk,
        log_first_index: Callable[[ShardId], Index],
    ) -> None:
        self._limits = limits
        self._next_copy_id = first_copy_id
        self._read_chunk = read_chunk
        self._log_first_index = log_first_index
        self._keep_us = limits.copy_keep_ms * 1000
        self._pace = CopyPace(limits.copy_bytes_per_second_max)
        self._waiting: dict[_Key, CopyTarget] = {}
        self._transfers: dict[_Key, _Transfer] = {}
        self._snapshots: dict[int, _Snapshot] = {}
        self._commands: list[SpoolCopy | DropCopy] = []
        self._notes: list[CopyNote] = []

    # Inputs.

    def want(self, target: CopyTarget, now_us: int) -> None:
        """``target`` needs a full copy. Said again while it is waiting or under way, nothing changes."""
        key = _key(target)
        transfer = self._transfers.get(key)
        if transfer is not None and transfer.sender.target != target:
            self._end(key, now_us)
            transfer = None
        if transfer is None:
            self._waiting[key] = target

    def spooled(self, copy: CopySpooled) -> None:
        """The store made the snapshot that a ``SpoolCopy`` asked for."""
        snapshot = self._snapshots.get(copy.copy_id)
        if snapshot is None:
            return
        assert snapshot.copy is None, "a snapshot is spooled once"
        snapshot.copy = copy
        for transfer in self._transfers.values():
            if transfer.snapshot is snapshot:
                transfer.sender.begin(copy)
        self._drop_if_unused(snapshot, copy.now_us)

    def reply_of_follower(self, host: HostId, reply: CopyReply, now_us: int) -> None:
        self._received((reply.shard, host, 0), reply, now_us)

    def reply_of_child(self, connection: int, reply: CopyReply, now_us: int) -> None:
        self._received((reply.shard, NO_HOST, connection), reply, now_us)

    def _received(self, key: _Key, reply: CopyReply, now_us: int) -> None:
        transfer = self._transfers.get(key)
        if transfer is not None:
            transfer.sender.received(reply, now_us)

    def forget_connection(self, connection: int, now_us: int) -> None:
        """The learner's link is gone."""
        self._forget(lambda key: key[1] == NO_HOST and key[2] == connection, now_us)

    def forget_followers(self, shard: ShardId, now_us: int) -> None:
        """This host no longer leads ``shard``, or its followers changed: their copies end; learners' go on."""
        self._forget(lambda key: key[0] == shard and key[1] != NO_HOST, now_us)

    def forget_follower(self, shard: ShardId, host: HostId, now_us: int) -> None:
        """The copy for the follower on ``host`` is not to be sent any more."""
        self._forget(lambda key: key == (shard, host, 0), now_us)

    def leave(self, shard: ShardId, now_us: int) -> bool:
        """``shard`` leaves this host: nothing of it is sent any more. False while a snapshot of it is being spooled."""
        self._forget(lambda key: key[0] == shard, now_us)
        for snapshot in tuple(self._snapshots.values()):
            if snapshot.shard == shard:
                snapshot.is_current = False
                self._drop_if_unused(snapshot, now_us)
        return not self.is_spooling(shard)

    def tick(self, now_us: int) -> None:
        """Retry, give up, and drop what was kept long enough."""
        for transfer in self._transfers.values():
            transfer.sender.tick(now_us)
        for snapshot in tuple(self._snapshots.values()):
            self._drop_if_unused(snapshot, now_us)

    # What leaves.

    @property
    def next_deadline_us(self) -> int | None:
        """When there is something to do; None when nothing is under way or kept."""
        if not (self._transfers or self._snapshots):
            return None
        due = [transfer.sender.next_deadline_us for transfer in self._transfers.values()]
        due += [
            snapshot.unused_since_us + self._keep_us
            for snapshot in self._snapshots.values()
            if snapshot.senders == 0 and snapshot.copy is not None
        ]
        if any(transfer.sender.has_chunk for transfer in self._transfers.values()):
            due.append(self._pace.free_us)
        return min((deadline_us for deadline_us in due if deadline_us is not None), default=None)

    @property
    def idle(self) -> bool:
        """There is nothing to send, to begin, to drop or to say, and no time that matters."""
        return not (self._snapshots or self._transfers or self._waiting or self._commands)

    @property
    def is_full(self) -> bool:
        """One more copy would have to wait."""
        return len(self._transfers) + len(self._waiting) >= self._limits.copies_max

    def needed_above(self, shard: ShardId) -> Index | None:
        """The lowest index of a snapshot of ``shard`` that is sent, or kept for more: entries above it are needed.

        0 while one is being spooled, since its index is not known; None when there is none. A snapshot is kept
        for ``copy_keep_ms`` after it was last sent, so its receivers have that time to find what follows it.
        """
        needed = None
        for snapshot in self._snapshots.values():
            if snapshot.shard == shard and (snapshot.senders or snapshot.is_current):
                index = snapshot.copy.index if snapshot.copy is not None else 0
                needed = index if needed is None else min(needed, index)
        return needed

    def index_on_its_way_to(self, shard: ShardId, host: HostId) -> Index:
        """The index of the copy that is on its way to the follower on ``host``; 0 while it is not known."""
        transfer = self._transfers.get((shard, host, 0))
        return 0 if transfer is None or transfer.snapshot.copy is None else transfer.snapshot.copy.index

    def is_spooling(self, shard: ShardId) -> bool:
        """A snapshot of ``shard`` was asked for and is not there yet."""
        return any(snapshot.shard == shard and snapshot.copy is None for snapshot in self._snapshots.values())

    def take_ready(self, now_us: int) -> CopiesReady:
        """Everything to send and to say, once."""
        if not (self._transfers or self._waiting or self._commands):
            return _NOTHING
        finished: list[tuple[CopyTarget, Index]] = []
        failed: list[CopyTarget] = []
        for key, transfer in tuple(self._transfers.items()):
            sender = transfer.sender
            if sender.state is SenderState.FINISHED:
                finished.append((sender.target, sender.index))
                self._note(sender.target, f"copy at index {sender.index} installed")
                self._end(key, now_us)
            elif sender.state is SenderState.FAILED:
                failed.append(sender.target)
                self._note(sender.target, f"copy at index {sender.index} failed: {sender.failure}")
                if sender.was_refused:
                    # It is damaged at its source, or too old for those who want one: the next is made anew.
                    transfer.snapshot.is_current = False
                self._end(key, now_us)
        self._begin_waiting(now_us)
        chunks = self._take_chunks(now_us)
        ready = CopiesReady(chunks, tuple(self._commands), tuple(finished), tuple(failed), tuple(self._notes))
        self._commands.clear()
        self._notes.clear()
        return ready

    def _take_chunks(self, now_us: int) -> tuple[tuple[CopyTarget, CopyChunk], ...]:
        """What may leave: one chunk of each in turn, while the pace allows; the next turn goes on with the next."""
        taken: list[tuple[CopyTarget, CopyChunk]] = []
        waiting = [key for key, transfer in self._transfers.items() if transfer.sender.has_chunk]
        while waiting and self._pace.is_free(now_us):
            key = waiting.pop(0)
            transfer = self._transfers.pop(key)
            self._transfers[key] = transfer  # Last from now on.
            chunk = transfer.sender.take_chunk(now_us)
            taken.append((transfer.sender.target, chunk))
            self._pace.sent(len(chunk.data), now_us)
            if transfer.sender.has_chunk:
                waiting.append(key)
        return tuple(taken)

    def _sending(self) -> list[_Transfer]:
        return [t for t in self._transfers.values() if t.sender.state is SenderState.SENDING]

    # Snapshots and who shares them.

    def _begin_waiting(self, now_us: int) -> None:
        while self._waiting and len(self._transfers) < self._limits.copies_max:
            key = next(iter(self._waiting))
            target = self._waiting.pop(key)
            snapshot = self._snapshot_for(target, now_us)
            snapshot.senders += 1
            sender = CopySender(target, self._limits, self._read_chunk)
            self._transfers[key] = _Transfer(sender, snapshot)
            if snapshot.copy is not None:
                sender.begin(snapshot.copy)
            self._note(target, "copy begun")

    def _snapshot_for(self, target: CopyTarget, now_us: int) -> _Snapshot:
        """The current snapshot of the shard if the log that follows it is still there, else one to be spooled.

        What follows is in our log, or in that of the leader who ordered the copy.
        """
        shard = target.shard
        index_min = target.index_min if target.order else self._log_first_index(shard) - 1
        for snapshot in tuple(self._snapshots.values()):
            if snapshot.shard != shard or not snapshot.is_current:
                continue
            if snapshot.copy is None or snapshot.copy.index >= index_min:
                return snapshot
            snapshot.is_current = False
            self._drop_if_unused(snapshot, now_us)
        snapshot = _Snapshot(self._next_copy_id, shard)
        self._next_copy_id += 1
        self._snapshots[snapshot.copy_id] = snapshot
        self._commands.append(SpoolCopy(shard, snapshot.copy_id))
        return snapshot

    def _forget(self, matches: Callable[[_Key], bool], now_us: int) -> None:
        for key in [key for key in self._waiting if matches(key)]:
            del self._waiting[key]
        for key in [key for key in self._transfers if matches(key)]:
            self._end(key, now_us)

    def _end(self, key: _Key, now_us: int) -> None:
        snapshot = self._transfers.pop(key).snapshot
        snapshot.senders -= 1
        snapshot.unused_since_us = now_us
        self._drop_if_unused(snapshot, now_us)

    def _drop_if_unused(self, snapshot: _Snapshot, now_us: int) -> None:
        """A snapshot still being spooled is dropped once it is there: its answer is on the way."""
        if snapshot.senders or snapshot.copy is None:
            return
        if not snapshot.is_current or now_us - snapshot.unused_since_us >= self._keep_us:
            del self._snapshots[snapshot.copy_id]
            self._commands.append(DropCopy(snapshot.copy_id))

    def _note(self, target: CopyTarget, what: str) -> None:
        to = f"to host {target.host}" if target.host else f"to the learner on connection {target.connection}"
        self._notes.append(CopyNote(target.shard, target.host, f"{what}, {to}"))


def _key(target: CopyTarget) -> _Key:
    return target.shard, target.host, target.connection
