"""Ordered reads: the layers of the write buffer merged over pages of the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from shardraft.kv.buffer import Layer
from shardraft.kv.commands import Stored
from shardraft.kv.records import stored_in

Rows: TypeAlias = list[tuple[bytes, Stored]]
ReadPage: TypeAlias = Callable[[bytes, bytes, int], Rows]
"""(start, end, entries_max): the store's keys in [start, end) in ascending order; an empty end means no end."""

_FIRST_PAGE_ENTRIES: Final = 16
_PAGE_ENTRIES_MAX: Final = 1024
"""The store pages by entries and values may be large, so the first page is small and tells how large others may be."""


def merge_scan(
    layers: Sequence[Layer], read_page: ReadPage, start: bytes, end: bytes, entries_max: int, bytes_max: int
) -> tuple[Rows, bool]:
    """Live keys in [``start``, ``end``) in ascending order, and whether the range holds more of them.

    At most ``entries_max`` rows whose keys and values are at most ``bytes_max`` bytes together; a single
    larger row comes alone. ``layers`` lie over the store, the later ones over the earlier.
    """
    rows: Rows = []
    rows_bytes = 0
    cursor, is_done = start, bool(end) and end <= start
    while not is_done:
        wanted = _page_entries(len(rows), rows_bytes, entries_max, bytes_max)
        stretch, stop = _read_stretch(layers, read_page, cursor, end, wanted)
        for key, stored in stretch:
            row_bytes = len(key) + len(stored.value)
            if len(rows) >= entries_max or (rows and rows_bytes + row_bytes > bytes_max):
                return rows, True
            rows.append((key, stored))
            rows_bytes += row_bytes
        cursor, is_done = stop, stop == end
    return rows, False


def _read_stretch(
    layers: Sequence[Layer], read_page: ReadPage, start: bytes, end: bytes, wanted: int
) -> tuple[Rows, bytes]:
    """The live keys from ``start`` to where the first source had more than ``wanted``, and that place."""
    page = read_page(start, end, wanted)
    stop = _after(page[-1][0]) if len(page) >= wanted else end
    changed: list[list[bytes]] = []
    for layer in layers:
        keys, has_more = layer.keys_from(start, stop, wanted)
        if has_more:
            stop = _after(keys[-1])
        changed.append(keys)
    if not any(changed):
        return page, stop
    merged: dict[bytes, Stored | None] = dict(page)
    for layer, keys in zip(layers, changed, strict=True):
        for key in keys:
            record = layer.changes[key]
            merged[key] = None if record is None else stored_in(record)
    return [
        (key, stored)
        for key, stored in sorted(merged.items(), key=_key_of)
        if stored is not None and (not stop or key < stop)
    ], stop


def _page_entries(rows: int, rows_bytes: int, entries_max: int, bytes_max: int) -> int:
    """How many entries to ask for next: about what still fits, and one more that tells whether there is more."""
    entries_left = max(entries_max - rows, 0) + 1
    if not rows:
        return min(entries_left, _FIRST_PAGE_ENTRIES)
    fitting = max(bytes_max - rows_bytes, 0) * rows // max(rows_bytes, 1) + 1
    return min(entries_left, fitting, _PAGE_ENTRIES_MAX)


def _after(key: bytes) -> bytes:
    return key + b"\x00"


def _key_of(item: tuple[bytes, Stored | None]) -> bytes:
    return item[0]
