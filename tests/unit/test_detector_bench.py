"""The benchmark of the detector measures something that works."""

from __future__ import annotations

import pytest

from tests.bench.detector import measure


def test_the_benchmark_judges_what_it_says_it_judges() -> None:
    """In its short form: counts are kept, the rate is the one drawn, an even funnel raises nothing."""
    cost = measure(20, days=8, windows=3)

    assert (cost.columns, cost.windows, cost.transitions) == (20, 3, 0)
    assert cost.rate == pytest.approx(0.8, abs=0.01)
    # Eight days and the judged one of two channels at 4 bytes, for 20 columns and the spare ones.
    assert cost.counts_mb >= 20 * 2 * 4 * 9 * 1440 / 1e6
