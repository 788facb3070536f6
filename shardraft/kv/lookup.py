"""Several keys looked up at once, as far as their values fit an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shardraft.kv.commands import Stored


def look_up(keys: Sequence[bytes], find: Callable[[bytes], Stored | None], bytes_max: int) -> list[Stored | None]:
    """What ``find`` says of the first of ``keys``, up to the one whose value passes ``bytes_max`` bytes in all."""
    found: list[Stored | None] = []
    for key in keys:
        stored = find(key)
        found.append(stored)
        if stored is not None:
            bytes_max -= len(stored.value)
            if bytes_max < 0:
                break
    return found
