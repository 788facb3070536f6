"""What an import says of every key when some could not be written, and in which order equal keys land."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from shardraft.cli import importing
from shardraft.cli.importing import (
    CHUNKS_IN_FLIGHT_MAX,
    NOT_WRITTEN,
    UNKNOWN,
    BadRecord,
    Import,
    Record,
    files_below,
    records_of_directory,
    records_of_lines,
)
from shardraft.errors import (
    DeadlineExceeded,
    InvalidArgument,
    PartialWrite,
    SessionExpired,
    ShardraftError,
    TooLarge,
    Unavailable,
)

pytestmark = pytest.mark.trio


class Keys:
    """Stands in for a router, because no cluster fails on demand: ``refuse`` says what becomes of a key."""

    def __init__(self, refuse: Callable[[bytes], ShardraftError | None] = lambda _key: None) -> None:
        self.values: dict[bytes, bytes] = {}
        self.calls = 0
        self.under_way = 0
        self.most_under_way = 0
        self._refuse = refuse

    async def put_many(self, items: Mapping[bytes, bytes]) -> dict[bytes, int]:
        for key in items:
            if isinstance(self._refuse(key), InvalidArgument | TooLarge):
                raise self._refuse(key) or AssertionError
        self.calls += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await trio.testing.wait_all_tasks_blocked()
        self.under_way -= 1
        errors = {key: error for key in items if (error := self._refuse(key)) is not None}
        self.values |= {key: value for key, value in items.items() if key not in errors}
        if errors:
            raise PartialWrite(
                {key: 1 for key in items if key not in errors},
                {key: error for key, error in errors.items() if error.applied == "no"},
                {key: error for key, error in errors.items() if error.applied == "unknown"},
            )
        return dict.fromkeys(items, 1)


async def import_into(router: Any, records: Iterator[Record]) -> Import:
    task = Import(records, lambda _bytes: None)
    with trio.fail_after(30):
        await task.run(router)
    return task


def numbered(count: int) -> Iterator[Record]:
    return iter([(b"key-%d" % number, b"value-%d" % number) for number in range(count)])


async def test_everything_is_written_in_chunks() -> None:
    router = Keys()
    task = await import_into(router, numbered(10_000))
    assert (task.written, task.taken, task.failures, task.stopped) == (10_000, 10_000, {}, None)
    assert router.values == dict(numbered(10_000))
    assert router.calls < 100


async def test_no_more_chunks_are_in_flight_than_the_limit() -> None:
    router = Keys()
    await import_into(router, numbered(10_000))
    assert router.most_under_way == CHUNKS_IN_FLIGHT_MAX


async def test_large_values_make_small_chunks() -> None:
    router = Keys()
    await import_into(router, iter([(b"key-%d" % number, bytes(200 << 10)) for number in range(20)]))
    assert router.calls == 10


async def test_of_equal_keys_the_later_one_stands() -> None:
    router = Keys()
    records = [(b"key-%d" % (number % 7), b"%d" % number) for number in range(5000)]
    task = await import_into(router, iter(records))
    assert router.values == dict(records)
    assert task.taken == 5000


async def test_a_record_that_is_too_large_does_not_stop_the_others() -> None:
    router = Keys(lambda key: TooLarge("too large") if key == b"key-3" else None)
    task = await import_into(router, numbered(500))
    assert task.written == 499
    assert task.failures == {b"key-3": (NOT_WRITTEN, "too large")}
    assert (task.exit_code, task.stopped) == (2, None)


async def test_a_cluster_that_is_gone_stops_the_import() -> None:
    router = Keys(lambda _key: Unavailable("nobody answers"))
    task = await import_into(router, numbered(100_000))
    assert task.written == 0
    assert task.taken == len(task.failures) <= CHUNKS_IN_FLIGHT_MAX * importing.CHUNK_RECORDS_MAX
    assert str(task.stopped) == "nobody answers"
    assert task.exit_code == 3


async def test_written_not_written_and_unknown_are_told_apart() -> None:
    fates: dict[bytes, ShardraftError] = {
        b"key-1": DeadlineExceeded("late"),
        b"key-2": DeadlineExceeded("late", applied="unknown"),
        b"key-3": SessionExpired(),
    }
    task = await import_into(Keys(fates.get), numbered(10))
    assert task.written == 7
    assert {key: outcome for key, (outcome, _) in task.failures.items()} == {
        b"key-1": NOT_WRITTEN,
        b"key-2": UNKNOWN,
        b"key-3": UNKNOWN,
    }
    assert (task.count(NOT_WRITTEN), task.count(UNKNOWN)) == (1, 2)
    assert task.exit_code == 4
    outcomes = [json.loads(line) for line in task.failure_lines()]
    assert {"key": "key-1", "outcome": "not written", "reason": "late"} in outcomes


async def test_a_bad_line_ends_the_import_after_the_records_before_it() -> None:
    router = Keys()
    good = b'{"key": "a", "value": "1"}\n\n{"key": "b", "value": "2"}\n'
    lines = io.BytesIO(good + b'nonsense\n{"key": "c", "value": "3"}\n')
    task = await import_into(router, records_of_lines(lines, b"p/"))
    assert router.values == {b"p/a": b"1", b"p/b": b"2"}
    assert isinstance(task.stopped, BadRecord)
    assert str(task.stopped) == "line 4: not JSON"


async def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "LINE_BYTES_MAX", 100)
    with pytest.raises(BadRecord, match="line 1: longer than 100 bytes"):
        list(records_of_lines(io.BytesIO(b'"' + b"x" * 200), b""))


async def test_a_file_is_stored_under_its_path_in_the_directory(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.bin").write_bytes(b"\xff\x00")
    (tmp_path / "b").write_bytes(b"")
    paths = [tmp_path / "b", tmp_path / "deep" / "a.bin"]
    assert list(records_of_directory(tmp_path, paths, b"p:")) == [(b"p:b", b""), (b"p:deep/a.bin", b"\xff\x00")]


async def test_a_file_that_is_gone_or_far_too_large_is_one_failed_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "FILE_BYTES_MAX", 3)
    (tmp_path / "large").write_bytes(b"1234")
    (tmp_path / "small").write_bytes(b"123")
    paths = [tmp_path / "gone", tmp_path / "large", tmp_path / "small"]
    router = Keys()
    task = await import_into(router, records_of_directory(tmp_path, paths, b""))
    assert router.values == {b"small": b"123"}
    assert task.failures == {
        b"gone": (NOT_WRITTEN, "the file cannot be read: No such file or directory"),
        b"large": (NOT_WRITTEN, "a file of 4 bytes"),
    }
    assert (task.stopped, task.exit_code) == (None, 2)


async def test_a_directory_that_cannot_be_listed_is_an_error_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("open/file")
    assert list(files_below(tmp_path)) == [tmp_path / "open" / "file"]
    # Permissions do not stop root, as which tests may run.
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "open":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError):
        list(files_below(tmp_path))
