"""The work of ``shardraft import``: records in, chunks out, several chunks in flight, and what became of each key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn, TypeAlias

import trio

from shardraft.cli.failures import EXIT_UNKNOWN, exit_code_of, line_of
from shardraft.cli.records import fields_of, parse_record
from shardraft.errors import Conflict, InvalidArgument, PartialWrite, ShardraftError, TooLarge

if TYPE_CHECKING:
    from shardraft_router import Router

Record: TypeAlias = tuple[bytes, bytes | ShardraftError]
"""A key, and its value or why there is none."""

NOT_WRITTEN: Final = "not written"
UNKNOWN: Final = "unknown"

CHUNK_RECORDS_MAX: Final = 128
CHUNK_BYTES_MAX: Final = 256 << 10
"""Keys and values of one ``put_many``; a larger record goes alone."""
CHUNKS_IN_FLIGHT_MAX: Final = 16
"""At this many the source is not read any further, so memory is bounded whatever its size."""
FILE_BYTES_MAX: Final = 16 << 20
"""A larger file of a directory is not even read: no value can be as large as a frame."""
LINE_BYTES_MAX: Final = 8 << 20
"""A longer line is no record: it would not fit a batch, however it is written."""


class BadRecord(Exception):
    """The source holds something that is no record; nothing after it is read."""


class Import:
    """One import: ``written`` keys with ``bytes_written``, and of each other key in ``failures`` (outcome, reason)."""

    def __init__(self, records: Iterator[Record], advance: Callable[[int], None]) -> None:
        self.written = 0
        self.bytes_written = 0
        self.taken = 0
        self.failures: dict[bytes, tuple[str, str]] = {}
        self.exit_code = 0
        self.stopped: Exception | None = None
        self._records = records
        self._advance = advance
        self._turn = trio.Lock()
        self._in_flight: set[bytes] = set()
        self._landed = trio.lowlevel.ParkingLot()

    def count(self, outcome: str) -> int:
        """How many keys ended with ``outcome``: ``NOT_WRITTEN`` or ``UNKNOWN``."""
        return sum(each == outcome for each, _ in self.failures.values())

    def failure_lines(self) -> Iterator[bytes]:
        """One JSON line for each key that failed."""
        for key, (outcome, reason) in self.failures.items():
            line = {**fields_of(key), "outcome": outcome, "reason": reason}
            yield json.dumps(line, ensure_ascii=False).encode() + b"\n"

    async def run(self, router: Router) -> None:
        """Take all records and write them; returns when every one taken is accounted for."""
        async with trio.open_nursery() as nursery:
            for _ in range(CHUNKS_IN_FLIGHT_MAX):
                nursery.start_soon(self._work, router)

    async def _work(self, router: Router) -> None:
        while True:
            # The lock keeps chunks in the order of the source: of two chunks with one key the later lands later.
            async with self._turn:
                chunk = self._take_chunk()
                while not self._in_flight.isdisjoint(chunk):
                    await self._landed.park()
                self._in_flight.update(chunk)
            if not chunk:
                return
            await self._write(router, chunk)
            self._in_flight.difference_update(chunk)
            self._landed.unpark_all()

    def _take_chunk(self) -> dict[bytes, bytes]:
        chunk: dict[bytes, bytes] = {}
        size = 0
        while self.stopped is None and len(chunk) < CHUNK_RECORDS_MAX and size < CHUNK_BYTES_MAX:
            try:
                key, value = next(self._records)
            except StopIteration:
                break
            except BadRecord as error:
                self.stopped = error
                break
            self.taken += 1
            if isinstance(value, ShardraftError):
                self._failed(key, NOT_WRITTEN, value)
                continue
            chunk[key] = value
            size += len(key) + len(value)
        return chunk

    async def _write(self, router: Router, chunk: dict[bytes, bytes]) -> None:
        failed: dict[bytes, tuple[str, ShardraftError]] = {}
        try:
            await router.put_many(chunk)
        except PartialWrite as error:
            failed = {key: (NOT_WRITTEN, each) for key, each in error.not_applied.items()}
            failed |= {key: (UNKNOWN, each) for key, each in error.unknown.items()}
        except ShardraftError as error:
            if len(chunk) > 1 and _is_about_one_record(error):
                # The call was refused as a whole because of one of its keys: find out which.
                for key, value in chunk.items():
                    await self._write(router, {key: value})
                return
            failed = dict.fromkeys(chunk, (UNKNOWN if error.applied == "unknown" else NOT_WRITTEN, error))
        for key, value in chunk.items():
            self._advance(len(value))
            if key in failed:
                self._failed(key, *failed[key])
            else:
                self.failures.pop(key, None)
                self.written += 1
                self.bytes_written += len(key) + len(value)

    def _failed(self, key: bytes, outcome: str, error: ShardraftError) -> None:
        self.failures[key] = (outcome, line_of(error))
        self.exit_code = max(self.exit_code, EXIT_UNKNOWN if outcome == UNKNOWN else exit_code_of(error))
        if not _is_about_one_record(error) and self.stopped is None:
            self.stopped = error


def _is_about_one_record(error: ShardraftError) -> bool:
    """Whether other records may still be written: too large, no such key; but not: nobody answers."""
    return isinstance(error, ValueError | Conflict)


def files_below(directory: Path) -> Iterator[Path]:
    """Every regular file below ``directory``, links aside. ``OSError`` when a directory in it cannot be listed:
    an import that leaves out what it could not see would look complete."""

    def fail(error: OSError) -> NoReturn:
        raise error

    for place, _, names in os.walk(directory, onerror=fail):
        for path in (Path(place, name) for name in names):
            if path.is_file() and not path.is_symlink():
                yield path


def records_of_directory(directory: Path, paths: Iterable[Path], prefix: bytes) -> Iterator[Record]:
    """Each file of ``paths``, read when its turn comes; its key is its path within ``directory``."""
    for path in paths:
        key = prefix + path.relative_to(directory).as_posix().encode("utf-8", "surrogateescape")
        try:
            size = path.stat().st_size
            value = path.read_bytes() if size <= FILE_BYTES_MAX else TooLarge(f"a file of {size} bytes")
            yield key, value
        except OSError as error:
            yield key, InvalidArgument(f"the file cannot be read: {error.strerror}")


def records_of_lines(file: BinaryIO, prefix: bytes) -> Iterator[Record]:
    """Each line of ``file``; empty ones are skipped. Raises ``BadRecord`` with the number of a line that is none."""
    for number, line in enumerate(iter(partial(file.readline, LINE_BYTES_MAX + 1), b""), start=1):
        if not line.strip():
            continue
        try:
            if len(line) > LINE_BYTES_MAX:
                raise ValueError(f"longer than {LINE_BYTES_MAX} bytes")
            key, value = parse_record(line)
        except ValueError as error:
            raise BadRecord(f"line {number}: {error}") from None
        yield prefix + key, value
