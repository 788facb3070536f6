"""One file of the log: made at its full size, then written block by block, each synced as it is written.

A file of its full size makes a sync one write: nothing but the block itself has to reach the disk. What was not
written yet is zeros, by which a block that a crash tore is told from one that the disk damaged (``log_start``).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from shardraft.storage.blocks import BLOCK_HEADER_BYTES, SEAL_BYTES, Block, ItemKind
from shardraft.storage.directory import sync_directory
from shardraft.storage.shard_logs import shard_item

_NAME: Final = re.compile(r"segment-(\d{8,10})")
SEGMENT_NUMBER_MAX: Final = 2**32 - 1


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"segment-{number:08d}"


def segment_numbers(directory: Path) -> list[int]:
    """The segments that a directory holds, ascending."""
    found = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(match[1]) for match in found if match is not None)


class Segment:
    """A segment that is open. ``end`` is where the next block begins, ``blocks`` its number, ``room`` what fits."""

    __slots__ = ("_fd", "blocks", "end", "number", "path", "segment_bytes")

    def __init__(self, path: Path, number: int, end: int, blocks: int) -> None:
        """Open a segment whose blocks were read. Raises ``OSError``."""
        self.path = path
        self.number = number
        self.end = end
        self.blocks = blocks
        self._fd = os.open(path, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)
        self.segment_bytes = os.fstat(self._fd).st_size

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

    @property
    def room(self) -> int:
        """How many bytes of blocks fit before the seal."""
        return self.segment_bytes - self.end - SEAL_BYTES

    def append(self, block: Block) -> tuple[int, bytes]:
        """Write a block; it is durable on return. Where its body begins, and the body. Raises ``OSError``."""
        parts = block.encode(self.number, self.blocks)
        self._write(parts, self.end)
        begin = self.end + BLOCK_HEADER_BYTES
        self.end += block.block_bytes
        self.blocks += 1
        return begin, parts[1]

    def seal(self, following: int) -> None:
        """Say that nothing follows here, but in ``following``, which is there."""
        block = Block()
        block.add(ItemKind.SEAL, shard_item(following))
        self.append(block)

    def write_again(self, begin: int) -> None:
        """Write what was read from ``begin`` to the end of the last block, so that it is on the disk for certain."""
        self._write((self.read(begin, self.end - begin),), begin)
        os.fsync(self._fd)

    def clear(self, end: int) -> None:
        """Zeros, durable, from the end of the last block to ``end``: what a crash left of one that was torn."""
        self._write((bytes(end - self.end),), self.end)

    def _write(self, parts: tuple[bytes, ...], at: int) -> None:
        # The descriptor is O_DSYNC: what a write returns for is on the disk, and one call is cheaper than two.
        written = os.pwritev(self._fd, parts, at)
        if written < sum(map(len, parts)):
            # A disk that takes only a part, because it is full, mostly says so when the rest is written.
            rest = memoryview(b"".join(parts))
            while rest := rest[written:]:
                at += written
                written = os.pwrite(self._fd, rest, at)

    def read(self, offset: int, size: int) -> bytes:
        """What lies there; shorter at the end of the file. Raises ``OSError``."""
        return os.pread(self._fd, size, offset)

    def remove(self) -> None:
        """Close and delete it."""
        self.close()
        self.path.unlink()

    def close(self) -> None:
        os.close(self._fd)
