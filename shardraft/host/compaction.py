"""When a log is cut, and for whom it is kept longer (decision 0013).

A log is cut by its bytes, and never past the flushed ``last_applied`` (PROTOCOL, "Log, state, snapshots").
It is *held* for those who would else need a full copy, or one more: a leader's for every follower
that was heard lately, any replica's for those who receive a copy of it or just did. What is held has
a limit, ``log_held_bytes_max``, or what ``host_log_bytes_max`` leaves where a copy is on its way, so that
nobody who is slow or dead pins a log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from shardraft.config import Limits
from shardraft.host.copying import Copying
from shardraft.host.flushing import Flushing
from shardraft.host.followers import heard_us
from shardraft.host.outbox import Outbox
from shardraft.host.replica import Replica
from shardraft.host.turn import CopyNote
from shardraft.host.voter import Voter
from shardraft.raft.log import RaftLog
from shardraft.types import NO_REPLICA, Index, ReplicaId, ShardId, Term

_LOOK_AGAIN_US: Final = 100_000
"""A log that is held is looked at again after this, or when state was flushed."""

_SHARE_WORTH_A_CUT: Final = 16
"""A held log is cut once a sixteenth of its entries can go, not one by one as its followers catch up."""

Compact = Callable[[tuple[ShardId, Index, Term]], None]


class Compaction:
    """Cuts the logs of one host. ``compact`` adds a cut to the forming log batch."""

    def __init__(self, limits: Limits, flushing: Flushing, copying: Copying, compact: Compact, outbox: Outbox) -> None:
        self._limits = limits
        self._flushing = flushing
        self._copying = copying
        self._compact = compact
        self._outbox = outbox
        self._hold_us = limits.log_hold_ms_max * 1000
        self._copied: dict[ShardId, set[ReplicaId]] = {}
        self.log_bytes_max = limits.log_bytes_max
        """What the log of each shard may hold at present."""
        self.room_bytes = limits.host_log_bytes_max
        """What one that is held may hold at the very most."""

    def share_room(self, logs_bytes: Iterable[int]) -> None:
        """Work out anew what each log may hold, given what each holds, so that all keep to ``host_log_bytes_max``.

        The largest give way first: small logs keep what they have, and what these leave is shared evenly.
        """
        limits = self._limits
        self.log_bytes_max, self.room_bytes = limits.log_bytes_max, limits.host_log_bytes_max
        room, ascending = limits.host_log_bytes_max, sorted(logs_bytes)
        for place, log_bytes in enumerate(ascending):
            share = room // (len(ascending) - place)
            if log_bytes > share:
                self.log_bytes_max, self.room_bytes = min(share, limits.log_bytes_max), share
                return
            room -= log_bytes

    def look(self, replica: Replica, now_us: int) -> None:
        """The log of ``replica``, which is too long, may be cut; cheap, while there was a look a moment ago."""
        if now_us >= replica.compaction_due_us:
            self.consider(replica, now_us)

    def consider(self, replica: Replica, now_us: int) -> None:
        """Cut the log of ``replica`` if it is longer than it may be, and nobody who counts needs what goes."""
        log = replica.log
        if replica.installing or log.log_bytes <= self.log_bytes_max:
            return
        needs = self._needs(replica, now_us)
        held_above = min(needs.values(), default=None)
        if held_above is None or not self._is_held(replica) or _is_worth_a_cut(log, held_above):
            compaction = compaction_at(replica, self._cut_of(replica, held_above))
            if compaction is not None:
                self._tell_lost(replica, needs, compaction[1])
                replica.compact(compaction[1])
                replica.compaction_due_us = 0
                self._compact(compaction)
                return
        replica.compaction_due_us = now_us + _LOOK_AGAIN_US

    def _cut_of(self, replica: Replica, held_above: Index | None) -> Index:
        """Up to where the log goes now; below its first index if nothing does."""
        log, bytes_max = replica.log, self.log_bytes_max
        # Cutting a quarter at a time keeps the deletes few, and leaves the entries to those who are briefly away.
        wanted = log.cut_for_bytes(bytes_max - bytes_max // 4)
        if held_above is None or held_above >= wanted:
            self._copied.pop(replica.shard, None)  # They have caught up.
        elif self._is_held(replica):
            wanted = held_above
        else:
            wanted = max(held_above, log.cut_for_bytes(self._held_bytes_max(replica) - bytes_max // 4))
        cut = min(wanted, replica.machine.flushed_index)
        if cut < wanted:
            self._flushing.want()
        return cut

    def _is_held(self, replica: Replica) -> bool:
        return replica.log.log_bytes <= self._held_bytes_max(replica)

    def _held_bytes_max(self, replica: Replica) -> int:
        """How long a held log may be: as long as there is room, while somebody receives a copy or catches up after one.

        A lower limit would be passed while the copy is on its way, and again by the next: they would never end.
        """
        if replica.shard in self._copied or self._copying.needed_above(replica.shard) is not None:
            return self.room_bytes
        return max(self.log_bytes_max, min(self.room_bytes, self._limits.log_held_bytes_max))

    def _needs(self, replica: Replica, now_us: int) -> dict[ReplicaId, Index]:
        """Who needs the entries above which index: followers, and ``NO_REPLICA`` for the receivers of our copies."""
        shard, copying = replica.shard, self._copying
        needs = {}
        above = copying.needed_above(shard)
        if above is not None:
            needs[NO_REPLICA] = above
        if not isinstance(replica, Voter) or replica.raft.leading is None:
            self._copied.pop(shard, None)
            return needs
        leader = replica.raft.leading
        alive = [each for each in leader.followers if now_us - heard_us(leader, each) < self._hold_us]
        for progress in alive:
            needs[progress.replica] = progress.match_index
            if progress.copying:
                # It will hold what the copy holds. While that is not known, nothing goes.
                needs[progress.replica] = max(
                    progress.match_index, copying.index_on_its_way_to(shard, progress.replica)
                )
                self._copied.setdefault(shard, set()).add(progress.replica)
        if shard in self._copied and not self._copied[shard].intersection(needs):
            del self._copied[shard]
        return needs

    def _tell_lost(self, replica: Replica, needs: dict[ReplicaId, Index], cut: Index) -> None:
        """Say who will need a copy: a higher limit, or a faster disk there, would have spared it."""
        if not isinstance(replica, Voter):
            return
        for follower, index in sorted(needs.items()):
            if follower != NO_REPLICA and replica.log.first_index - 1 <= index < cut:
                what = f"a log of {replica.log.log_bytes} bytes is cut at {cut}, the follower is at {index}"
                self._outbox.notes.append(CopyNote(replica.shard, replica.host_of(follower), what))


def compaction_at(replica: Replica, cut: Index) -> tuple[ShardId, Index, Term] | None:
    """Delete the entries of ``replica`` up to and with ``cut``, which are flushed; None when they are gone already."""
    assert cut <= replica.machine.flushed_index, "compaction never passes the flushed last_applied"
    if cut < replica.log.first_index:
        return None
    term = replica.log.term_at(cut)
    assert term is not None, "an entry that is still in the log has a term"
    return replica.shard, cut, term


def _is_worth_a_cut(log: RaftLog, held_above: Index) -> bool:
    return (held_above - log.first_index + 1) * _SHARE_WORTH_A_CUT >= log.last_index - log.first_index + 1
