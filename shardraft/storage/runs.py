"""Runs: flushes that lie beside the keys of the state environment until several are merged into them at once.

A flush of random keys into one large tree dirties about a page of 4 KiB for each of them. So a flush is written as a
*run*, a database of its own that is filled in ascending order (0.3 KB and 1 us per record), and runs are merged
into the keys some at a time, when one page takes up several records. Newer runs hide older ones, and all runs
hide the keys. A deletion in a run is an empty record, which no key has.

A run is filled in several transactions and known with the last, that of the machine states. Merging changes where
a record lies and never what a read finds: until they are dropped, merged runs say the same as the keys do. So a
merge goes on in transactions of bounded size, between which anybody may read and flush, and one that a
crash cut short begins again from the first key.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Final, TypeAlias

from shardraft.kv.records import Record
from shardraft.storage.environment import PUT_RECORDS_MAX, Cursor, Database, Transaction

Row: TypeAlias = tuple[bytes, Record]
RunNumbers: TypeAlias = tuple[int, ...]
"""The runs there are, the newest first."""

RUNS_MAX: Final = 16
RUN_NAMES: Final = tuple(b"run%d" % number for number in range(RUNS_MAX))
MERGED_RUNS: Final = 8
"""So many runs are merged together: each page of the keys that they change then takes up as many of their records as
there are. Every read of an old key looks into all runs, so they are few."""
MERGE_RECORDS_MAX: Final = 1024
"""Records merged in one transaction: 4 MiB of dirtied pages if each has its own."""
_ROWS_AT_ONCE_MIN: Final = 64
"""As long as so many rows of each run may be merged in one transaction, as many are read at once."""
DELETED: Final = b""

_key_of = itemgetter(0)


def newest_rows(sources: Sequence[Iterable[Row]]) -> Iterator[Row]:
    """The rows of ascending sources, ascending; of equal keys the one of the first source, and none that is deleted."""
    last = None
    for key, record in heapq.merge(*sources, key=_key_of):
        if key != last:
            last = key
            if record:
                yield key, record


def next_rows(transaction: Transaction, runs: Sequence[Database], after: bytes, count_max: int) -> list[Row]:
    """The rows of ``runs`` (the newest first) above ``after``, ascending, deletions included; none: that was all.

    Never more than ``count_max`` of them, and not always as many: where one run was not read on, the others stop too.
    """
    wanted = count_max // len(runs)
    if wanted < _ROWS_AT_ONCE_MIN:
        return _next_few_rows([transaction.cursor(run) for run in runs], after, max(1, count_max))
    parts = [_rows_after(transaction.cursor(run), after, wanted) for run in runs]
    rows = [row for part in parts for row in part]
    rows.sort(key=_key_of)  # Stable: of equal keys, the newest stays first.
    ends = [part[-1][0] for part in parts if len(part) == wanted]
    if ends:
        del rows[bisect_right(rows, min(ends), key=_key_of) :]
    newest = dict(reversed(rows))
    return list(reversed(newest.items()))


def _next_few_rows(cursors: Sequence[Cursor], after: bytes, count: int) -> list[Row]:
    """The same, row by row: what is read of large records and not merged would have to be read again."""
    begun = [cursor for cursor in cursors if cursor.set_range(after + b"\0")]
    rows: list[Row] = []
    for row in heapq.merge(*begun, key=_key_of):
        if rows and row[0] == rows[-1][0]:
            continue
        if len(rows) == count:
            break
        rows.append(row)
    return rows


def _rows_after(cursor: Cursor, after: bytes, count: int) -> list[Row]:
    return list(islice(cursor, count)) if cursor.set_range(after + b"\0") else []


def put_rows(cursor: Cursor, rows: Sequence[Row]) -> None:
    """Merge ascending rows into the keys."""
    for start in range(0, len(rows), PUT_RECORDS_MAX):
        some = rows[start : start + PUT_RECORDS_MAX]
        cursor.putmulti([row for row in some if row[1]])
        for key, record in some:
            if not record and cursor.set_key(key):
                cursor.delete()
