"""Windows of many series, added up to what a page shows of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from funnelwatch.schemas.counts import CountRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from funnelwatch.schemas.counts import Series
    from funnelwatch.web.board.cache import CachedWindows
    from funnelwatch.web.board.expected import Place
    from funnelwatch.web.board.query import BoardQuery

CHOICES = ("os", "browser", "app_version")


class Window(NamedTuple):
    """The counts of one window that a page shows.

    Attributes:
        tallies: as they were read.
        sums: counts of the query's series, by step and os; os None: all.
        values: the values of each dimension, whatever the query.
    """

    tallies: Mapping[Series, CountRow]
    sums: dict[Place, CountRow]
    values: dict[str, set[str]]


class Windows:
    """The windows of a query, added up once for each time that one was read.

    Of a window's hundreds of series a page shows a dozen sums, every second; most windows have not changed.
    """

    def __init__(self, query: BoardQuery) -> None:
        self._query = query
        self._known: dict[int, Window] = {}

    def of(self, cache: CachedWindows) -> dict[int, Window]:
        """Each window by its start."""
        windows = {
            start: known
            if (known := self._known.get(start)) is not None and known.tallies is tallies
            else self._add_up(tallies)
            for start, tallies in cache.windows.items()
        }
        self._known = windows
        return windows

    def _add_up(self, tallies: Mapping[Series, CountRow]) -> Window:
        counted = [(series, tally) for series, tally in tallies.items() if self._query.has(series)]
        sums = together(
            (place, tally)
            for series, tally in counted
            for place in ((series.step, None), (series.step, series.value("os")))
        )
        return Window(tallies, sums, {name: {series.value(name) for series in tallies} for name in CHOICES})


def together(counts: Iterable[tuple[Place, CountRow]]) -> dict[Place, CountRow]:
    """Counts added up by their place."""
    sums: dict[Place, list[int]] = defaultdict(lambda: [0, 0, 0])
    for place, tally in counts:
        kept = sums[place]
        kept[0] += tally.impressions
        kept[1] += tally.successes
        kept[2] += tally.failures
    return {place: CountRow(*kept) for place, kept in sums.items()}
