"""The Wilson interval."""

from __future__ import annotations

from math import isclose, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.sinks.timescale.wilson import Z_95, wilson_interval

COUNTS = st.integers(1, 10**7).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


@given(COUNTS)
def test_the_ends_are_where_the_rate_is_just_z_deviations_away(counts: tuple[int, int]) -> None:
    """Each end p that is not 0 or 1 solves |seen - p| = z * sqrt(p * (1 - p) / trials), Wilson's definition."""
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    seen = successes / trials
    assert 0 <= low <= seen <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert isclose(abs(seen - end), Z_95 * sqrt(end * (1 - end) / trials), rel_tol=1e-6, abs_tol=1e-9)


def test_the_interval_of_a_known_case() -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I: 81/263 and 0/20."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (2, 1), (-1, 1)])
def test_impossible_counts_have_no_interval(successes: int, trials: int) -> None:
    """They raise instead of giving a number."""
    with pytest.raises(ValueError, match="have no interval"):
        wilson_interval(successes, trials)
