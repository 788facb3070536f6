"""The write buffer above the store: what was applied and is not flushed yet.

It has two layers. Writes go to the *active* one; a flush moves that aside as a whole, and until it
is durable the *flushing* layer still answers reads between the active layer and the store.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Final

from shardraft.kv.records import Record
from shardraft.octets.functions import put_records
from shardraft.types import Revision

ENTRY_BYTES: Final = 160
"""What an entry costs in memory besides its key and record, about: their headers and its table slot.

It is counted, because a buffer of tiny values would otherwise be many times its limit.
"""

_INSERTS_MAX: Final = 32
"""Up to so many new keys are inserted into the ordered ones singly; for more, sorting again is cheaper."""


class Missing(Enum):
    """What ``WriteBuffer.find`` answers for a key that it knows nothing of, as None means deleted."""

    MISSING = 0


MISSING: Final = Missing.MISSING


class Layer:
    """The records of changed keys (None: deleted), their size, and on demand their order."""

    __slots__ = ("_ordered", "changes", "size_bytes")

    def __init__(self) -> None:
        self.changes: dict[bytes, Record | None] = {}
        self.size_bytes = 0
        self._ordered: list[bytes] = []

    def install(self, changes: Mapping[bytes, Record | None]) -> None:
        """Take over ``changes``, the later records of their keys."""
        held = self.changes
        if not held.keys().isdisjoint(changes):
            self.size_bytes -= _bytes_of({key: held[key] for key in changes if key in held})
        held.update(changes)
        self.size_bytes += _bytes_of(changes)

    def put(self, keys: Sequence[bytes], values: Sequence[bytes], first_revision: Revision) -> None:
        """Take over the puts of a batch, which have consecutive revisions."""
        more_keys, more_bytes = put_records(self.changes, keys, values, first_revision)
        self.size_bytes += ENTRY_BYTES * more_keys + more_bytes

    def keys_from(self, start: bytes, end: bytes, count: int) -> tuple[list[bytes], bool]:
        """Up to ``count`` changed keys in [``start``, ``end``) in ascending order, and whether there are more."""
        ordered = self._order()
        low = bisect_left(ordered, start)
        high = bisect_left(ordered, end, low) if end else len(ordered)
        return ordered[low : min(high, low + count)], high - low > count

    def _order(self) -> list[bytes]:
        # A layer never forgets a key and a dict keeps the order of insertion, so the keys not yet in
        # order are its last ones. Writers pay nothing for the order; a scan pays for what is new.
        ordered = self._ordered
        fresh = list(islice(reversed(self.changes), len(self.changes) - len(ordered)))
        if len(fresh) > _INSERTS_MAX:
            ordered += fresh
            ordered.sort()
        else:
            for key in fresh:
                insort(ordered, key)
        return ordered


class WriteBuffer:
    """The active layer and, while a flush is in flight, the one being flushed."""

    __slots__ = ("_active", "_flushing")

    def __init__(self) -> None:
        self._active = Layer()
        self._flushing: Layer | None = None

    @property
    def size_bytes(self) -> int:
        """Keys, records and ``ENTRY_BYTES`` for each key, of both layers."""
        return self._active.size_bytes + (self._flushing.size_bytes if self._flushing else 0)

    @property
    def is_flushing(self) -> bool:
        return self._flushing is not None

    def find(self, key: bytes) -> Record | Missing | None:
        """The key's record; None when it is deleted, ``MISSING`` when only the store can tell."""
        found = self._active.changes.get(key, MISSING)
        if found is MISSING and self._flushing is not None:
            return self._flushing.changes.get(key, MISSING)
        return found

    def install(self, changes: Mapping[bytes, Record | None]) -> None:
        """Make applied ``changes`` visible."""
        self._active.install(changes)

    def put(self, keys: Sequence[bytes], values: Sequence[bytes], first_revision: Revision) -> None:
        """The same for the puts of a batch, which have consecutive revisions and of one key the last one counts."""
        self._active.put(keys, values, first_revision)

    def layers(self) -> tuple[Layer, ...]:
        """The layers, the older one first."""
        return (self._active,) if self._flushing is None else (self._flushing, self._active)

    def begin_flush(self) -> Mapping[bytes, Record | None]:
        """Move the active layer aside and return its changes, which do not change any more."""
        assert self._flushing is None, "one flush at a time: a second would hide the first from reads"
        self._flushing = self._active
        self._active = Layer()
        return self._flushing.changes

    def end_flush(self) -> None:
        """What was moved aside is in the store."""
        assert self._flushing is not None, "no flush is in flight"
        self._flushing = None


def _bytes_of(changes: Mapping[bytes, Record | None]) -> int:
    records = filter(None, changes.values())  # A record is never empty; None is a deletion.
    return ENTRY_BYTES * len(changes) + sum(map(len, changes)) + sum(map(len, records))
