"""Totals since the beginning, which only grow: what Prometheus reads as counters.

They are added to in the transaction of the flush, so each event is in them once, whatever crashes. Nothing else touches
them: not retention, which drops windows, and not a repair, whose correction may be negative. So a total can be told
from the sum of all windows by what was dropped and what was corrected, and never falls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.freshness import FunnelSeen, WorkerSeen
from funnelwatch.schemas.histogram import bounds
from funnelwatch.sinks.timescale.database import Database, Row, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Cursor

    from funnelwatch.schemas.counts import Counts, Durations

SeriesKey = tuple[str, str, str, str]


def add_totals(cursor: Cursor[Row], counts: Counts, durations: Durations) -> None:
    """Add what a flush counts, within its transaction."""
    totals: dict[SeriesKey, list[int]] = {}
    for key, tally in counts.items():
        if tally[0] or tally[1] or tally[2]:
            series = key[1], key[2], key[3], key[4]
            kept = totals.setdefault(series, [0, 0, 0])
            for place in range(3):
                kept[place] += tally[place]
    if totals:
        run(cursor, "add_totals", _columns(totals, "funnel step os browser impressions successes failures"))
    took: dict[tuple[str, str, str, int], list[int]] = {}
    for (_, funnel, step, os, _, _, octave), slots in durations.items():
        kept = took.setdefault((funnel, step, os, octave), [0, 0])
        kept[0] += sum(slots)
        kept[1] += sum(count * _middle_ms(octave, slot) for slot, count in enumerate(slots) if count)
    if took:
        run(cursor, "add_duration_totals", _columns(took, "funnel step os octave successes total_ms"))


def add_metric_totals(
    cursor: Cursor[Row],
    samples: Mapping[tuple[int, int], list[int]],
    durations: Mapping[tuple[int, int, int], list[int]],
) -> None:
    """Add what a flush of counters and timers counts, within its transaction.

    Args:
        cursor: of the transaction.
        samples: window and series to how many samples, and their total.
        durations: window, series and octave to the slots of the octave.
    """
    totals: dict[tuple[int], list[int]] = {}
    for (_, series), numbers in samples.items():
        kept = totals.setdefault((series,), [0, 0])
        kept[0] += numbers[0]
        kept[1] += numbers[1]
    if totals:
        run(cursor, "add_metric_totals", _columns(totals, "series samples total"))
    took: dict[tuple[int, int], list[int]] = {}
    for (_, series, octave), slots in durations.items():
        took.setdefault((series, octave), [0])[0] += sum(slots)
    if took:
        run(cursor, "add_metric_duration_totals", _columns(took, "series octave samples"))


def _middle_ms(octave: int, slot: int) -> int:
    """The middle of the whole numbers of a bucket: less than 6.25 % off, whatever is in it."""
    lower, upper = bounds(octave, slot)
    return (lower + upper - 1) // 2


def _columns(totals: Mapping[tuple[Any, ...], list[int]], names: str) -> dict[str, list[Any]]:
    rows = ((*key, *numbers) for key, numbers in totals.items())
    return {name: list(values) for name, values in zip(names.split(), zip(*rows, strict=True), strict=True)}


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

    def read(self, over_s: float) -> Totals:
        """All totals.

        Args:
            over_s: how much of the newest closed windows, s.
        """
        with self._database.transaction() as cursor:
            run(cursor, "one_snapshot")
            return Totals(
                run(cursor, "read_totals"),
                run(cursor, "read_duration_totals"),
                run(cursor, "latest_counts", {"over_s": over_s}),
                run(cursor, "read_metric_totals"),
                [WorkerSeen(**row) for row in run(cursor, "workers", {"topic": self._topic})],
                [FunnelSeen(**row) for row in run(cursor, "funnels_freshness")],
            )
