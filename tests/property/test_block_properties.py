"""Evaluating many windows at once gives the result of evaluating them one by one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelwatch.alert_rules.loader import parse_rules
from funnelwatch.alert_rules.model import Rules
from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.stream.detector.detector import Detector

if TYPE_CHECKING:
    from funnelwatch.stream.detector.state import Transition

WINDOW = 1_800_000
BEGIN = 1_700_438_400_000
RULES = """
groups:
- name: g
  rules:
  - {alert: Drop, by: [[], [os]], keep_firing_for: 1h, maturity: 1h}
  - {alert: Cohort, basis: cohort, maturity: 1h, by: [os], for: 30m, baseline: recent, score: 3}
  - {alert: Session, basis: session, maturity: 1h, by: [os], for: 30m, baseline: recent, score: 3}
  - {alert: Low, kind: threshold, below: 0.6, over: 1h, step: A}
"""
SERIES = [Series.of("f", step, os=os) for step in "AB" for os in ("x", "y", "z")]


@dataclass
class Story:
    """Counts drawn from a seed, with an incident, series that come late, windows left out and windows revised."""

    seed: int
    weeks: float
    per_window: int
    incident: tuple[int, int, float]
    """Begin (windows before the end), length, share of successes lost."""
    late: int
    left_out: list[int]
    revised: list[tuple[int, int]]
    """(window that is revised, window after which that comes), both in windows before the end."""

    def tallies(self) -> np.ndarray:
        """Shape (windows, series, fields)."""
        rng = np.random.default_rng(self.seed)
        rows = int(self.weeks * 336)
        shown = rng.poisson(self.per_window, (rows, len(SERIES)))
        shown[: self.late % rows, 2] = 0
        rate = np.full(shown.shape, 0.8)
        begin, length, loss = self.incident
        rate[max(0, rows - begin) : max(0, rows - begin) + length, :2] *= 1 - loss
        made = rng.binomial(shown, rate)
        # Every third page load is a reload.
        saw = shown - shown // 3
        passed = np.minimum(made, saw)
        return np.stack([shown, made, shown - made, made, shown - made, saw, passed], axis=2)


def incidents() -> st.SearchStrategy[Story]:
    """Stories of one to three weeks in windows of half an hour."""
    back = st.integers(1, 120)
    return st.builds(
        Story,
        seed=st.integers(0, 10_000),
        weeks=st.floats(0.6, 3.2),
        per_window=st.sampled_from([5, 60, 400]),
        incident=st.tuples(st.integers(10, 150), st.integers(1, 60), st.floats(0.1, 0.9)),
        late=st.integers(0, 500),
        left_out=st.lists(back, max_size=4),
        revised=st.lists(st.tuples(back, back), max_size=3),
    )


def fresh() -> Detector:
    """A detector that has seen nothing."""
    return Detector("f", Rules(tuple(parse_rules(RULES))), WINDOW)


def window(start: int, tally: np.ndarray, revision: int = 0) -> ClosedWindow:
    """The closed window with these counts; without the series that count nothing."""
    series = {one: CountRow(*map(int, values)) for one, values in zip(SERIES, tally, strict=True) if values.any()}
    return ClosedWindow("f", start, start + WINDOW, revision, series)


@given(story=incidents(), cuts=st.lists(st.integers(1, 90), min_size=1, max_size=6))
@settings(max_examples=6, deadline=None)
def test_windows_one_by_one_and_in_blocks_of_any_size_say_the_same(story: Story, cuts: list[int]) -> None:
    """The same transitions, messages and reasons, to the last bit."""
    tallies = story.tallies()
    rows = len(tallies)
    skipped = {rows - back for back in story.left_out}
    revisions: dict[int, list[int]] = {}
    for number, (what, when) in enumerate(story.revised, 1):
        if what >= when and rows - what not in skipped:
            revisions.setdefault(rows - when, []).append(number)
    one, many = fresh(), fresh()
    singly: list[Transition] = []
    together: list[Transition] = []

    def revise(after: int) -> None:
        for number in revisions.get(after, ()):
            row = rows - story.revised[number - 1][0]
            changed = window(BEGIN + row * WINDOW, tallies[row] // 2, number)
            singly.extend(one.observe(changed))
            together.extend(many.observe(changed))

    ends = {*revisions, *(row - 1 for row in skipped), *skipped, rows - 1}
    row, turn = 0, 0
    while row < rows:
        end = min([row + cuts[turn % len(cuts)], *(last + 1 for last in ends if last >= row)])
        turn += 1
        if row not in skipped:
            for at in range(row, end):
                singly += one.observe(window(BEGIN + at * WINDOW, tallies[at]))
            together += many.observe_block(Block.dense(BEGIN + row * WINDOW, SERIES, tallies[row:end]))
            revise(end - 1)
        row = end

    assert together == singly
    assert many.reasons == one.reasons
    assert many.counts.rows == one.counts.rows
    # A correction changes a state that may be of long ago.
    assert revisions or all(
        begin.state.last_window <= end.state.last_window + 2 * WINDOW for begin, end in pairwise(together)
    )


def test_the_stories_have_alerts_that_begin_and_end() -> None:
    """The property above is about something: each kind of rule has fired and resolved."""
    story = Story(3, 2.5, 400, (100, 30, 0.5), 0, [], [])
    moves = fresh().observe_block(Block.dense(BEGIN, SERIES, story.tallies()))

    said = {(move.alert["rule"], move.alert["state"]) for move in moves if move.alert}
    assert said == {(rule, state) for rule in ("Drop", "Cohort", "Session", "Low") for state in ("firing", "resolved")}
