"""Totals since the beginning, which only grow: what Prometheus reads as counters.

They are added to in the transaction of the flush, so each event is in them once, whatever crashes. Nothing else touches
them: not retention, which drops windows, and not a repair, whose correction may be negative. So a total can be told
from the sum of all windows by what was dropped and what was corrected, and never falls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.freshness import FunnelSeen, WorkerSeen
from funnelwatch.schemas.histogram import BUCKETS, MIDDLES, buckets_of
from funnelwatch.sinks.timescale.composites import INT4, INT8, encode, type_number
from funnelwatch.sinks.timescale.database import Database, Row, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Cursor

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.window_counts import WindowCounts

COLUMNS: Final = [
    CountRow._fields.index(name) for name in ("impressions", "successes", "failures", "sessions", "session_successes")
]
"""The counts of a row that have totals."""

OPTIONAL: Final = (INT8, BUCKETS)


def add_totals(cursor: Cursor[Row], rows: WindowCounts) -> None:
    """Add what a flush counts, within its transaction."""
    series, places = np.unique(rows.series, return_inverse=True)
    sums = np.zeros((series.size, len(COLUMNS)), np.int64)
    np.add.at(sums, places, rows.counts[:, COLUMNS])
    at, slots, numbers = rows.cells.T
    took = np.zeros(series.size, np.int64)
    np.add.at(took, places[at], MIDDLES[slots] * numbers)
    counted = sums.any(axis=1)
    kept = np.cumsum(counted) - 1
    if counted.any():
        columns = [(INT4, series[counted]), *((INT8, column) for column in sums[counted].T), (INT8, took[counted])]
        cells = _bucketed(kept[places[at]], slots, numbers)
        run(cursor, "add_totals", {"rows": encode(type_number(cursor, "series_totals"), columns, OPTIONAL, cells)})


def add_metric_totals(cursor: Cursor[Row], series: Ints, values: Ints, cells: tuple[Ints, Ints, Ints]) -> None:
    """Add what a flush of counters and timers counts, within its transaction.

    Args:
        cursor: of the transaction.
        series: of each row.
        values: number of samples and their total of each row.
        cells: row, slot and number of timers.
    """
    numbers, places = np.unique(series, return_inverse=True)
    sums = np.zeros((numbers.size, 2), np.int64)
    np.add.at(sums, places, values)
    if numbers.size:
        columns = [(INT4, numbers), *((INT8, column) for column in sums.T)]
        found = _bucketed(places[cells[0]], cells[1], cells[2])
        number = type_number(cursor, "metric_totals")
        run(cursor, "add_metric_totals", {"rows": encode(number, columns, OPTIONAL, found)})


def _bucketed(rows: Ints, slots: Ints, numbers: Ints) -> tuple[Ints, Ints, Ints]:
    """Cells of slots as cells of buckets, each once, sorted."""
    keys, places = np.unique(rows * BUCKETS + buckets_of(slots), return_inverse=True)
    sums = np.zeros(keys.size, np.int64)
    np.add.at(sums, places, numbers)
    return keys // BUCKETS, keys % BUCKETS, sums


@dataclass(frozen=True, slots=True)
class Totals:
    """Rows of all totals, as of one moment.

    Attributes:
        series: totals, in the order in which the series came.
        durations: totals of durations.
        latest: counts of the newest closed windows.
        metrics: totals of counters and timers, in the order in which the series came.
        workers: by their heartbeats.
        funnels: how far each is closed and judged.
    """

    series: list[Row] = field(default_factory=list)
    durations: list[Row] = field(default_factory=list)
    latest: list[Row] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    workers: list[WorkerSeen] = field(default_factory=list)
    funnels: list[FunnelSeen] = field(default_factory=list)


class TotalsStore:
    """Reads the totals; for one thread at a time."""

    def __init__(self, database: Database, topic: str = "") -> None:
        self._database = database
        self._topic = topic

    def read(self, over_s: float, by: Sequence[str]) -> Totals:
        """All totals.

        Args:
            over_s: how much of the newest closed windows, s.
            by: the dimensions that counts are told apart by; durations by the first one only.
        """
        names = {"by": list(by)}
        with self._database.transaction() as cursor:
            run(cursor, "one_snapshot")
            return Totals(
                run(cursor, "read_totals", names),
                run(cursor, "read_duration_totals", {"by": names["by"][:1]}),
                run(cursor, "latest_counts", {"over_s": over_s, **names}),
                run(cursor, "read_metric_totals"),
                [WorkerSeen(**row) for row in run(cursor, "workers", {"topic": self._topic})],
                [FunnelSeen(**row) for row in run(cursor, "funnels_freshness")],
            )
