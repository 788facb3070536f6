"""A test that waits for what never comes fails instead of hanging."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import trio

TEST_SECONDS_MAX = 120.0


def _with_deadline(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    @wraps(test)
    async def limited(**fixtures: object) -> None:
        with trio.fail_after(TEST_SECONDS_MAX):
            await test(**fixtures)

    return limited


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if isinstance(item, pytest.Function) and here in item.path.parents and inspect.iscoroutinefunction(item.obj):
            item.obj = _with_deadline(item.obj)
