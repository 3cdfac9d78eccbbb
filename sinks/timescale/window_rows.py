"""Rows of ``window_counts``: from counts by name to arrays on the wire, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.histogram import SLOTS
from funnelwatch.sinks.timescale.composites import INT4, TIME, decode, encode, type_number
from funnelwatch.sinks.timescale.queries import QUERIES
from funnelwatch.sinks.timescale.series import row_series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Cursor

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.counts import CountKey, Counts, DurationKey, Durations
    from funnelwatch.sinks.timescale.database import Row

ROWS_AT_ONCE: Final = 10_000
"""Rows of one statement: about 10 MB on the wire."""

RETURNED: Final = [("window", TIME), ("series", INT4), *((name, INT4) for name in CountRow._fields)]


class WindowRows:
    """Counts and durations as rows, sorted by window and series.

    Attributes:
        windows: start of each row's window, ms.
        series: number of its series.
        counts: its counts, a column for each field of a ``CountRow``.
        cells: of each duration its row, its slot and how many there are; sorted.

    Args:
        counts: counts by name; there is at least one.
        durations: durations by name.
        ids: the number of each series.
    """

    def __init__(self, counts: Counts, durations: Durations, ids: Mapping[Series, int]) -> None:
        names: dict[int, Series] = {}
        numbered: list[tuple[int, int]] = []
        keys = counts.keys() | {key[:-1] for key in durations}
        for key in keys:
            series = Series(*key[1:])
            number = ids[series]
            names[number] = series
            numbered.append((key[0], number))
        self._names = names
        places = {key: place for place, key in enumerate(sorted(numbered))}
        self.windows: Ints = np.array([window for window, _ in places], np.int64)
        self.series: Ints = np.array([number for _, number in places], np.int64)
        self.counts: Ints = np.zeros((len(places), len(CountRow._fields)), np.int64)
        for key, numbers in counts.items():
            self.counts[places[key[0], ids[Series(*key[1:])]]] = numbers
        cells = np.array(
            [(places[key[0], ids[Series(*key[1:-1])]], key[-1], numbers[0]) for key, numbers in durations.items()],
            np.int64,
        ).reshape(-1, 3)
        cells = cells[np.lexsort((cells[:, 1], cells[:, 0]))]
        self.cells: tuple[Ints, Ints, Ints] = cells[:, 0], cells[:, 1], cells[:, 2]

    def add(self, cursor: Cursor[Row]) -> Counts:
        """Add the rows to the counts, within a transaction; the new totals of their keys."""
        number = type_number(cursor, "window_counts")
        totals: Counts = {}
        for start in range(0, len(self.windows), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            begin, end = np.searchsorted(self.cells[0], [start, start + ROWS_AT_ONCE])
            rows, slots, values = (column[begin:end] for column in self.cells)
            columns = [(TIME, self.windows[some]), (INT4, self.series[some])]
            columns += [(INT4, column) for column in self.counts[some].T]
            array = encode(number, columns, (INT4, SLOTS), (rows - start, slots, values))
            [answer] = cursor.execute(QUERIES["upsert_counts"], {"rows": array}, binary=True).fetchall()
            found = decode(answer["rows"], RETURNED)
            tallies = np.stack([found[name] for name in CountRow._fields], axis=1).tolist()
            for window, series, tally in zip(found["window"].tolist(), found["series"].tolist(), tallies, strict=True):
                totals[window, *self._names[series]] = tally
        return totals

    @property
    def keys(self) -> dict[str, list[int]]:
        """The keys of the rows, as parameters."""
        return {"window_ms": self.windows.tolist(), "series_id": self.series.tolist()}


def row_key(row: Row) -> CountKey:
    """The key of a row of counts."""
    return row["window_ms"], *row_series(row)


def count_row(row: Row) -> CountRow:
    """The tally of a row of counts."""
    return CountRow(*(row[name] for name in CountRow._fields))


def row_duration(row: Row) -> tuple[DurationKey, list[int]]:
    """Key and number of a slot of durations."""
    return (*row_key(row), row["slot"]), [row["n"]]
