"""The host's own monotonic time: CLOCK_BOOTTIME, which also runs while a machine is suspended."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = time.CLOCK_BOOTTIME


def now_us() -> int:
    """Microseconds since boot; comparable within one machine's boot only, and never sent to another."""
    return time.clock_gettime_ns(_CLOCK) // 1000
