"""Opening and closing a router."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from shardraft.errors import InvalidArgument
from shardraft_router.core import RouterLimits
from shardraft_router.driver import Driver
from shardraft_router.endpoints import parse_endpoints
from shardraft_router.router import Router


def open_router(
    endpoints: str | Sequence[str],
    *,
    timeout_seconds: float = 10.0,
    in_flight_max: int = 4096,
    zone: str | None = None,
) -> AbstractAsyncContextManager[Router]:
    """Open a router: ``async with open_router("shardraft://h1:7001,h2:7001") as router``.

    ``endpoints``: any hosts or learners of the cluster, "HOST:PORT"; the others are learned from these. Nothing is
    connected here: connections are made in the background, and a call waits for them within its own
    timeout. ``timeout_seconds`` (above 0, at most 60): for calls that name none of their own.
    ``in_flight_max``: calls under way at a time; further ones wait for their turn. ``zone``: where
    this program runs; kept for choosing near learners, which do not tell their zone yet.

    Works under trio and under asyncio, in the task that opens it and any other of the same event loop. An
    error in the body leaves as itself, never inside an ExceptionGroup. Raises ``InvalidArgument`` for
    endpoints or limits that make no sense.
    """
    places = parse_endpoints(endpoints)
    limits = RouterLimits()
    if isinstance(in_flight_max, bool) or not isinstance(in_flight_max, int) or in_flight_max < 1:
        raise InvalidArgument(f"in_flight_max must be a whole number above 0, not {in_flight_max!r}")
    if not 0 < timeout_seconds <= limits.timeout_ms_max / 1000:
        raise InvalidArgument(f"timeout_seconds must be above 0 and at most {limits.timeout_ms_max / 1000:g}")
    if zone is not None and not isinstance(zone, str):
        raise TypeError(f"a zone must be a str, not {type(zone).__name__}")
    return _Opening(places, timeout_seconds, in_flight_max, limits)


class _Opening:
    """The context manager; a class, because a generator must not yield inside a task group or cancel scope."""

    def __init__(
        self, endpoints: Sequence[str], timeout_seconds: float, in_flight_max: int, limits: RouterLimits
    ) -> None:
        self._endpoints = endpoints
        self._timeout_seconds = timeout_seconds
        self._in_flight_max = in_flight_max
        self._limits = limits
        self._driver: Driver | None = None

    async def __aenter__(self) -> Router:
        if self._driver is not None:
            raise RuntimeError("this router was opened before; call open_router again for another")
        self._driver = Driver(
            self._endpoints,
            timeout_seconds=self._timeout_seconds,
            in_flight_max=self._in_flight_max,
            limits=self._limits,
            entropy=os.urandom(48),
        )
        self._driver.open()
        return Router(self._driver)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._driver is not None
        await self._driver.close()
        if error is None and self._driver.fault is not None:
            raise self._driver.fault
