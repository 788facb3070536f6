"""Where a cluster listens, as people write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shardraft.errors import InvalidArgument
from shardraft.types import Endpoint

SCHEME: Final = "shardraft://"


def parse_endpoints(given: str | Sequence[str]) -> tuple[str, ...]:
    """``"shardraft://h1:7001,h2:7001"``, ``"h1:7001,h2:7001"`` or a sequence of such, as "HOST:PORT" each.

    Raises ``InvalidArgument`` with what is wrong, TypeError for anything but text.
    """
    texts = [given] if isinstance(given, str) else list(given)
    parts: list[str] = []
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"an endpoint must be a str, not {type(text).__name__}")
        parts += [part.strip() for part in text.strip().removeprefix(SCHEME).rstrip("/").split(",")]
    named = [part for part in parts if part]
    if not named:
        raise InvalidArgument("no endpoint is given: name at least one host as HOST:PORT")
    return tuple(dict.fromkeys(str(parse_endpoint(part)) for part in named))


def parse_endpoint(text: str) -> Endpoint:
    """One "HOST:PORT", an IPv6 address in brackets. Raises ``InvalidArgument`` with what is wrong."""
    host, separator, port = text.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if in_brackets else host
    if not separator or not host or "/" in host or "@" in host or (":" in host and not in_brackets):
        raise InvalidArgument(f"{text} is not of the form HOST:PORT")
    if not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 1 << 16:
        raise InvalidArgument(f"{text} names no port from 1 to 65535")
    return Endpoint(host, int(port))
