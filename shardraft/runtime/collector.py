"""The garbage collector of a process that makes few cycles."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (50_000, 20, 100)
"""Young objects of a turn die by reference count; full passes would stop everything for nothing."""


def spare_the_collector() -> None:
    """What lives as long as the process is looked at no more, and the rest more seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
