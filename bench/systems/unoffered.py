"""The calls that a client does not have: the plan never asks for them, and a bug that does so fails loudly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn


def _refuse(what: str) -> NoReturn:
    raise NotImplementedError(f"this system offers no {what}")


class NothingOffered:
    """Base of clients that offer only some calls."""

    async def put(self, key: bytes, value: bytes) -> None:
        _refuse("put")

    async def put_despite_failures(self, key: bytes, value: bytes) -> None:
        _refuse("put that survives failures")

    async def put_batch(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        _refuse("batch")

    async def put_atomic(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        _refuse("atomic batch")

    async def get(self, key: bytes) -> bytes | None:
        _refuse("linearizable get")

    async def stale_get(self, key: bytes) -> bytes | None:
        _refuse("stale get")

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        _refuse("get of many keys")

    async def scan(self, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        _refuse("scan")

    async def scan_all(self) -> list[tuple[bytes, bytes]]:
        _refuse("scan")

    async def close(self) -> None:
        return
