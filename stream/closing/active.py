"""Which series a closed window is to show: all that were active, so that silence reads as zero and not as nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTHING = CountRow()


class ActiveSeries:
    """The series of one funnel that had events within the active horizon, window by window, forward in time.

    A series is active in the windows from its first event on, until ``horizon_ms`` after its last one.
    """

    def __init__(self, horizon_ms: int, last_seen: Mapping[Series, int]) -> None:
        self._horizon_ms = horizon_ms
        self._last_seen = dict(last_seen)

    def close(
        self, funnel: str, window_start: int, window_ms: int, revision: int, tallies: Mapping[Series, CountRow]
    ) -> ClosedWindow | None:
        """The closed window, zeros included; None if no series is active. Call it for each window, in order."""
        for series in tallies:
            self._last_seen[series] = max(window_start, self._last_seen.get(series, window_start))
        oldest = window_start - self._horizon_ms
        gone = [series for series, last in self._last_seen.items() if last < oldest]
        for series in gone:
            del self._last_seen[series]
        if not self._last_seen:
            return None
        shown = {series: tallies.get(series, NOTHING) for series in sorted(self._last_seen)}
        return ClosedWindow(funnel, window_start, window_start + window_ms, revision, shown)

    def __len__(self) -> int:
        """How many series were active in the window that was closed last."""
        return len(self._last_seen)
