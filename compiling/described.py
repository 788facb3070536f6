"""What attrs would know of a value that is compiled; copied into a compiled tree as ``shardraft._described``.

``attrs.fields``, ``attrs.evolve``, ``attrs.asdict`` and ``attrs.has`` work on such a value as on any other, and so do
``copy``, ``pickle`` and ``match``.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import attrs

Member: TypeAlias = "tuple[str, Any, Any, bool, bool]"
"""A field's name, its annotation as text, its default, whether ``__init__`` takes it, and whether by name only."""

MADE: Final[Any] = object()
"""The default of a field that is made anew for each value; ``__init__`` then takes ``None`` for it."""


def describe(kind: Any, members: list[Member]) -> None:
    """Tell attrs the fields of a native class, and everybody how to make its values again."""
    fields = {
        name: attrs.field(default=None if default is MADE else default, init=init, kw_only=kw_only, type=annotation)
        for name, annotation, default, init, kw_only in members
    }
    described: Any = attrs.make_class(kind.__name__, fields)
    kind.__attrs_attrs__ = described.__attrs_attrs__
    kind.__match_args__ = described.__match_args__  # type: ignore[misc]
    kind.__reduce__ = _reduce


def make(kind: Any, arguments: dict[str, Any]) -> Any:
    """A value from what its ``__init__`` takes: native classes make none without it."""
    return kind(**arguments)


def _reduce(value: Any) -> tuple[Any, ...]:
    arguments, others = {}, {}
    for field in type(value).__attrs_attrs__:
        if field.init:
            arguments[field.name.lstrip("_")] = getattr(value, field.name)
        else:
            others[field.name] = getattr(value, field.name)
    made = make, (type(value), arguments)
    return (*made, (None, others)) if others else made
