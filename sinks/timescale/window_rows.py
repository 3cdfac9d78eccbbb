"""Rows of ``window_counts``: arrays on the wire, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.histogram import SLOTS
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.timescale.composites import INT4, TIME, decode, encode, type_number
from funnelwatch.sinks.timescale.queries import QUERIES
from funnelwatch.sinks.timescale.series import row_series

if TYPE_CHECKING:
    from psycopg import Cursor

    from funnelwatch.schemas.counts import CountKey, DurationKey
    from funnelwatch.sinks.timescale.database import Row

ROWS_AT_ONCE: Final = 10_000
"""Rows of one statement: about 10 MB on the wire."""

RETURNED: Final = [("window", TIME), ("series", INT4), *((name, INT4) for name in CountRow._fields)]


def add_counts(cursor: Cursor[Row], counts: WindowCounts) -> WindowCounts:
    """Add counts, whose series have the numbers of the database, within a transaction; the new totals of their rows."""
    number = type_number(cursor, "window_counts")
    parts = []
    for start in range(0, len(counts), ROWS_AT_ONCE):
        some = counts.selected(slice(start, start + ROWS_AT_ONCE))
        columns = [(TIME, some.windows), (INT4, some.series), *((INT4, column) for column in some.counts.T)]
        rows, slots, values = some.cells.T
        array = encode(number, columns, (INT4, SLOTS), (rows, slots, values))
        [answer] = cursor.execute(QUERIES["upsert_counts"], {"rows": array}, binary=True).fetchall()
        parts.append(decode(answer["rows"], RETURNED))
    found = {name: np.concatenate([part[name] for part in parts]) for name, _ in RETURNED}
    totals = np.stack([found[name] for name in CountRow._fields], axis=1)
    return WindowCounts(counts.names, found["window"], found["series"], totals)


def row_keys(counts: WindowCounts) -> dict[str, list[int]]:
    """The keys of rows, as parameters."""
    return {"window_ms": counts.windows.tolist(), "series_id": counts.series.tolist()}


def row_key(row: Row) -> CountKey:
    """The key of a row of counts."""
    return row["window_ms"], row_series(row)


def count_row(row: Row) -> CountRow:
    """The tally of a row of counts."""
    return CountRow(*(row[name] for name in CountRow._fields))


def row_duration(row: Row) -> tuple[DurationKey, list[int]]:
    """Key and number of a slot of durations."""
    return (row["window_ms"], row_series(row), row["slot"]), [row["n"]]
