"""Counts of record as arrays, for evaluating rules over weeks and months of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.count_history import KEPT, OF_EVENTS, History
from funnelwatch.schemas.times import DAY_MS, HOUR_MS
from funnelwatch.sinks.timescale.composites import YEAR_2000_MS
from funnelwatch.sinks.timescale.queries import QUERIES
from funnelwatch.sinks.timescale.series import row_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.counts import Series
    from funnelwatch.sinks.timescale.database import Database

MANY = 1_000_000
"""So many counts are read at once, about; the database sorts them, and some 100 MB hold them here."""


class SeriesCounts:
    """Reads what the windows of a time hold, some hours at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(
        self,
        from_ms: int,
        to_ms: int,
        funnel: str | None = None,
        told: Callable[[int], None] = lambda rows: None,
        *,
        with_sessions: bool = False,
    ) -> list[History]:
        """The complete windows that start in ``[from_ms, to_ms)``, of one funnel or all; ``told``: rows read so far.

        Session counts are left out unless they are wanted. A funnel of which no window is complete is left out.
        """
        found = []
        rows = 0
        for span in self._database.query("counted_spans", {"funnel": funnel}):
            chunks = []
            for chunk in self.chunks(
                span["funnel"],
                max(from_ms, span["first_ms"]),
                min(to_ms, span["closed_through_ms"]),
                with_sessions=with_sessions,
            ):
                chunks.append(chunk)
                rows += len(chunk.starts)
                told(rows)
            if chunks:
                parts = zip(*((chunk.starts, chunk.places, chunk.tallies) for chunk in chunks), strict=True)
                found.append(History(span["funnel"], chunks[-1].series, *map(np.concatenate, parts)))
        return found

    def chunks(self, funnel: str, from_ms: int, to_ms: int, *, with_sessions: bool = False) -> Iterator[History]:
        """The counts of a funnel in the windows that start in ``[from_ms, to_ms)``, oldest first, a stretch at a time.

        A stretch is an hour, or up to a day where there is less in it; those without counts are left out. Series stand
        in the order in which they were first counted, those of the stretches before among them: so a detector gets to
        know them in the order it would live. Session counts are left out unless they are wanted.
        """
        names = {
            row_series(row): row["series_id"]
            for row in self._database.query("series_of", {"funnels": [funnel], "newest": [0]})
        }
        series = sorted(names)
        numbers = np.array([names[one] for one in series], dtype=np.intp)
        by_number = np.argsort(numbers)
        places = np.full(len(series), -1, dtype=np.intp)
        known: list[Series] = []
        begin, length = self._first(numbers, from_ms), HOUR_MS
        while begin < to_ms and series:
            end = min(begin + length, to_ms)
            starts, found, tallies = self._stretch(numbers, begin, end, with_sessions=with_sessions)
            begin = end
            if not starts.size:
                length = min(2 * length, DAY_MS)
                continue
            ranks = by_number[np.searchsorted(numbers, found, sorter=by_number)]
            used, first = np.unique(ranks, return_index=True)
            new = sorted(
                (int(starts[at]), rank)
                for rank, at in zip(used.tolist(), first.tolist(), strict=True)
                if places[rank] < 0
            )
            if new:
                fresh = [rank for _, rank in new]
                places[fresh] = np.arange(len(known), len(known) + len(new))
                known = [*known, *(series[rank] for rank in fresh)]
            yield History(funnel, known, starts, places[ranks], tallies)
            length = max(HOUR_MS, min(2 * length, length * MANY // len(starts), DAY_MS))

    def _first(self, numbers: Ints, from_ms: int) -> int:
        """A start in no window before which, and after ``from_ms``, these series count anything."""
        [row] = self._database.query("first_day_counted", {"numbers": numbers.tolist(), "from_ms": from_ms})
        return from_ms if row["first_ms"] is None else max(from_ms, row["first_ms"])

    def _stretch(
        self, numbers: Ints, from_ms: int, to_ms: int, *, with_sessions: bool
    ) -> tuple[Ints, Ints, NDArray[np.uint32]]:
        """Starts of windows, ascending, series and counts of their records."""
        fields = KEPT if with_sessions else OF_EVENTS
        scope = {"numbers": numbers.tolist(), "from_ms": from_ms, "to_ms": to_ms, "with_sessions": with_sessions}
        with self._database.outside_transaction() as cursor:
            # Never prepared: a plan that does not know the times reads too much.
            cursor.execute(QUERIES["packed_counts"], scope, binary=True, prepare=False)
            [row] = cursor.fetchall()
        if row["window_start"] is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, len(fields)), np.uint32)
        starts = np.frombuffer(row["window_start"], ">i8").astype(np.int64) // 1000 + YEAR_2000_MS
        order = np.argsort(starts, kind="stable")
        series = np.frombuffer(row["series_id"], ">i4")[order].astype(np.int64)
        tallies = np.stack([np.frombuffer(row[name], ">i4")[order] for name in fields], axis=1)
        return starts[order], series, tallies.astype(np.uint32)
