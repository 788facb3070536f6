"""What a simulation raises when a promise was broken."""

from __future__ import annotations

from typing import Final

TRAIL_LINES: Final = 40
"""How many of the last things that happened a failure tells."""


class SimulationFailure(AssertionError):
    """A promise was broken, or a program crashed, in a simulated world.

    ``reason`` is the broken promise in a sentence, ``time_us`` the virtual time, ``replay`` the
    command that runs the same world again ("" while the world is not known), ``trail`` the last
    things that happened.
    """

    def __init__(self, reason: str, *, time_us: int = 0, replay: str = "", trail: tuple[str, ...] = ()) -> None:
        lines = [f"at {time_us / 1e6:.6f} s: {reason}" if time_us else reason]
        if replay:
            lines.append(f"replay with: {replay}")
        lines.extend(trail)
        super().__init__("\n".join(lines))
        self.reason = reason
        self.time_us = time_us
        self.replay = replay
        self.trail = trail
