"""Looks at an environment before it is opened, because opening a damaged one can kill the process.

LMDB maps its file. Reading a page beyond the end of a truncated file is a SIGBUS, a page of zeros an
assertion of the library (SIGABRT), and a file of length zero opens as an *empty database*, which for a
voter is a second vote. So two steps come first:

1. ``inspect_data_file`` reads the two meta pages as a file (0.1 ms, nothing is mapped) and refuses what they
   rule out: no file, an empty one, garbage, another LMDB engine.
2. ``dry_run`` has a child process open and read the environment, and refuses what that dies of (PROTOCOL: "in
   a child process"). It takes about 50 ms and 0.5 us per record, so it is done only when the file is shorter than
   its meta page allows: LMDB writes no page that a transaction allocated last and freed again, so a short
   file may be whole, and only a walk can tell. A file that is not short cannot raise SIGBUS, and damage
   inside is noticed by the checksum of each record when it is read.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

from shardraft.errors import StorageError

DATA_NAME: Final = "data.mdb"
REPLACE_HOST: Final = (
    "do not start this host from it, since what it voted and acknowledged may be lost; "
    "start it under a new host id with an empty data directory"
)

# The meta page of LMDB 0.9: a page header of 16 bytes, then MDB_meta (lmdb.h, mdb.c).
_MAGIC_AND_VERSION: Final = struct.Struct("<II")
_PAGE_BYTES: Final = struct.Struct("<I")
_LAST_PAGE_AND_TRANSACTION: Final = struct.Struct("<QQ")
_MAGIC: Final = 0xBEEFC0DE
_DATA_VERSION: Final = 1
_PAGE_HEADER_BYTES: Final = 16
_PAGE_BYTES_AT: Final = 40
_LAST_PAGE_AT: Final = 136
_META_BYTES: Final = 152
_PAGE_BYTES_MIN: Final = 256
_PAGE_BYTES_MAX: Final = 32_768


def inspect_data_file(environment: Path) -> bool:
    """Check the file of an environment by its meta pages; True when it is as long as they say.

    False means that only a walk of its pages can tell whether it was truncated. Raises ``StorageError``.
    """
    path = environment / DATA_NAME
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(2 * _PAGE_BYTES_MAX)
    except FileNotFoundError as error:
        raise StorageError(f"{path} is missing: {REPLACE_HOST}") from error
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read ({error.strerror}): check the disk and the owner of the file"
        ) from error
    if size == 0:
        raise StorageError(f"{path} is empty (0 bytes), its contents were lost: {REPLACE_HOST}")
    page_bytes, last_page = _newest_meta(path, head)
    return size >= (last_page + 1) * page_bytes and size % page_bytes == 0


def _newest_meta(path: Path, head: bytes) -> tuple[int, int]:
    """The page size and the last page that the committed meta page names, as LMDB chooses it."""
    if len(head) < _META_BYTES:
        raise StorageError(f"{path} was truncated to {len(head)} bytes: {REPLACE_HOST}")
    page_bytes: int = _PAGE_BYTES.unpack_from(head, _PAGE_BYTES_AT)[0]
    for at in (0, page_bytes):
        if not _PAGE_BYTES_MIN <= page_bytes <= _PAGE_BYTES_MAX or page_bytes & (page_bytes - 1):
            raise StorageError(f"{path} begins with garbage, its first page was overwritten: {REPLACE_HOST}")
        if at + _META_BYTES > len(head):
            raise StorageError(f"{path} was truncated to {len(head)} bytes: {REPLACE_HOST}")
        magic, version = _MAGIC_AND_VERSION.unpack_from(head, at + _PAGE_HEADER_BYTES)
        if magic != _MAGIC:
            raise StorageError(f"{path} begins with garbage, a meta page was overwritten: {REPLACE_HOST}")
        if version != _DATA_VERSION:
            raise StorageError(
                f"{path} has LMDB data version {version}, this program understands {_DATA_VERSION} (LMDB 0.9): "
                "start the program that wrote it"
            )
    metas = [_LAST_PAGE_AND_TRANSACTION.unpack_from(head, at + _LAST_PAGE_AT) for at in (0, page_bytes)]
    last_page, _ = max(metas, key=lambda meta: meta[1])
    return page_bytes, last_page


def dry_run(environment: Path) -> None:
    """Have a child process read the whole environment. Raises ``StorageError`` when it cannot, or dies of it."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    finished = subprocess.run(
        [sys.executable, "-P", "-m", "shardraft.storage.verify", str(environment)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if finished.returncode == 0:
        return
    path = environment / DATA_NAME
    if finished.returncode == -signal.SIGBUS:
        raise StorageError(f"{path} was truncated, pages that it needs are beyond its end: {REPLACE_HOST}")
    if finished.returncode in (-signal.SIGABRT, -signal.SIGSEGV):
        raise StorageError(f"{path} is damaged, reading it kills a process: {REPLACE_HOST}")
    reason = (finished.stderr.strip() or finished.stdout.strip() or f"exit code {finished.returncode}").splitlines()[-1]
    raise StorageError(f"{path} is damaged ({reason[:200]}): {REPLACE_HOST}")
