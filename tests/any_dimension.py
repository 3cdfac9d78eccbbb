"""Counts of series with any dimensions in the database, inserted by SQL, and the same counts grouped in Python."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from funnelwatch.sinks.timescale.database import Database

EXACT = 8
"""Durations below this, ms, have a slot of their own."""

INSERT = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (
        step text, dimensions jsonb, window_ms bigint, impressions integer, successes integer, failures integer,
        cohort_successes integer, cohort_failures integer, sessions integer, session_successes integer,
        reached integer, completed integer, slots integer[]
    )
), made AS (
    INSERT INTO series (funnel, step, dimensions)
    SELECT DISTINCT %(funnel)s, step, dimensions FROM given
    RETURNING series_id, step, dimensions
), counted AS (
    INSERT INTO counted_funnels (funnel, series) SELECT %(funnel)s, count(*) FROM made
), progress AS (
    INSERT INTO funnel_progress (funnel, newest_window, closing_through, closed_through)
    SELECT %(funnel)s, to_timestamp(max(window_ms) / 1000.0), t.closed, t.closed
    FROM given, to_timestamp(%(closed_ms)s / 1000.0) AS t (closed)
    GROUP BY t.closed
)
INSERT INTO window_counts (
    window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
    sessions, session_successes, reached, completed, d0, d1, d2, d3, d4, d5, d6, d7
)
SELECT
    to_timestamp(window_ms / 1000.0), series_id, impressions, successes, failures, cohort_successes, cohort_failures,
    sessions, session_successes, reached, completed,
    slots[1], slots[2], slots[3], slots[4], slots[5], slots[6], slots[7], slots[8]
FROM given INNER JOIN made USING (step, dimensions)
"""


@dataclass(frozen=True)
class Counted:
    """The counts of one series in one window; it has the dimensions that are not empty."""

    window_ms: int
    step: str
    dimensions: Mapping[str, str]
    impressions: int = 0
    successes: int = 0
    failures: int = 0
    cohort_successes: int = 0
    cohort_failures: int = 0
    sessions: int = 0
    session_successes: int = 0
    reached: int = 0
    completed: int = 0
    durations: Sequence[int] = field(default=())
    """How long successes took, ms, each below ``EXACT``."""

    def has(self, filters: Mapping[str, Collection[str]]) -> bool:
        """Whether filters select it; empty and (none) select a series without a value."""
        return all(
            (self.step if name == "step" else self.dimensions.get(name, "")) in values
            or (name != "step" and "(none)" in values and not self.dimensions.get(name))
            for name, values in filters.items()
        )


def insert_counts(database: Database, funnel: str, rows: Iterable[Counted], closed_through: int | None = None) -> None:
    """Count rows in a funnel that has none, and close its windows up to a time, ms; the database has the tables."""
    given = [
        {
            **vars(row),
            "dimensions": {name: value for name, value in row.dimensions.items() if value},
            "slots": [row.durations.count(slot) or None for slot in range(EXACT)],
        }
        for row in rows
    ]
    with database.transaction() as cursor:
        cursor.execute(INSERT, {"rows": json.dumps(given), "funnel": funnel, "closed_ms": closed_through})


def grouped(
    rows: Iterable[Counted],
    by: Sequence[str],
    filters: Mapping[str, Collection[str]],
    every_ms: int | None = None,
) -> dict[tuple[str | int, ...], list[Counted]]:
    """The rows that filters select, by step, the values of ``by``, and the start of a span of time, ms."""
    groups: dict[tuple[str | int, ...], list[Counted]] = defaultdict(list)
    for row in rows:
        if row.has(filters):
            start = (row.window_ms // every_ms * every_ms,) if every_ms else ()
            groups[row.step, *(row.dimensions.get(name, "") for name in by), *start].append(row)
    return groups
