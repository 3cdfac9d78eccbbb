"""Consecutive closed windows of one funnel, as arrays: the input of the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.counts import CountRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from funnelwatch.schemas.counts import Series


@dataclass(frozen=True, slots=True)
class Block:
    """Windows that follow each other without a gap; a series that is absent from a window counts zero in it."""

    start: int
    """Start of the first window, ms."""
    series: Sequence[Series]
    """Each series once."""
    tallies: NDArray[np.integer]
    """Shape (windows, series, fields of a CountRow)."""

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.tallies)

    @classmethod
    def of(cls, start: int, series: Mapping[Series, CountRow]) -> Block:
        """A single window."""
        tallies = np.array(list(series.values()), dtype=np.int64)
        return cls(start, list(series), tallies.reshape(1, -1, len(CountRow._fields)))

    def part(self, begin: int, end: int, window_ms: int, places: Sequence[int] | None = None) -> Block:
        """The windows [begin, end), of all series or of those at some places."""
        series, tallies = self.series, self.tallies[begin:end]
        if places is not None:
            series, tallies = [series[place] for place in places], tallies[:, list(places)]
        return Block(self.start + begin * window_ms, series, tallies)
