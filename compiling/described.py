"""What attrs would know of a value that is compiled; copied into a compiled tree as ``shardraft._described``.

``attrs.fields``, ``attrs.evolve``, ``attrs.asdict`` and ``attrs.has`` work on such a value as on any other.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import attrs

Member: TypeAlias = "tuple[str, Any, Any, bool, bool]"
"""A field's name, its annotation as text, its default, whether ``__init__`` takes it, and whether by name only."""

MADE: Final[Any] = object()
"""The default of a field that is made anew for each value; ``__init__`` then takes ``None`` for it."""


def describe(kind: Any, members: list[Member]) -> None:
    """Tell attrs the fields of a native class."""
    fields = {
        name: attrs.field(default=None if default is MADE else default, init=init, kw_only=kw_only, type=annotation)
        for name, annotation, default, init, kw_only in members
    }
    described: Any = attrs.make_class(kind.__name__, fields)
    kind.__attrs_attrs__ = described.__attrs_attrs__
