"""The shares of a funnel of sessions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.query.funnel_groups import FunnelGroup, grouped
from funnelwatch.sinks.timescale.session_counts import Reached

STEPS = ("A", "B", "C")
numbers = st.integers(0, 50)
found = st.lists(
    st.builds(Reached, st.sampled_from([*STEPS, "old"]), st.builds(dict, os=st.sampled_from("xy")), numbers, numbers),
    unique_by=lambda one: (one.step, one.dimensions["os"]),
)


def shares(group: FunnelGroup) -> list[tuple[float | None, float | None, int | None]]:
    """Of the first step, of the step before, and how many dropped off."""
    return [(step.of_first, step.of_previous, step.dropped) for step in group.steps]


def test_each_step_is_a_share_of_the_first_and_of_the_one_before() -> None:
    """Of 100 sessions 80 go on and 20 of those; 15 complete the last step."""
    reached = [Reached("A", {}, 100, 90), Reached("B", {}, 80, 30), Reached("C", {}, 20, 15)]
    [group] = grouped(STEPS, reached, [Reached("A", {}, 10, 0), Reached("B", {}, 4, 0)], ())
    assert shares(group) == [(1.0, None, 20), (0.8, 0.8, 60), (0.2, 0.25, 5)]
    assert [step.open for step in group.steps] == [10, 4, 0]
    assert (group.entered, group.completed, group.rate, group.open) == (100, 15, 0.15, 10)


def test_a_step_that_nobody_reached_is_shown() -> None:
    """The share of a step behind it is none, not zero of zero."""
    [group] = grouped(STEPS, [Reached("A", {}, 5, 5)], [], ())
    assert shares(group) == [(1.0, None, 5), (0.0, 0.0, 0), (0.0, None, 0)]
    [nobody] = grouped(STEPS, [], [], ())
    assert shares(nobody) == [(None, None, 0), (None, None, 0), (None, None, 0)]
    assert (nobody.rate, nobody.interval) == (None, None)


def test_where_the_order_was_declared_anew_no_share_is_above_one() -> None:
    """Sessions that were counted in another order reached the second step without the first."""
    [group] = grouped(STEPS, [Reached("A", {}, 5, 5), Reached("B", {}, 8, 8), Reached("old", {}, 9, 9)], [], ())
    assert shares(group) == [(1.0, None, None), (None, None, 8), (0.0, 0.0, 0)]


def test_the_group_with_most_entries_comes_first() -> None:
    """And equal ones by their values."""
    reached = [Reached("A", {"os": name}, many, 0) for name, many in (("b", 5), ("a", 5), ("c", 9))]
    assert [group.dimensions["os"] for group in grouped(STEPS, reached, [], ("os",))] == ["c", "a", "b"]


@given(found, found)
def test_no_share_is_above_one_and_no_more_is_open_than_there_is(all_ones: list[Reached], young: list[Reached]) -> None:
    """Whatever the counts are."""
    for group in grouped(STEPS, all_ones, young, ("os",)):
        figures = [group.rate, *(share for step in group.steps for share in (step.of_first, step.of_previous))]
        assert all(0 <= share <= 1 for share in figures if share is not None)
        assert all(0 <= step.open <= step.reached for step in group.steps)
        assert all(step.dropped is None or 0 <= step.dropped <= step.reached for step in group.steps)
