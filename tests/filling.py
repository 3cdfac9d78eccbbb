"""A database with counts, as a worker leaves it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from funnelwatch.schemas.counts import CountRow, PartitionCounts, Series
from funnelwatch.schemas.metric_counts import MetricSeries, PartitionMetrics
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.metric_counts import MetricStore
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.retention import set_retention
from tests.traffic import slot_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from funnelwatch.schemas.counts import Durations
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.rates import Level
    from funnelwatch.sinks.timescale.retention import Retention

MINUTE_MS = 60_000


def count(
    settings: Settings,
    tallies: Mapping[tuple[int, str, str, str, str], Sequence[int]],
    *,
    funnel: str = "sign_up",
    closed_through: int | None = None,
) -> None:
    """Make the tables, count tallies, and close windows, in the database of the settings; see ``count_in``."""
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        count_in(database, tallies, funnel=funnel, closed_through=closed_through)


def named(funnel: str, step: str, os: str, browser: str, version: str) -> Series:
    """The series with these names."""
    return Series.of(funnel, step, os=os, browser=browser, app_version=version)


def count_in(
    database: Database,
    tallies: Mapping[tuple[int, str, str, str, str], Sequence[int]],
    *,
    funnel: str = "sign_up",
    closed_through: int | None = None,
    durations: Mapping[tuple[int, str, str, str, str], Sequence[int]] | None = None,
) -> None:
    """Count tallies, and close windows.

    Args:
        database: has the tables.
        tallies: (window start in ms, step, os, browser, app version) to impressions, successes, failures, and, if they
            differ, successes and failures of the cohort; then the counts of sessions.
        funnel: the funnel.
        closed_through: windows that start before this are closed, ms.
        durations: by the same keys, how long successes took, ms.
    """
    store = CountStore(database)
    start = store.start("filled", "id", {0: 0})[0].next_offset
    counts = {
        (window, named(funnel, *names)): list(CountRow(*tally, *(tally[1:3] if len(tally) == 3 else ())))
        for (window, *names), tally in tallies.items()
    }
    took: Durations = {}
    for (window, *names), values in (durations or {}).items():
        for value in values:
            took.setdefault((window, named(funnel, *names), slot_of(value)), [0])[0] += 1
    store.flush("filled", "id", [PartitionCounts(0, start, start + 1, WindowCounts.of(counts, took))])
    if closed_through is not None:
        closer = ClosingStore(database)
        closer.start_closing(funnel, closed_through)
        closer.finish_closing(funnel, closed_through)


def keep_for(database: Database, retention: Retention) -> list[Level]:
    """Set the retention of each level as of an hour ago, so that what is not kept may be dropped now."""
    changed = set_retention(database, retention)
    with database.transaction() as cursor:
        cursor.execute("UPDATE retention SET set_at = set_at - INTERVAL '1 hour' WHERE level = ANY(%s)", [changed])
    return changed


def count_metrics(database: Database, samples: Iterable[tuple[int, MetricSeries, int]]) -> None:
    """Count samples of counters and timers: when, ms, of what, and how much; the database has the tables."""
    samples, store = list(samples), MetricStore(database)
    numbers = store.admit([series for _, series, _ in samples], 1_000, 1_000)
    start = CountStore(database).start("filled-metrics", "id", {0: 0})[0].next_offset
    batch = PartitionMetrics(PartitionCounts(0, start, start + 1, WindowCounts()))
    for ts, series, value in samples:
        number = numbers[series]
        assert isinstance(number, int), number
        key = ts - ts % MINUTE_MS, number
        counted = batch.samples.setdefault(key, [0, 0])
        counted[:] = counted[0] + 1, counted[1] + value
        if series.kind == "TIMER":
            batch.durations.setdefault((*key, slot_of(value)), [0])[0] += 1
    store.flush("filled-metrics", "id", [batch])
