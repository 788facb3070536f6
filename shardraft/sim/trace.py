"""The trace: one hash over everything that happened, in order, and optionally the same for a person.

Two runs with equal hashes took the same steps. Records are tuples of numbers and bytes only, so
their encoding depends on nothing but their values; whole entries stand in it by their checksums,
which cover every byte of them.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

import attrs

from shardraft.errors import ShardraftError
from shardraft.raft.entry import Entry
from shardraft.sim.narration import tell

_RECORDS_PER_UPDATE: Final = 512
_MARSHAL_VERSION: Final = 2
"""Later versions share equal objects by identity, and the bytes would depend on how values came to be."""

Listener = Callable[[str], None]


class Trace:
    """Takes records and hashes them. ``listener``, if given, hears a line for each."""

    def __init__(self, listener: Listener | None = None) -> None:
        self.is_heard = listener is not None
        """Whether anybody listens to the lines."""
        self._listener = listener
        self._hash = blake2b(digest_size=16)
        self._hashed = 0
        self._waiting: list[tuple[Any, ...]] = []

    @property
    def records(self) -> int:
        """How many there were so far."""
        return self._hashed + len(self._waiting)

    def event(self, now_us: int, node: int, event: object) -> None:
        """A process, or a client, took this in."""
        self._add((now_us, node, _FLATTENERS[type(event)](event)))
        if self._listener is not None:
            for line in tell(node, event):
                self.say(now_us, line)

    def note(self, now_us: int, text: str) -> None:
        """Something happened to the world: a fault, a decision, a role that changed."""
        self._add((now_us, text.encode()))
        self.say(now_us, text)

    def say(self, now_us: int, line: str) -> None:
        """A line for the listener alone."""
        if self._listener is not None:
            self._listener(f"{now_us / 1e6:10.6f} {line}")

    def _add(self, record: tuple[Any, ...]) -> None:
        self._waiting.append(record)
        if len(self._waiting) >= _RECORDS_PER_UPDATE:
            self._flush()

    def _flush(self) -> None:
        self._hash.update(marshal.dumps(self._waiting, _MARSHAL_VERSION))
        self._hashed += len(self._waiting)
        self._waiting.clear()

    def digest(self) -> str:
        """The hash of everything so far, as 32 hexadecimal digits."""
        self._flush()
        return self._hash.hexdigest()


def flatten(value: object) -> Any:
    """``value`` as nested tuples of numbers and bytes; equal values give equal results."""
    return _FLATTENERS[type(value)](value)


class _Flatteners(dict[type, Callable[[Any], Any]]):
    """How values of each class are flattened; found out once for each."""

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        flattener = self[kind] = _flattener_of(kind)
        return flattener


def _flattener_of(kind: type) -> Callable[[Any], Any]:
    if attrs.has(kind):
        return _compiled(kind)
    if issubclass(kind, ShardraftError):
        return lambda error: (error.code.value, error.applied.encode())
    if issubclass(kind, int):
        return int
    raise TypeError(f"a record cannot hold {kind.__name__}")


def _compiled(kind: type) -> Callable[[Any], Any]:
    """A function that names every field of the class: no other way to go through them is as quick."""
    names = [field.name for field in attrs.fields(kind) if not field.name.startswith("_")]
    parts = [f"each if type(each := value.{name}) is int else known[type(each)](each), " for name in names]
    source = f"lambda value: ({zlib.crc32(kind.__name__.encode())}, {''.join(parts)})"
    flattener: Callable[[Any], Any] = eval(source, {"known": _FLATTENERS})
    return flattener


def _flatten_sequence(values: Any) -> tuple[Any, ...]:
    known = _FLATTENERS
    if len(values) < 2:
        return (known[type(values[0])](values[0]),) if values else ()
    return tuple([each if type(each) is int else known[type(each)](each) for each in values])


_FLATTENERS: Final = _Flatteners(
    {
        int: int,
        bool: int,
        bytes: lambda value: value if len(value) <= 64 else zlib.crc32(value),
        str: lambda value: value.encode(),
        type(None): lambda _: None,
        tuple: _flatten_sequence,
        list: _flatten_sequence,
        Entry: lambda entry: entry.checksum,
    }
)
