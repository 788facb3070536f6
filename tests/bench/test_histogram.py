"""Latencies go into histograms, and come out as percentiles."""

from __future__ import annotations

from array import array

import pytest

from bench.harness.histogram import LATENCY_US_MAX, count_of, fold, fold_counts, merge, percentiles_ms


def test_percentiles_of_a_thousand_latencies_are_exact_to_three_digits() -> None:
    latencies = array("q", [1_000_000 * number for number in range(1, 1001)])  # 1 ms to 1 s
    assert percentiles_ms(fold(latencies), [50, 99, 99.9]) == pytest.approx((500, 990, 999), rel=1e-3)


def test_merging_is_as_if_all_had_been_one() -> None:
    low, high = array("q", [1_000_000] * 90), array("q", [50_000_000] * 10)
    merged = merge([fold(low), "", fold(high)])
    assert count_of(merged) == 100
    assert percentiles_ms(merged, [50, 90, 91]) == percentiles_ms(fold(low + high), [50, 90, 91])


def test_counted_milliseconds_are_the_same_as_single_ones() -> None:
    assert fold_counts([(1.0, 3), (2.0, 1)]) == fold(array("q", [1_000_000, 2_000_000, 1_000_000, 1_000_000]))


def test_what_is_too_fast_or_too_slow_counts_as_the_bound() -> None:
    encoded = fold(array("q", [1, 10**12]))
    assert percentiles_ms(encoded, [50, 100]) == pytest.approx((0.001, LATENCY_US_MAX / 1000), rel=1e-3)


def test_nothing_has_no_percentiles() -> None:
    assert percentiles_ms("", [50]) is None
    assert percentiles_ms(fold(array("q")), [50]) is None
    assert merge([]) == ""
    assert count_of("") == 0
