"""Scans, page by page: which ranges of routing keys to ask for, and in which order what comes back is given out.

A scan is driven by its consumer: ``step`` returns the call to wait for, or None once ``take`` has
entries to give or the scan is ``finished``. Pages are asked for ahead, a bounded number of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Final, Protocol, TypeAlias

from shardraft.kv.requests import Consistency
from shardraft.shards.keyspace import SLOT_BYTES, KeyRange, Partitioning, prefix_range, slot_of
from shardraft.shards.shard_map import ShardMap
from shardraft_router.core.calls import Call, PageCall, ReadGroup
from shardraft_router.core.limits import RouterLimits

Entry: TypeAlias = tuple[bytes, bytes]
"""A user's key and its value."""

_CHUNK_KEYS: Final = 256
"""Keys whose values an ordered scan of slots reads at once."""
_CHUNKS_AHEAD: Final = 2
_RANGES_AHEAD: Final = 4
"""Whole shards that an unordered scan reads at once: their pages are full ones."""


class PageReader(Protocol):
    """What a scan needs of the router's core."""

    limits: RouterLimits

    def submit_page(self, call: PageCall) -> None: ...

    def read_many(self, keys: Sequence[bytes], consistency: Consistency, deadline_us: int) -> ReadGroup: ...

    def cancel(self, call: Call) -> object: ...


class Scan(Protocol):
    """One scan under way."""

    finished: bool

    def step(self, deadline_us: int) -> Call | None:
        """What to wait for; ``deadline_us`` is for the pages that it asks for. Raises the error of a failed page."""
        ...

    def take(self) -> list[Entry]:
        """The entries that are ready."""
        ...

    def close(self) -> None:
        """Forget what is under way; nothing comes any more."""
        ...


class PagedScan:
    """Reads ranges of routing keys one after the other, up to ``ahead`` of them at a time."""

    def __init__(
        self,
        core: PageReader,
        ranges: Iterable[KeyRange],
        ahead: int,
        slot_bytes: int,
        consistency: Consistency,
        limit: int | None,
    ) -> None:
        self.finished = False
        self._core = core
        self._ranges: Iterator[KeyRange] = iter(ranges)
        self._ahead = ahead
        self._slot_bytes = slot_bytes
        self._consistency = consistency
        self._left = limit
        self._pages: deque[PageCall] = deque()
        self._ready: list[Entry] = []

    def step(self, deadline_us: int) -> Call | None:
        while not self._ready and not self.finished:
            while len(self._pages) < self._ahead and (key_range := next(self._ranges, None)) is not None:
                self._pages.append(self._page(key_range.start, key_range.end, deadline_us))
            if not self._pages:
                self.finished = True
            elif not self._pages[0].done:
                return self._pages[0]
            else:
                self._absorb(self._pages.popleft(), deadline_us)
        return None

    def _absorb(self, page: PageCall, deadline_us: int) -> None:
        if page.error is not None:
            self.close()
            raise page.error
        skip = self._slot_bytes
        self._ready = [(key[skip:], value) for key, value in zip(page.found_keys, page.found_values, strict=True)]
        if self._left is not None:
            del self._ready[self._left :]
            self._left -= len(self._ready)
            if self._left == 0:
                self.close()
                return
        if page.next_start is not None:
            self._pages.appendleft(self._page(page.next_start, page.end, deadline_us))

    def _page(self, start: bytes, end: bytes, deadline_us: int) -> PageCall:
        limits = self._core.limits
        limit = limits.page_entries_max if self._left is None else min(limits.page_entries_max, self._left)
        page = PageCall(start, end, limit, False, self._consistency, deadline_us)
        self._core.submit_page(page)
        return page

    def take(self) -> list[Entry]:
        ready, self._ready = self._ready, []
        return ready

    def close(self) -> None:
        self.finished = True
        for page in self._pages:
            self._core.cancel(page)
        self._pages.clear()


class SlotStream:
    """The keys of one slot in order, a page at a time. ``next_start`` is None when no page follows."""

    __slots__ = ("end", "keys", "next_start", "page")

    def __init__(self, key_range: KeyRange) -> None:
        self.keys: deque[bytes] = deque()
        self.next_start: bytes | None = key_range.start
        self.end = key_range.end
        self.page: PageCall | None = None


class MergedScan:
    """Gives out the keys of many slots in the order of the user's keys: a merge of one stream per slot.

    Only keys are merged; values are read after that, so memory is bounded by keys: at most one page of them per
    slot, and the values of a few chunks. A key that is gone by the time its value is read is left out.
    """

    def __init__(
        self, core: PageReader, ranges: Iterable[KeyRange], consistency: Consistency, limit: int | None
    ) -> None:
        self.finished = False
        self._core = core
        self._consistency = consistency
        self._left = limit
        self._page_keys = min(core.limits.page_keys_max, limit or core.limits.page_keys_max)
        self._streams = [SlotStream(key_range) for key_range in ranges]
        self._hungry: deque[int] = deque(range(len(self._streams)))
        """Streams that should ask for a page as soon as one may."""
        self._under_way: dict[int, PageCall] = {}
        self._lacking: dict[int, None] = dict.fromkeys(self._hungry)
        """Streams whose next key is not known: nothing can be given out while there is one."""
        self._heap: list[tuple[bytes, int]] = []
        self._chunks: deque[tuple[list[bytes], ReadGroup]] = deque()
        self._ready: list[Entry] = []

    def step(self, deadline_us: int) -> Call | None:
        while not self._ready and not self.finished:
            self._absorb_pages()
            self._read_chunks(deadline_us)
            self._ask(deadline_us)
            if self._chunks:
                _, group = self._chunks[0]
                if not group.done:
                    return group
                self._absorb_chunk()
            elif self._lacking and not self._enough():
                # What is under way is asked for in order, so the oldest is the next to come.
                return next(iter(self._under_way.values()))
            else:
                self.close()
        return None

    def _enough(self) -> bool:
        return self._left is not None and self._left <= 0

    def _ask(self, deadline_us: int) -> None:
        pages_max = self._core.limits.pages_in_flight_max
        while self._hungry and len(self._under_way) < pages_max and not self._enough():
            number = self._hungry.popleft()
            stream = self._streams[number]
            assert stream.next_start is not None, "a stream that has ended is not hungry"
            page = PageCall(stream.next_start, stream.end, self._page_keys, True, self._consistency, deadline_us)
            stream.next_start = None
            self._under_way[number] = page
            self._core.submit_page(page)

    def _absorb_pages(self) -> None:
        for number in [number for number, page in self._under_way.items() if page.done]:
            page = self._under_way.pop(number)
            if page.error is not None:
                self.close()
                raise page.error
            stream = self._streams[number]
            stream.keys.extend(page.found_keys)
            stream.next_start = page.next_start
            if number in self._lacking:
                del self._lacking[number]
                self._show_next(number)

    def _show_next(self, number: int) -> None:
        """Put the stream's next key into the merge; ask for more in good time."""
        stream = self._streams[number]
        if stream.keys:
            heappush(self._heap, (stream.keys.popleft()[SLOT_BYTES:], number))
        elif stream.next_start is not None or number in self._under_way:
            self._lacking[number] = None
        if stream.next_start is not None and len(stream.keys) <= self._page_keys // 4 and number not in self._hungry:
            self._hungry.append(number)

    def _read_chunks(self, deadline_us: int) -> None:
        while len(self._chunks) < _CHUNKS_AHEAD:
            size = _CHUNK_KEYS if self._left is None else min(_CHUNK_KEYS, self._left)
            keys: list[bytes] = []
            while self._heap and not self._lacking and len(keys) < size:
                key, number = heappop(self._heap)
                keys.append(key)
                self._show_next(number)
            if not keys:
                return
            if self._left is not None:
                self._left -= len(keys)
            self._chunks.append((keys, self._core.read_many(keys, self._consistency, deadline_us)))

    def _absorb_chunk(self) -> None:
        keys, group = self._chunks.popleft()
        if group.error is not None:
            self.close()
            raise group.error
        found = group.found()
        self._ready = [(key, found[key]) for key in keys if key in found]
        if self._left is not None:
            self._left += len(keys) - len(self._ready)

    def take(self) -> list[Entry]:
        ready, self._ready = self._ready, []
        return ready

    def close(self) -> None:
        self.finished = True
        for page in self._under_way.values():
            self._core.cancel(page)
        for _, group in self._chunks:
            self._core.cancel(group)
        self._under_way.clear()
        self._chunks.clear()
        self._lacking.clear()


def plan_scan(
    core: PageReader,
    shard_map: ShardMap,
    wanted: KeyRange,
    tag_prefix: bytes,
    ordered: bool,
    limit: int | None,
    consistency: Consistency,
) -> Scan:
    """The scan of the user keys in ``wanted``, all of which begin with ``tag_prefix``.

    With range partitioning, or when the prefix contains a whole ``{tag}``, keys lie in order and are read shard
    by shard. Otherwise each slot holds some of them: ``ordered`` merges one stream per slot, which costs at
    least one request per slot (1,024 by default) before the first entry; unordered reads slot by slot, or whole
    shards when all keys are wanted.
    """
    slot_bytes = shard_map.partitioning.slot_bytes
    if wanted.is_empty() or limit == 0:
        return PagedScan(core, (), 1, slot_bytes, consistency, limit)
    if shard_map.partitioning is Partitioning.RANGE:
        return PagedScan(core, (wanted,), 1, slot_bytes, consistency, limit)
    if has_whole_tag(tag_prefix):
        only = in_slot(slot_of(tag_prefix, shard_map.slots), wanted)
        return PagedScan(core, (only,), 1, slot_bytes, consistency, limit)
    if wanted == KeyRange() and not ordered:
        whole = tuple(shard.key_range for shard in shard_map.shards)
        return PagedScan(core, whole, _RANGES_AHEAD, slot_bytes, consistency, limit)
    slots = [in_slot(slot, wanted) for slot in range(shard_map.slots)]
    if ordered:
        return MergedScan(core, slots, consistency, limit)
    return PagedScan(core, slots, core.limits.pages_in_flight_max, slot_bytes, consistency, limit)


def wanted_range(prefix: bytes, start: bytes | None, end: bytes | None) -> KeyRange:
    """The user keys that begin with ``prefix`` and lie in [``start``, ``end``)."""
    return prefix_range(prefix).overlap(KeyRange(start or b"", end or b""))


def has_whole_tag(prefix: bytes) -> bool:
    """Whether all keys that begin with ``prefix`` share its tag, and so their slot."""
    opening = prefix.find(b"{")
    return opening >= 0 and prefix.find(b"}", opening + 1) > opening + 1


def in_slot(slot: int, wanted: KeyRange) -> KeyRange:
    """The routing keys of the ``wanted`` user keys in one slot."""
    head = slot.to_bytes(SLOT_BYTES, "big")
    if wanted.end:
        return KeyRange(head + wanted.start, head + wanted.end)
    following = slot + 1
    return KeyRange(head + wanted.start, following.to_bytes(SLOT_BYTES, "big") if following < 1 << 16 else b"")
