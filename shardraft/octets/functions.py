"""The functions of this room: those in C where they were compiled, else those in Python. Both pass the same tests."""

from __future__ import annotations

try:
    from shardraft.octets.messages import pack_items, take_columns, unpack_items
    from shardraft.octets.records import are_within, crc32, open_record, put_records
except ModuleNotFoundError:  # A source tree has none; those that are there and cannot be loaded are an error.
    from shardraft.octets.plain import (
        are_within,
        crc32,
        open_record,
        pack_items,
        put_records,
        take_columns,
        unpack_items,
    )

__all__ = ["are_within", "crc32", "open_record", "pack_items", "put_records", "take_columns", "unpack_items"]
