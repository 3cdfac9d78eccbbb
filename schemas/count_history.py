"""Counts over time, sparse and sorted, handed to the detector in blocks of consecutive windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.count_block import FIELDS, Block
from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.times import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from funnelwatch.schemas.arrays import Indexes, Ints
    from funnelwatch.schemas.counts import Series


WINDOWS = 1440
"""The most windows of a block."""
OF_EVENTS = ("impressions", "successes", "cohort_successes")
KEPT = (*OF_EVENTS, "sessions", "session_successes")
"""The fields of a CountRow that a history has; those of sessions only where they are wanted."""
PLACES = [CountRow._fields.index(name) for name in KEPT]
LONGEST_WINDOW_MS = DAY_MS


class WindowStartsError(FunnelwatchError, ValueError):
    """The length of the windows is unknown, or does not fit their starts."""


@dataclass(frozen=True, slots=True)
class History:
    """The counts of one funnel: record i is of the window that starts at ``starts[i]``, ms, oldest first."""

    funnel: str
    series: Sequence[Series]
    starts: Ints
    places: Indexes
    """The place of each record's series in ``series``."""
    tallies: NDArray[np.uint32]
    """Shape (records, fields in ``KEPT``, or in ``OF_EVENTS``)."""

    def blocks(self, window_ms: int, begin: int, end: int) -> Iterator[Block]:
        """All windows that start in [begin, end), empty ones included; ``begin`` is a window's start."""
        for start in range(begin, end, WINDOWS * window_ms):
            stop = min(start + WINDOWS * window_ms, end)
            low, high = np.searchsorted(self.starts, [start, stop]).tolist()
            rows = (self.starts[low:high] - start) // window_ms
            tallies = np.zeros((high - low, FIELDS), dtype=np.uint32)
            tallies[:, PLACES[: self.tallies.shape[1]]] = self.tallies[low:high]
            length = -(-(stop - start) // window_ms)
            yield Block(start, self.series, rows, self.places[low:high], tallies, length)

    def every_block(self, window_ms: int) -> Iterator[Block]:
        """All windows from the first that has counts to the last."""
        if self.starts.size:
            yield from self.blocks(window_ms, int(self.starts[0]), int(self.starts[-1]) + window_ms)

    def began(self) -> Ints:
        """The start of each series' first window, ms."""
        first = np.full(len(self.series), np.iinfo(np.int64).max)
        np.minimum.at(first, self.places, self.starts)
        return first

    @property
    def counts_sessions(self) -> bool:
        """Whether any session is counted."""
        return self.tallies.shape[1] == len(KEPT) and bool(self.tallies[:, KEPT.index("sessions")].any())

    def between(self, begin: int, end: int) -> History:
        """The records whose windows start in [begin, end)."""
        low, high = np.searchsorted(self.starts, [begin, end]).tolist()
        return History(self.funnel, self.series, self.starts[low:high], self.places[low:high], self.tallies[low:high])

    def moved(self, by_ms: int) -> History:
        """The same counts, shifted in time."""
        return History(self.funnel, self.series, self.starts + by_ms, self.places, self.tallies)


def by_funnel(series: Sequence[Series], starts: Ints, places: Indexes, tallies: NDArray[np.uint32]) -> list[History]:
    """Histories by funnel from records in any order; records of the same window and series add up."""
    if starts.size and (np.diff(starts) < 0).any():
        order = np.argsort(starts, kind="stable")
        starts, places, tallies = starts[order], places[order], tallies[order]
    funnels = list(dict.fromkeys(one.funnel for one in series))
    if len(funnels) == 1:
        return [History(funnels[0], series, starts, places, tallies)]
    found = []
    for funnel in funnels:
        mine = [place for place, one in enumerate(series) if one.funnel == funnel]
        own = np.full(len(series), -1, dtype=np.intp)
        own[mine] = np.arange(len(mine))
        keep = own[places] >= 0
        found.append(History(funnel, [series[place] for place in mine], starts[keep], own[places[keep]], tallies[keep]))
    return found


def window_length(starts: Ints, given_ms: int | None = None) -> int:
    """The length of the windows, ms: the largest that all distances between starts are multiples of.

    Args:
        starts: of windows, ms, sorted.
        given_ms: the length, where it is known.

    Raises:
        WindowStartsError: the starts do not determine it, or contradict the given one.
    """
    distances = np.unique(np.diff(np.unique(starts)))
    common = int(np.gcd.reduce(distances)) if distances.size else 0
    if given_ms is None:
        if not common:
            raise WindowStartsError("all rows are of one window, so its length cannot be told; give --window")
        if common < 1000 or int(distances[0]) != common:  # noqa: PLR2004
            raise WindowStartsError(
                f"the starts of windows lie {int(distances[0]) / 1000:g} s apart or more, but not by multiples of one "
                f"length; is a start wrong? If not, give --window"
            )
        given_ms = common
    elif common % given_ms:
        raise WindowStartsError(f"--window is {given_ms / 1000:g} s, but not all starts are multiples of that apart")
    if not 1000 <= given_ms <= LONGEST_WINDOW_MS:  # noqa: PLR2004
        raise WindowStartsError(f"windows of {given_ms / 1000:g} s cannot be evaluated; right would be 1 s to 1 day")
    return given_ms
