"""Latencies as hdrhistograms of microseconds: exact to three digits, merged by adding."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

LATENCY_US_MAX = 60_000_000
"""Anything slower counts as this slow."""
_SIGNIFICANT_DIGITS = 3


def fold(latencies_ns: array[int]) -> str:
    """Put measured nanoseconds into a histogram, and that into text. An operation takes one microsecond at least."""
    histogram = _empty()
    counts = Counter(min(max(1, nanoseconds // 1000), LATENCY_US_MAX) for nanoseconds in latencies_ns)
    for microseconds, count in counts.items():
        histogram.record_value(microseconds, count)
    return _text(histogram)


def fold_counts(counts: Iterable[tuple[float, int]]) -> str:
    """The same from (milliseconds, how many) pairs, as other programs report them."""
    histogram = _empty()
    for milliseconds, count in counts:
        histogram.record_value(min(max(1, round(1000 * milliseconds)), LATENCY_US_MAX), count)
    return _text(histogram)


def merge(encoded: Iterable[str]) -> str:
    """One histogram that holds what all of them hold; empty text holds nothing."""
    total = _empty()
    for text in encoded:
        if text:
            total.add(HdrHistogram.decode(text.encode()))
    return _text(total) if total.get_total_count() else ""


def percentiles_ms(encoded: str, wanted: Iterable[float]) -> tuple[float, ...] | None:
    """The value in milliseconds below which each of the ``wanted`` percentages lies; None for an empty histogram."""
    if not encoded:
        return None
    histogram = HdrHistogram.decode(encoded.encode())
    if not histogram.get_total_count():
        return None
    return tuple(histogram.get_value_at_percentile(percentage) / 1000 for percentage in wanted)


def count_of(encoded: str) -> int:
    """How many latencies a histogram holds."""
    return int(HdrHistogram.decode(encoded.encode()).get_total_count()) if encoded else 0


def _empty() -> HdrHistogram:
    return HdrHistogram(1, LATENCY_US_MAX, _SIGNIFICANT_DIGITS)


def _text(histogram: HdrHistogram) -> str:
    encoded: bytes = histogram.encode()
    return encoded.decode()
