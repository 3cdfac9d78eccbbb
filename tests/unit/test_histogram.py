"""The buckets of durations: each value has one, they leave no gap, and they are as narrow as is said."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.schemas.histogram import SLOTS, bounds, buckets
from tests.drills.ledger import durations_of
from tests.traffic import bucket, event

LONGEST = 3650 * 86_400_000
durations = st.integers(0, 100) | st.integers(0, LONGEST) | st.integers(0, 38).map(lambda power: 2**power)


def place(value: int) -> tuple[int, int]:
    """Octave and slot of one value."""
    octaves, slots = buckets(np.array([value]))
    return int(octaves[0]), int(slots[0])


@given(durations)
def test_a_value_is_in_its_bucket_which_is_an_eighth_wide_at_most(value: int) -> None:
    """Below 16 every value has a bucket of its own."""
    octave, slot = place(value)
    lower, upper = bounds(octave, slot)
    assert 0 <= slot < SLOTS
    assert lower <= value < upper
    assert (upper - lower) * 8 <= lower or (lower, upper) == (value, value + 1)


def test_buckets_follow_each_other_without_a_gap() -> None:
    """Where one ends the next one begins, from 0 to beyond the longest duration that an event may have."""
    places = [(octave, slot) for octave in range(38) for slot in range(SLOTS)]
    borders = [bounds(*place) for place in places]
    assert borders[0][0] == 0
    assert all(upper == lower for (_, upper), (lower, _) in pairwise(borders))
    assert borders[-1][1] > LONGEST
    octaves, slots = buckets(np.array([lower for lower, _ in borders]))
    assert list(zip(octaves.tolist(), slots.tolist(), strict=True)) == places


@given(durations)
def test_the_ledger_and_the_tests_find_the_same_bucket_in_other_ways(value: int) -> None:
    """Three ways to find it: by bits, by counting up, by looking it up; they share no code."""
    took = event(phase="POST_VERIFICATION", status="SUCCESS", duration_ms=value)
    [found] = durations_of(took, 60_000)
    assert found[-2:] == bounds(*place(value))
    assert bucket(value) == place(value)
