"""Reads everything in an environment once, so that a file which kills its reader kills this process only.

``python -m shardraft.storage.verify ENVIRONMENT`` is what a start has a child process do before it opens
an environment itself (``inspection.dry_run``), and what an operator may run on the ``state`` of a stopped host.
Exit code 0: every record could be read; their checksums are the readers' business. It imports next to
nothing, because a start waits for it.
"""

from __future__ import annotations

import sys

import lmdb

DATABASES_MAX = 64
"""LMDB names no more than it was told that there may be, and says nothing of the others."""


def read_environment(path: str) -> int:
    """Touch every page of every record of an environment; how many records there are.

    Nothing is written, not even a lock file: whoever asks makes sure that nobody else writes meanwhile.
    """
    records = 0
    with lmdb.open(path, readonly=True, lock=False, create=False, max_dbs=DATABASES_MAX, lib_version=0) as environment:
        for name in environment.dbs():
            database = environment.open_db(name, create=False)
            with environment.begin(database, buffers=True) as transaction:
                for _, value in transaction.cursor():
                    records += 1
                    if value:
                        # A record may lie on several pages, of which LMDB itself touches only the first.
                        bytes(value[::4096])
                        value[-1]
    return records


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m shardraft.storage.verify ENVIRONMENT", file=sys.stderr)
        return 2
    try:
        read_environment(arguments[0])
    except lmdb.Error as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
