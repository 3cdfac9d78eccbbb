"""The slots of durations: each value has one, they leave no gap, and they are as narrow as is said."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.schemas.histogram import BUCKETS, LARGEST, MIDDLES, SLOTS, bounds, buckets_of, slots_of
from tests.drills.ledger import durations_of
from tests.traffic import event, slot_of

durations = st.integers(0, 100) | st.integers(0, LARGEST) | st.integers(0, 30).map(lambda power: 2**power)


def place(value: int) -> int:
    """The slot of one value."""
    return int(slots_of(np.array([value]))[0])


@given(durations)
def test_a_value_is_in_its_slot_whose_middle_is_an_eighth_off_at_most(value: int) -> None:
    """Below 8 every value has a slot of its own."""
    slot = place(value)
    lower, upper = bounds(slot)
    assert 0 <= slot < SLOTS
    assert lower <= value < upper
    assert abs(int(MIDDLES[slot]) - value) * 8 <= value
    assert (upper - lower) * 4 <= lower or (lower, upper) == (value, value + 1)


def test_slots_follow_each_other_without_a_gap() -> None:
    """Where one ends the next one begins, from 0 to the largest value; what is larger is in the last."""
    borders = [bounds(slot) for slot in range(SLOTS)]
    assert borders[0][0] == 0
    assert all(upper == lower for (_, upper), (lower, _) in pairwise(borders))
    assert borders[-1][1] == LARGEST + 1
    assert slots_of(np.array([lower for lower, _ in borders])).tolist() == list(range(SLOTS))
    assert place(LARGEST + 1) == place(2**52) == SLOTS - 1


def test_a_bucket_of_prometheus_ends_at_each_power_of_two() -> None:
    """A value equal to a border, 127 ms, is below it, as Prometheus' "le" has it."""
    values = np.array([0, 127, 128, 255, 256, 2**21 - 1, 2**21, LARGEST])
    assert buckets_of(slots_of(values)).tolist() == [0, 0, 1, 1, 2, BUCKETS - 2, BUCKETS - 1, BUCKETS - 1]


@given(durations)
def test_the_ledger_and_the_tests_find_the_same_slot_in_other_ways(value: int) -> None:
    """Three ways to find it: by bits, by counting up, by looking it up; they share no code."""
    took = event(phase="POST_VERIFICATION", status="SUCCESS", duration_ms=value)
    [found] = durations_of(took, 60_000)
    assert found[-2:] == bounds(place(value))
    assert slot_of(value) == place(value)
