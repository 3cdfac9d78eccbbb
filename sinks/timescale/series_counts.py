"""Counts of record as arrays, for evaluating rules over weeks and months of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.count_history import History, by_funnel
from funnelwatch.schemas.times import DAY_MS, HOUR_MS
from funnelwatch.sinks.timescale.composites import YEAR_2000_MS
from funnelwatch.sinks.timescale.queries import QUERIES
from funnelwatch.sinks.timescale.series import row_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.counts import Series
    from funnelwatch.sinks.timescale.database import Database, Row

MANY = 1_000_000
"""So many counts are read at once, about; the database sorts them, and some 100 MB hold them here."""
FIELDS = ("impressions", "successes", "cohort_successes")


class SeriesCounts:
    """Reads what the windows of a time hold, some hours at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(
        self, from_ms: int, to_ms: int, funnel: str | None = None, told: Callable[[int], None] = lambda rows: None
    ) -> list[History]:
        """The complete windows that start in ``[from_ms, to_ms)``, of one funnel or all; ``told``: rows read so far.

        A funnel of which no window is complete is left out.
        """
        found = []
        rows = 0
        for span in self._database.query("counted_spans", {"funnel": funnel}):
            series: dict[Series, int] = {}
            chunks = []
            for chunk in self.chunks(
                span["funnel"], max(from_ms, span["first_ms"]), min(to_ms, span["closed_through_ms"])
            ):
                own = np.array([series.setdefault(one, len(series)) for one in chunk.series], dtype=np.intp)
                chunks.append((chunk.starts, own[chunk.places], chunk.tallies))
                rows += len(chunk.starts)
                told(rows)
            if chunks:
                starts, places, tallies = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
                found.append(History(span["funnel"], list(series), starts, places, tallies))
        return found

    def chunks(self, funnel: str, from_ms: int, to_ms: int) -> Iterator[History]:
        """The counts of a funnel in the windows that start in ``[from_ms, to_ms)``, oldest first, a stretch at a time.

        A stretch is an hour, or up to a day where there is less in it; those without counts are left out.
        """
        begin, length = from_ms, HOUR_MS
        while begin < to_ms:
            end = min(begin + length, to_ms)
            chunk = self._chunk({"funnel": funnel, "from_ms": begin, "to_ms": end})
            begin = end
            # Where nothing is, nothing is learned about how much comes next.
            if chunk is not None:
                yield chunk
                length = max(HOUR_MS, min(2 * length, length * MANY // len(chunk.starts), DAY_MS))

    def _chunk(self, scope: dict[str, str | int]) -> History | None:
        with self._database.outside_transaction() as cursor:
            rows = cursor.execute(QUERIES["packed_counts"], scope, binary=True).fetchall()
        if not rows:
            return None
        names = [row_series(row) for row in rows]
        starts = [_unpacked(row, "window_start") // 1000 + YEAR_2000_MS for row in rows]
        # In the order in which they were first counted: so the detector gets to know them in the order it would live.
        order = sorted(range(len(rows)), key=lambda place: (int(starts[place].min()), *names[place]))
        series = [names[place] for place in order]
        places = np.repeat(np.arange(len(rows)), [len(starts[place]) for place in order])
        tallies = np.stack(
            [np.concatenate([_unpacked(rows[place], name) for place in order]) for name in FIELDS], axis=1
        )
        [chunk] = by_funnel(
            series, np.concatenate([starts[place] for place in order]), places, tallies.astype(np.uint32)
        )
        return chunk


def _unpacked(row: Row, name: str) -> Ints:
    return np.frombuffer(row[name], dtype=">i8").astype(np.int64)
