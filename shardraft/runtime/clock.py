"""The host's own monotonic time: CLOCK_BOOTTIME, which also runs while a machine is suspended."""

from __future__ import annotations

import time


def now_us() -> int:
    """Microseconds since boot; comparable within one machine's boot only, and never sent to another."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
