"""Kinds of faults by their names, as the trace, the report and ``--kinds`` call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from shardraft.errors import InvalidArgument

Fault: TypeAlias = Callable[[], bool | None]
"""Breaks something; False when there was nothing to break."""


def name_of(fault: Fault) -> str:
    """A kind of fault as the trace and the report call it."""
    return fault.__name__.strip("_").replace("_", " ")


def named(kinds: Sequence[Fault], names: Sequence[str]) -> list[Fault]:
    """Those of ``kinds`` that ``names`` names, in the order of the kinds.

    Raises ``InvalidArgument`` for a name that is none of them.
    """
    by_name = {name_of(kind): kind for kind in kinds}
    for name in names:
        if name not in by_name:
            raise InvalidArgument(
                f'this world has no faults of the kind "{name}"; its kinds are {", ".join(sorted(by_name))}'
            )
    return [kind for name, kind in by_name.items() if name in names]
