"""Series that end while their alert fires: a retired version, a renamed os, a removed step. Pure.

Too few impressions leave a rate unknown, so an alert without data neither recovers nor worsens (``no_data``). It
must still end. It resolves once its series has had (nearly) no impressions for a time that the rule states, while the
funnel goes on: as long as the whole funnel is silent, by night or by an outage, nobody knows.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.stream.detector.state import AlertState, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.stream.detector.counts import Counts

BEFORE_MS = 3_600_000
"""The usual share of a series in its funnel is taken from the beginning of its alert, and so long before it."""
EXPECTED = 4.0
"""A series is gone only where this many times the impressions that the rule needs were due by that share."""
PARTS = 4
"""The funnel is live where each of this many parts of the time had an impression of it: an outage that has just ended
does not count as time without data of the series."""
LEFT = 0.25
"""A series of which more than this share still comes is not gone."""


class Absence:
    """Decides whether the series of an alert is gone.

    Args:
        counts: of all series of the funnel.
        channel: of the impressions, or of the sessions, that the rule divides by.
        after_ms: time without data after which a series is gone.
        needed: impressions that the rule needs to evaluate a series.
    """

    def __init__(self, counts: Counts, channel: str, after_ms: int, needed: int) -> None:
        self._counts = counts
        self._channel = channel
        self._windows = max(1, -(-after_ms // counts.window_ms))
        self._needed = needed

    def is_gone(self, state: AlertState, place: int | None, funnel: Sequence[int], head: int) -> bool:
        """Whether the series has ended, as of the evaluated row.

        Args:
            state: of the alert, which fires or has no data.
            place: column of the series; None where no remembered window has any event of it.
            funnel: columns that add up to the funnel.
            head: the evaluated row.
        """
        if head + 1 < self._windows:
            return False
        silent = self._silence(place, head)
        few = self._windows_without_data(state, head)
        windows = max(silent, few)
        if windows < self._windows or not self._goes_on(funnel, head):
            return False
        begin = head + 1 - windows
        seen = 0.0 if place is None else self._sum([place], begin, head + 1)
        due = self._sum(funnel, begin, head + 1) * self._share(state, place, funnel, begin)
        return due >= EXPECTED * self._needed and seen <= LEFT * due

    def _goes_on(self, funnel: Sequence[int], head: int) -> bool:
        """Whether the funnel had impressions throughout the rule's time."""
        parts = min(PARTS, self._windows)
        edges = [head + 1 - self._windows + number * self._windows // parts for number in range(parts + 1)]
        return all(self._sum(funnel, begin, end) for begin, end in pairwise(edges))

    def _silence(self, place: int | None, head: int) -> int:
        """For how many windows the series has had no impression; only lengths that the rule's time is doubled to."""
        if place is None:
            return head + 1
        length, found = self._windows, 0
        while length <= head + 1 and not self._sum([place], head + 1 - length, head + 1):
            found, length = length, 2 * length
        return found

    def _windows_without_data(self, state: AlertState, head: int) -> int:
        """For how many windows the series has had too few impressions to know anything."""
        if state.state is not State.NO_DATA:
            return 0
        since = self._counts.row_of(state.payload.get("no_data_since", state.last_window))
        return head + 1 - max(since, 0)

    def _share(self, state: AlertState, place: int | None, funnel: Sequence[int], begin: int) -> float:
        """The usual share of the series in the impressions of its funnel; 1 where it is not remembered."""
        first = self._counts.row_of(state.started_at - BEFORE_MS)
        whole = self._sum(funnel, first, begin)
        if place is None or not whole:
            return 1.0
        return self._sum([place], first, begin) / whole

    def _sum(self, places: Sequence[int], begin: int, end: int) -> float:
        rows = np.array([begin]), np.array([end])
        return float(self._counts.sums(self._channel, *rows, np.array(sorted(places), dtype=np.intp)).sum())
