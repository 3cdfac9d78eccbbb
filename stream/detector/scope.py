"""The scope of an incident: levels of a rule that show the same drop are inhibited; a loss is traced to a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.stream.detector.baseline import baseline
from funnelwatch.stream.detector.counts import SHOWN
from funnelwatch.stream.detector.scan import LONGEST, due

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.stream.detector.counts import Column
    from funnelwatch.stream.detector.drill import Drill
    from funnelwatch.stream.detector.panel import Panel

EXPLAINS = 0.75
"""A narrower series that has lost this share of what the wider one lost explains it."""
FIRING_EXPLAIN = 0.5
"""Narrower series that fire already explain it when they have lost this share together."""
MIN_SHARE = 0.5
MIN_LIFT = 1.3
"""A value explains a loss when its share of it is this many times its share of what was expected."""
NEAR = 0.05
"""Where values explain a loss about equally well, the value of the earlier dimension is named."""


@dataclass(frozen=True, slots=True)
class Where:
    """The value that explains most of a loss; empty when none does."""

    dimension: str = ""
    value: str = ""
    share: float = 0.0


def within(wide: Column, narrow: Column) -> bool:
    """Whether all that ``narrow`` counts is also counted by ``wide``, which is another series."""
    if wide.step != narrow.step or len(wide.level) >= len(narrow.level):
        return False
    values = narrow.dimensions
    return all(values.get(name) == value for name, value in wide.dimensions.items())


def inhibited(fresh: Mapping[Column, float], active: Mapping[Column, float]) -> dict[Column, Column]:
    """The series that would begin to fire and that another series of the same drop inhibits, each with that series.

    Narrower series inhibit a wider one when they have lost most of what it lost: one of them where both are new,
    all of them together where they already fire. Else the wider one inhibits the narrower ones.

    Args:
        fresh: series that would begin to fire now, with what they have lost over the span that is evaluated.
        active: series that fire already, with what they have lost over the windows last evaluated.
    """
    holders: dict[Column, Column] = {}
    for column in sorted(fresh, key=lambda one: len(one.level)):
        wider = [other for other in (*active, *fresh) if within(other, column) and other not in holders]
        if wider:
            holders[column] = wider[0]
            continue
        lost = max(fresh[column], 1e-12)
        firing = {other: loss for other, loss in active.items() if within(column, other)}
        new = {other: loss for other, loss in fresh.items() if within(column, other)}
        if firing and sum(firing.values()) >= FIRING_EXPLAIN * lost:
            holders[column] = max(firing, key=firing.__getitem__)
        elif new and max(new.values()) >= EXPLAINS * lost:
            holders[column] = max(new, key=new.__getitem__)
    return holders


def trace(column: Column, row: int, windows: int, panel: Panel, drill: Drill) -> Where:
    """The value of a dimension whose own drop explains most of what ``column`` has lost in the last windows.

    Those are the windows up to the panel's ``row``, inclusive.

    Each value is held against its own baseline, so a mere shift of traffic towards values that always convert less
    loses nothing here.
    """
    windows = min(windows, LONGEST)
    start = panel.counts.start_of(row)
    head, newest = drill.rows.row_of(start), drill.windows.row_of(start)
    kernel = panel.estimates.kernel[:, [panel.counts.columns[column]]]
    rate = baseline(drill.rows, panel.basis, np.array([head]), panel.kind)
    best, lift = Where(), -1.0
    for level in drill.windows.levels:
        if len(level) != len(column.level) + 1 or not set(column.level) < set(level):
            continue
        (dimension,) = set(level) - set(column.level)
        inner = [
            (one, place) for one, place in drill.windows.columns.items() if one.level == level and within(column, one)
        ]
        places = np.array([place for _, place in inner if rate.known[0, place]], dtype=np.intp)
        names = [one.dimensions[dimension] for one, place in inner if rate.known[0, place]]
        if len(names) < 2:  # noqa: PLR2004
            continue
        shown = drill.windows.each(SHOWN[panel.basis], newest - windows - len(kernel) + 2, newest + 1, places)
        n = due(shown, kernel).sum(axis=0)
        expected = n * rate.rate[0, places]
        lost = expected - drill.windows.each(panel.basis, newest - windows + 1, newest + 1, places).sum(axis=0)
        if lost.sum() <= 0 or expected.sum() <= 0:
            continue
        shares, usual = np.clip(lost / lost.sum(), 0.0, 1.0), expected / expected.sum()
        top = int((shares - usual).argmax())
        if shares[top] >= max(MIN_SHARE, MIN_LIFT * usual[top]) and shares[top] - usual[top] > lift + NEAR:
            best, lift = Where(dimension, names[top], float(shares[top])), float(shares[top] - usual[top])
    return best
