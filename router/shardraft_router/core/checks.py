"""What is refused before anything is sent: arguments that no host would accept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from shardraft.errors import InvalidArgument, TooLarge
from shardraft_router.core.limits import RouterLimits

Given: TypeAlias = Any
"""A key or value as a caller gave it, to be checked here. A compiled function that is declared to take bytes refuses
anything else by itself, and its words say nothing that helps.
"""


def check_key(key: object, limits: RouterLimits) -> None:
    """Raise TypeError unless ``key`` is bytes, InvalidArgument unless it is of 1 to ``key_bytes_max`` bytes."""
    if not isinstance(key, bytes):
        raise not_bytes("key", key)
    if not key:
        raise InvalidArgument("a key must not be empty")
    if len(key) > limits.key_bytes_max:
        raise InvalidArgument(f"a key of {len(key)} bytes is above the limit of {limits.key_bytes_max}")


def check_value(value: object, limits: RouterLimits) -> None:
    """Raise TypeError unless ``value`` is bytes, TooLarge when it is above ``value_bytes_max``."""
    if not isinstance(value, bytes):
        raise not_bytes("value", value)
    if len(value) > limits.value_bytes_max:
        raise TooLarge(f"a value of {len(value)} bytes is above the limit of {limits.value_bytes_max}")


def check_puts(keys: Sequence[Given], values: Sequence[Given], limits: RouterLimits) -> None:
    """As ``check_key`` and ``check_value`` for each key and its value; InvalidArgument when there is none."""
    if not keys:
        raise InvalidArgument("there is nothing to put")
    for key, value in zip(keys, values, strict=True):
        check_key(key, limits)
        check_value(value, limits)


def not_bytes(what: str, given: object) -> TypeError:
    """A TypeError that says what to write instead."""
    if isinstance(given, str):
        return TypeError(f'a {what} must be bytes, not str: write b"...", or encode it with {what}.encode()')
    return TypeError(f"a {what} must be bytes, not {type(given).__name__}")


def check_scan(prefix: object, start: object, end: object, limit: object) -> None:
    """Raise TypeError unless the bounds are bytes (or absent) and ``limit`` is an int; InvalidArgument below 0."""
    for what, bound in (("prefix", prefix), ("start", start), ("end", end)):
        if not isinstance(bound, bytes) and (bound is not None or what == "prefix"):
            raise not_bytes(what, bound)
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"a limit must be an int, not {type(limit).__name__}")
    if limit < 0:
        raise InvalidArgument(f"a limit of {limit} is below 0")
