"""What alarms are worth: false ones per series in 30 days, incidents caught, and after how many windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tests.report.scenario import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.report.scenario import Incident, Scenario

MONTH_MS = 30 * DAY_MS
AFTER_MS = 3_600_000
"""An alarm within this time after an incident's end is neither a catch nor false."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Windows from the first of each incident to the alarm, that window counted: 1 is at once; inf is not caught."""

    windows: tuple[float, ...]

    def within(self, windows: float) -> float:
        """Share of incidents caught after so many windows at most."""
        return float(np.mean(np.array(self.windows) <= windows))

    def quantile(self, share: float) -> float:
        """The delay within which this share of all incidents is caught; inf where fewer are."""
        return float(np.quantile(np.array(self.windows), share, method="inverted_cdf"))


def false_alarms(starts: Iterable[tuple[int, int]], scenario: Scenario, series: int) -> float:
    """Alarms per series in 30 days, of series without incidents; ``starts`` are (series, window) pairs."""
    return len(list(starts)) / series * MONTH_MS / scenario.evaluated_ms


def delays(starts: Iterable[tuple[int, int]], incidents: Iterable[Incident]) -> Delays:
    """The delay of the first alarm within each incident; windows count from the first of the simulation."""
    by_series: dict[int, list[int]] = {}
    for series, row in starts:
        by_series.setdefault(series, []).append(row)
    found = []
    for one in incidents:
        rows = [row for row in by_series.get(one.series, []) if one.begin <= row < one.begin + one.length]
        found.append(float(min(rows) - one.begin + 1) if rows else np.inf)
    return Delays(tuple(found))


def unexplained(
    starts: Iterable[tuple[int, int]], incidents: Iterable[Incident], scenario: Scenario
) -> list[tuple[int, int]]:
    """The alarms that began neither in an incident of their series nor within an hour after one."""
    after = AFTER_MS // scenario.window_ms
    spans: dict[int, list[tuple[int, int]]] = {}
    for one in incidents:
        spans.setdefault(one.series, []).append((one.begin, one.begin + one.length + after))
    return [
        (series, row) for series, row in starts
        if not any(begin <= row < end for begin, end in spans.get(series, []))
    ]  # fmt: skip
