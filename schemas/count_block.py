"""Consecutive closed windows of one funnel, as arrays: the input of the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.counts import CountRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from funnelwatch.schemas.arrays import Flags, Indexes
    from funnelwatch.schemas.counts import Series

FIELDS = len(CountRow._fields)


@dataclass(frozen=True, slots=True)
class Block:
    """Windows that follow each other without a gap; a series without a record in a window counts zero in it.

    A record holds the counts of one series in one window. Records of the same window and series add up.
    """

    start: int
    """Start of the first window, ms."""
    series: Sequence[Series]
    """Each series once."""
    rows: Indexes
    """The window of each record, counted from the first, ascending."""
    places: Indexes
    """The place of each record's series in ``series``."""
    tallies: NDArray[np.integer]
    """Shape (records, fields of a CountRow)."""
    length: int
    """The number of windows."""

    def __len__(self) -> int:
        """The number of windows."""
        return self.length

    @classmethod
    def of(cls, start: int, series: Mapping[Series, CountRow]) -> Block:
        """A single window."""
        tallies = np.array(list(series.values()), dtype=np.int64).reshape(-1, FIELDS)
        return cls(start, list(series), np.zeros(len(series), np.intp), np.arange(len(series)), tallies, 1)

    @classmethod
    def dense(cls, start: int, series: Sequence[Series], tallies: NDArray[np.integer]) -> Block:
        """Windows of which each has a record of each series.

        Args:
            start: start of the first window, ms.
            series: each series once.
            tallies: (windows, series, fields of a CountRow); the last fields, where they are left out, are zero.
        """
        length = len(tallies)
        tallies = np.pad(tallies, ((0, 0), (0, 0), (0, FIELDS - tallies.shape[2])))
        rows, places = np.repeat(np.arange(length), len(series)), np.tile(np.arange(len(series)), length)
        return cls(start, series, rows, places, tallies.reshape(-1, FIELDS), length)

    def part(self, begin: int, end: int, window_ms: int) -> Block:
        """The windows [begin, end)."""
        if (begin, end) == (0, self.length):
            return self
        low, high = np.searchsorted(self.rows, [begin, end]).tolist()
        start, rows = self.start + begin * window_ms, self.rows[low:high] - begin
        return Block(start, self.series, rows, self.places[low:high], self.tallies[low:high], end - begin)

    def only(self, wanted: Flags) -> Block:
        """The windows with some of the series; ``wanted`` has a flag for each."""
        if wanted.all():
            return self
        series = [self.series[place] for place in np.flatnonzero(wanted).tolist()]
        keep, own = wanted[self.places], np.cumsum(wanted) - 1
        return Block(self.start, series, self.rows[keep], own[self.places[keep]], self.tallies[keep], self.length)

    def began(self) -> Indexes:
        """The first window in which each series counts anything; the number of windows where it never does."""
        first = np.full(len(self.series), self.length)
        counted = self.tallies.any(axis=1)
        np.minimum.at(first, self.places[counted], self.rows[counted])
        return first
