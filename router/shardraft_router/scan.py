"""A scan in the hands of its consumer."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from shardraft.kv.requests import Consistency
from shardraft_router.core import Call
from shardraft_router.core import Scan as Cursor

if TYPE_CHECKING:
    from shardraft_router.driver import Driver


class Scan:
    """Keys and values as ``(key, value)``, page by page: ``async for key, value in router.scan(...)``.

    Each page is linearizable on its shard (or stale, if asked for); the whole is no snapshot. A key present
    throughout appears exactly once. The timeout holds for each page, not for the whole. After an error or
    ``aclose`` it yields nothing more. Leaving a loop early needs no ``aclose``, but ``async with`` frees
    what was read ahead at once. Entries of a page already read are yielded without a checkpoint.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        prefix: bytes,
        start: bytes | None,
        end: bytes | None,
        limit: int | None,
        ordered: bool,
        consistency: Consistency,
        timeout_seconds: float | None,
    ) -> None:
        self._driver = driver
        self._prefix = prefix
        self._start = start
        self._end = end
        self._limit = limit
        self._ordered = ordered
        self._consistency = consistency
        self._timeout_seconds = timeout_seconds
        self._cursor: Cursor | None = None
        self._entries: Iterator[tuple[bytes, bytes]] = iter(())
        self._closed = False
        self._is_reading = False

    def __aiter__(self) -> Scan:
        return self

    async def __anext__(self) -> tuple[bytes, bytes]:
        for entry in self._entries:
            return entry
        if self._is_reading:
            raise RuntimeError("another task is already waiting for this scan's next entry")
        self._is_reading = True
        try:
            while not self._closed and not await self._next_page():
                pass
        except BaseException:
            self._close()
            raise
        finally:
            self._is_reading = False
        for entry in self._entries:
            return entry
        raise StopAsyncIteration

    async def _next_page(self) -> bool:
        """Whether there are entries; False also when the scan has just ended."""
        driver = self._driver
        timeout_seconds = self._timeout_seconds
        deadline_us = driver.desk.begin(timeout_seconds) or await driver.take_turn(timeout_seconds)
        if self._cursor is None:
            self._cursor = await self._plan(deadline_us)
        while (call := self._cursor.step(deadline_us)) is not None:
            await driver.wait(call)
        driver.desk.flush_soon()  # The next pages were asked for already.
        entries = self._cursor.take()
        self._entries = iter(entries)
        self._closed = self._cursor.finished and not entries
        return bool(entries)

    async def _plan(self, deadline_us: int) -> Cursor:
        core = self._driver.core
        if core.shard_map is None:
            known: Call = core.await_map(deadline_us)
            await self._driver.wait(known)
            if known.error is not None:
                raise known.error
        return core.scan(
            prefix=self._prefix,
            start=self._start,
            end=self._end,
            limit=self._limit,
            ordered=self._ordered,
            consistency=self._consistency,
        )

    def _close(self) -> None:
        self._closed = True
        self._entries = iter(())
        if self._cursor is not None:
            self._cursor.close()

    async def aclose(self) -> None:
        """End the scan; what was read ahead is dropped. It may be called more than once."""
        self._close()

    async def __aenter__(self) -> Scan:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
