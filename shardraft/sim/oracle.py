"""What the committed log means, worked out a second time and naively.

The oracle applies each committed entry of a shard once, in order, to plain dictionaries, straight
from PROTOCOL ("Operations, sessions, revisions"), and keeps every version of every key. Replicas,
acknowledgements and reads are compared with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

import attrs

from shardraft.config import Limits
from shardraft.kv.commands import ANY_REVISION, DELETE, PUT, Batch, BatchCodec
from shardraft.raft.entry import Entry, EntryKind
from shardraft.types import Index, Revision, SessionId

_ABSENT: Final[tuple[Revision, bytes | None]] = (0, None)


@attrs.define(slots=True)
class _Session:
    used_us: int
    answered_below: int
    applied: dict[int, set[int]] = attrs.field(factory=dict)
    """For each sequence the positions whose operations have been applied."""


class ShardOracle:
    """One shard's committed history. ``items`` is its state after ``applied_index``: key to (revision, value)."""

    def __init__(self, codec: BatchCodec, limits: Limits) -> None:
        self.applied_index: Index = 0
        self.revision: Revision = 0
        self.operations = 0
        self.duplicates = 0
        self.items: dict[bytes, tuple[Revision, bytes]] = {}
        self._codec = codec
        self._limits = limits
        self._sessions: dict[SessionId, _Session] = {}
        self._versions: dict[bytes, tuple[list[Index], list[tuple[Revision, bytes | None]]]] = {}
        self._written: dict[tuple[bytes, Revision], bytes | None] = {}
        self._revisions: list[Revision] = [0]
        """The shard's revision after each entry, by index."""

    def apply(self, entry: Entry) -> None:
        """The next committed entry."""
        assert entry.index == self.applied_index + 1
        self.applied_index = entry.index
        if entry.kind == EntryKind.BATCH:
            self._apply_batch(self._codec.decode_batch(entry.payload), entry.time_us)
        elif entry.kind == EntryKind.EXPIRY:
            before_us = int.from_bytes(entry.payload, "little")
            idle = [name for name, session in self._sessions.items() if session.used_us < before_us]
            for name in idle:
                del self._sessions[name]
        self._revisions.append(self.revision)

    def _apply_batch(self, batch: Batch, time_us: int) -> None:
        session = self._admit(batch, time_us)
        if session is None:
            return
        applied = session.applied.setdefault(batch.sequence, set())
        positions = list(batch.positions) or list(range(len(batch.keys)))
        fresh = [place for place, position in enumerate(positions) if position not in applied]
        self.duplicates += len(positions) - len(fresh)
        if not fresh or (batch.atomic and len(fresh) < len(positions)):
            return
        applied.update(positions)
        self.operations += len(fresh)
        first = self.revision + 1
        self.revision += len(fresh)
        if batch.atomic and not self._all_hold(batch):
            return
        for revision, place in enumerate(fresh, first):
            self._apply_operation(batch, place, revision)

    def _admit(self, batch: Batch, time_us: int) -> _Session | None:
        session = self._sessions.get(batch.session)
        if session is None:
            if not batch.opens_session or not self._has_room(time_us):
                return None
            session = self._sessions[batch.session] = _Session(time_us, batch.answered_below)
        session.used_us = time_us
        if batch.answered_below > session.answered_below:
            session.answered_below = batch.answered_below
            for sequence in [each for each in session.applied if each < batch.answered_below]:
                del session.applied[sequence]
        window = range(session.answered_below, session.answered_below + self._limits.session_window_max)
        return session if batch.sequence in window else None

    def _has_room(self, time_us: int) -> bool:
        if len(self._sessions) < self._limits.sessions_max:
            return True
        used_us, oldest = min((session.used_us, name) for name, session in self._sessions.items())
        if time_us - used_us <= 1000 * self._limits.session_idle_ms_min:
            return False
        del self._sessions[oldest]
        return True

    def _apply_operation(self, batch: Batch, place: int, revision: Revision) -> None:
        key, found = batch.keys[place], self.items.get(batch.keys[place])
        if not _holds(batch, place, found[0] if found else 0):
            return
        if batch.kinds[place] == PUT:
            self.items[key] = (revision, batch.values[place])
            self._remember(key, revision, batch.values[place])
        elif found is not None:
            assert batch.kinds[place] == DELETE
            del self.items[key]
            self._remember(key, revision, None)

    def _all_hold(self, batch: Batch) -> bool:
        """Would every condition of an atomic batch hold, each operation seeing the earlier ones?"""
        revisions = {key: self.items[key][0] for key in batch.keys if key in self.items}
        for place, key in enumerate(batch.keys):
            if not _holds(batch, place, revisions.get(key, 0)):
                return False
            revisions[key] = self.revision if batch.kinds[place] == PUT else 0
        return True

    def _remember(self, key: bytes, revision: Revision, value: bytes | None) -> None:
        indexes, versions = self._versions.setdefault(key, ([], []))
        indexes.append(self.applied_index)
        versions.append((revision, value) if value is not None else _ABSENT)
        self._written[key, revision] = value

    # What others compare with.

    def at(self, key: bytes, index: Index) -> tuple[Revision, bytes | None]:
        """Revision and value of ``key`` after the entry at ``index``; (0, None) when it is absent."""
        if key not in self._versions:
            return _ABSENT
        indexes, versions = self._versions[key]
        place = bisect_right(indexes, index)
        return versions[place - 1] if place else _ABSENT

    def revision_at(self, index: Index) -> Revision:
        """The shard's revision after the entry at ``index``."""
        return self._revisions[index]

    def keys_at(self, index: Index) -> set[bytes]:
        """All keys present after the entry at ``index``. Only asked for membership and iterated to compare."""
        return {key for key in self._versions if self.at(key, index)[1] is not None}

    def wrote(self, key: bytes, revision: Revision, value: bytes | None) -> bool:
        """Did the operation of ``revision`` leave ``key`` at ``value`` (None: deleted)?"""
        return (
            self._written.get((key, revision), b"") == value
            if value is None
            else (self._written.get((key, revision)) == value)
        )

    def values(self) -> Iterator[bytes]:
        """Every value that was ever written."""
        return (value for value in self._written.values() if value is not None)

    def ordered(self) -> Iterator[tuple[bytes, Revision, bytes]]:
        """All keys present after ``applied_index``, ascending."""
        for key in sorted(self.items):
            revision, value = self.items[key]
            yield key, revision, value


def _holds(batch: Batch, place: int, found_revision: Revision) -> bool:
    condition = batch.conditions[place] if batch.conditions else ANY_REVISION
    return condition in (ANY_REVISION, found_revision)
