"""Counts of record as arrays, for evaluating rules over months of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream.backtest.history import by_funnel
from stream.model import Series

if TYPE_CHECKING:
    from collections.abc import Callable

    from sinks.timescale.database import Database
    from stream.backtest.history import History

DAY_MS = 86_400_000


class SeriesCounts:
    """Reads what the windows of a time hold, a day at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(
        self, from_ms: int, to_ms: int, funnel: str | None = None, told: Callable[[int], None] = lambda rows: None
    ) -> list[History]:
        """The complete windows that start in ``[from_ms, to_ms)``, of one funnel or all; ``told``: rows read so far.

        A funnel of which no window is complete is left out.
        """
        series: dict[Series, int] = {}
        starts: list[int] = []
        places: list[int] = []
        tallies: list[tuple[int, int, int]] = []
        for span in self._database.query("counted_spans", {"funnel": funnel}):
            begin, end = max(from_ms, span["first_ms"]), min(to_ms, span["closed_through_ms"])
            for day in range(begin, end, DAY_MS):
                scope = {"funnel": span["funnel"], "from_ms": day, "to_ms": min(day + DAY_MS, end)}
                for row in self._database.query("read_counts", scope):
                    one = Series(row["funnel"], row["step"], row["os"], row["browser"], row["app_version"])
                    starts.append(row["window_ms"])
                    places.append(series.setdefault(one, len(series)))
                    tallies.append((row["impressions"], row["successes"], row["cohort_successes"]))
                told(len(starts))
        if not starts:
            return []
        return by_funnel(
            list(series), np.array(starts), np.array(places, dtype=np.intp), np.array(tallies, dtype=np.uint32)
        )
