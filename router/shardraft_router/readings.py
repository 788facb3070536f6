"""What a read gives its caller. Compiled, since one is made for each read."""

from __future__ import annotations

from typing import Final

import attrs

from shardraft_router.core.calls import ReadCall
from shardraft_router.desk import now_us

_RHO_PPM: Final = 1_000
"""Clocks run at rates this near to each other (PROTOCOL, "Defaults")."""


@attrs.frozen(slots=True)
class Reading:
    """A read's answer and where it came from.

    ``value`` and ``revision`` are None when the key is absent. ``applied_index`` is how far the replica
    had applied its shard's log. ``age_seconds`` is an upper bound of the answer's age that holds when the
    call returns, None when the replica could not prove one. ``served_by`` is the replica's "HOST:PORT",
    ``tier`` its place in the read tree (0: a voter).
    """

    value: bytes | None
    revision: int | None
    applied_index: int
    age_seconds: float | None
    served_by: str
    tier: int


def reading_of(call: ReadCall) -> Reading:
    """The answer of a call that read one key and is done without error."""
    age_seconds: float | None = None
    if call.age_us is not None:
        # The clock that measured the last hop may run slower than it should.
        waited_us = (now_us() - call.completed_us) / (1 - _RHO_PPM / 1e6)
        age_seconds = (call.age_us + waited_us) / 1e6
    value = call.values[0]
    revision = None if value is None else call.revisions[0]
    return Reading(value, revision, call.applied_index, age_seconds, call.served_by, call.tier)
