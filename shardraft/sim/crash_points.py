"""Where in its work a process may be made to crash: between any two steps of a turn, and of what its disk does."""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs


class Point(Enum):
    """A moment right after which a process may be gone; its value is that moment in words.

    A crash at any other moment differs from one of these in nothing that anybody could see.
    """

    STEPPED = "an event was taken in"
    PROMISED = "a message that rested on a commit left"
    SENT = "a message of a turn left"
    SUBMITTED = "a log batch was submitted"
    ANSWERED = "an answer left"
    ASKED = "the state's disk was asked for something"
    DURABLE = "a log commit became durable"
    FLUSHED = "a write of the state became durable"
    SPOOLED = "a copy was made"
    STAGED = "a part of a copy was kept"
    INSTALLED = "a copy became the state, or a replica was removed from it, and the log was as before"
    RESET = "the log was reset behind a copy, or removed"

    @property
    def crash(self) -> str:
        """What a crash there is called in a report."""
        return f"crash when {self.value}"


OF_A_COPY: Final = (Point.SPOOLED, Point.STAGED, Point.INSTALLED, Point.RESET)
"""Points that a process comes to only where a copy is sent or received, which is rare."""


@attrs.define(slots=True)
class CrashPoint:
    """A process is to crash when it reaches ``point`` for the ``times``-th time, and is down for ``down_us`` then."""

    point: Point
    times: int
    down_us: int
