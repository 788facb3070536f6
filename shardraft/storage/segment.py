"""One file of the log: made at its full size, then written block by block, each synced as it is written.

A file of its full size makes a sync one write: nothing but the block itself has to reach the disk. What was not
written yet is zeros, by which a block that a crash tore is told from one that the disk damaged (``log_start``).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import attrs

from shardraft.storage.blocks import BLOCK_HEADER_BYTES, SEAL_BYTES, Block, ItemKind
from shardraft.storage.directory import sync_directory
from shardraft.storage.shard_logs import shard_item
from shardraft.storage.spare import Spare

_NAME: Final = re.compile(r"segment-(\d{8,10})")
SEGMENT_NUMBER_MAX: Final = 2**32 - 1
BLOCKS_UNDER_WAY_MAX: Final = 16
"""Blocks of a segment that are placed and not known to be durable; who has more waits, and joins them into one."""


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"segment-{number:08d}"


def segment_numbers(directory: Path) -> list[int]:
    """The segments that a directory holds, ascending."""
    found = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(match[1]) for match in found if match is not None)


def write_all(fd: int, parts: tuple[bytes, ...], at: int) -> None:
    """Write the parts one behind the other from ``at``. Raises ``OSError``."""
    written = os.pwritev(fd, parts, at)
    if written < sum(map(len, parts)):
        # A disk that takes only a part, because it is full, mostly says so when the rest is written.
        rest = memoryview(b"".join(parts))
        while rest := rest[written:]:
            at += written
            written = os.pwrite(fd, rest, at)


@attrs.frozen(slots=True, eq=False)
class PlacedBlock:
    """A block that has its place at ``at`` in a segment: what is to be written there, and durable before it counts.

    ``fd`` is for it alone while it is under way. ``parts`` are its header, its body, and what stands behind it;
    ``gone`` the segments that it calls gone.
    """

    segment: Segment
    fd: int
    at: int
    parts: tuple[bytes, bytes, bytes]
    gone: tuple[int, ...] = ()

    @property
    def begin(self) -> int:
        """Where its body begins."""
        return self.at + BLOCK_HEADER_BYTES

    @property
    def body(self) -> bytes:
        return self.parts[1]


class Segment:
    """A segment that is open. ``end`` is where the next block begins, ``blocks`` its number, ``room`` what fits.

    A block is placed, then written, here or by whoever writes its ``parts``, several at a time; those that were placed
    and did not land yet are ``under_way``. ``prepare`` comes before more than one is.

    Each of them is written through an open file of its own: the kernel tells of a page that it could not write once
    to every open file, whichever of several writes is at fault.
    """

    __slots__ = ("_fds", "blocks", "end", "number", "path", "segment_bytes", "under_way")

    def __init__(self, path: Path, number: int, end: int, blocks: int) -> None:
        """Open a segment whose blocks were read. Raises ``OSError``."""
        self.path = path
        self.number = number
        self.end = end
        self.blocks = blocks
        self.under_way = 0
        self._fds = [self._open()]
        self.segment_bytes = os.fstat(self._fds[0]).st_size

    def _open(self) -> int:
        # What a write returns for is on the disk, and one call is cheaper than two.
        return os.open(self.path, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)

    def prepare(self) -> None:
        """Let several blocks be under way. Raises ``OSError``."""
        while len(self._fds) < BLOCKS_UNDER_WAY_MAX:
            self._fds.append(self._open())

    @classmethod
    def create(cls, directory: Path, number: int, segment_bytes: int) -> Segment:
        """Make a segment of zeros. Raises ``OSError``, for one when the disk has no room for all of it."""
        assert number <= SEGMENT_NUMBER_MAX, "a segment a second would take a century"
        path = segment_path(directory, number)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, segment_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_directory(directory)
        return cls(path, number, 0, 0)

    @classmethod
    def following(cls, directory: Path, number: int, segment_bytes: int, bytes_min: int, spare: Spare) -> Segment:
        """The spare one as segment ``number``, if it has room for ``bytes_min``, else a new one. Raises ``OSError``."""
        path = segment_path(directory, number)
        if not spare.take(path, bytes_min):
            spare.remove()  # The room that it has may be all there is.
            return cls.create(directory, number, segment_bytes)
        sync_directory(directory)
        return cls(path, number, 0, 0)

    @property
    def room(self) -> int:
        """How many bytes of blocks fit before the seal."""
        return self.segment_bytes - self.end - SEAL_BYTES

    def place(self, block: Block, gone: tuple[int, ...] = ()) -> PlacedBlock:
        """Give a block the next place; ``landed`` when it is durable."""
        assert self.under_way < len(self._fds), "a block under way has an open file of its own"
        fd = self._fds[self.blocks % len(self._fds)]
        placed = PlacedBlock(self, fd, self.end, block.encode(self.number, self.blocks, self.under_way), gone)
        self.end += block.block_bytes
        self.blocks += 1
        self.under_way += 1
        return placed

    def write(self, placed: PlacedBlock) -> None:
        """Write a block that was placed; it is durable on return. Raises ``OSError``."""
        self._write(placed.parts, placed.at, placed.fd)

    def landed(self) -> None:
        """The block that was placed longest ago is durable, and those before it are."""
        self.under_way -= 1

    def append(self, block: Block) -> None:
        """Write a block; it is durable on return. Raises ``OSError``."""
        self.write(self.place(block))
        self.landed()

    def seal(self, following: int) -> None:
        """Say that nothing follows here, but in ``following``, which is there."""
        block = Block()
        block.add(ItemKind.SEAL, shard_item(following))
        self.append(block)
        while len(self._fds) > 1:
            os.close(self._fds.pop())

    def write_again(self, begin: int) -> None:
        """Write what was read from ``begin`` to the end of the last block, so that it is on the disk for certain."""
        self._write((self.read(begin, self.end - begin),), begin, self._fds[0])
        os.fsync(self._fds[0])

    def clear(self, end: int) -> None:
        """Zeros, durable, from the end of the last block to ``end``: what a crash left of one that was torn."""
        self._write((bytes(end - self.end),), self.end, self._fds[0])

    def _write(self, parts: tuple[bytes, ...], at: int, fd: int) -> None:
        write_all(fd, parts, at)

    def read(self, offset: int, size: int) -> bytes:
        """What lies there; shorter at the end of the file. Raises ``OSError``."""
        return os.pread(self._fds[0], size, offset)

    def remove(self) -> None:
        """Close and delete it."""
        self.close()
        self.path.unlink()

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())
