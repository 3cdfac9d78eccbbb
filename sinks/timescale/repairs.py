"""Reads one snapshot for a repair of counts, and writes the correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.timescale.counts import hold_closer_off, mark_late, note_invalidated
from funnelwatch.sinks.timescale.database import Database, run
from funnelwatch.sinks.timescale.series import StoredIds
from funnelwatch.sinks.timescale.window_rows import add_counts, count_row, row_duration, row_key, row_keys

if TYPE_CHECKING:
    from psycopg import Cursor

    from funnelwatch.schemas.counts import Counts, Durations
    from funnelwatch.sinks.timescale.database import Row


class RepairedMeanwhileError(FunnelwatchError):
    """Another repair has changed counts since the snapshot; nothing was written."""


class DamagedMeanwhileError(FunnelwatchError):
    """The correction does not fit the counts, which were changed by hand meanwhile; nothing was written."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The database as of one moment.

    Attributes:
        counts: the counts of the range.
        durations: its histograms of durations.
        next_offsets: how far each partition was counted.
        log_times: the largest counted Kafka timestamp of each partition, ms; None: none is counted.
        elsewhere_until: time until which counts may come from another source than the present log, ms; None: none does.
        repair: the newest repair at that moment.
    """

    counts: Counts
    durations: Durations
    next_offsets: dict[int, int]
    log_times: dict[int, int | None]
    elsewhere_until: int | None
    repair: int


class RepairStore:
    """Reads and corrects counts; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def snapshot(self, topic: str, from_ms: int, to_ms: int) -> Snapshot:
        """The counts of the windows that start in ``[from_ms, to_ms)``, and what they are made of.

        One snapshot of the database (REPEATABLE READ), so counts and progress belong to the same flushes.
        """
        with self._database.transaction() as cursor:
            run(cursor, "one_snapshot")
            rows = run(cursor, "every_progress", {"topic": topic})
            scope = {"funnel": None, "from_ms": from_ms, "to_ms": to_ms}
            counts = run(cursor, "read_counts", scope)
            durations = run(cursor, "read_durations", scope)
            return Snapshot(
                counts={row_key(row): list(count_row(row)) for row in counts},
                durations=dict(map(row_duration, durations)),
                next_offsets={row["partition"]: row["next_offset"] for row in rows},
                log_times={row["partition"]: row["log_time_ms"] for row in rows},
                elsewhere_until=run(cursor, "counted_elsewhere", {"topic": topic})[0]["until_ms"],
                repair=run(cursor, "last_repair")[0]["repair"],
            )

    def correct(
        self, topic: str, range_ms: tuple[int, int], snapshot: Snapshot, changes: Counts, durations: Durations
    ) -> int:
        """Add a correction to the counts and one to the durations in one transaction.

        Readers see either the old or the corrected counts. Flushes that touch the same rows wait for the commit. Closed
        windows that the correction changes become due for their next revision.

        Returns:
            The number of closed windows that it changes.

        Raises:
            RepairedMeanwhileError: another repair was made since the snapshot.
            DamagedMeanwhileError: a count would fall below zero.
            psycopg.OperationalError: an outage; a new snapshot shows whether the correction was written.
        """
        ids = StoredIds(self._database)
        rows = ids.numbered(WindowCounts.of(changes, durations))
        with self._database.transaction() as cursor:
            run(cursor, "one_repair_at_a_time")
            if run(cursor, "last_repair")[0]["repair"] != snapshot.repair:
                raise RepairedMeanwhileError
            run(cursor, "hold_closer_off")
            note_invalidated(cursor, {key[0] for key in changes} | {key[0] for key in durations})
            due = _publish_again(cursor, ids.numbered(WindowCounts.of(changes))) if changes else 0
            if len(rows):
                add_counts(cursor, rows)
                if run(cursor, "negative_counts", row_keys(rows))[0]["rows"]:
                    raise DamagedMeanwhileError
                run(cursor, "remove_empty", row_keys(rows))
            parameters = {
                "topic": topic,
                "from_ms": range_ms[0],
                "to_ms": range_ms[1],
                "changed_series": len(changes.keys() | {key[:-1] for key in durations}),
            }
            run(cursor, "note_repair", parameters)
        return due


def _publish_again(cursor: Cursor[Row], changes: WindowCounts) -> int:
    """Mark the closed windows among those that change; in the order of locks of a flush."""
    closing, _ = hold_closer_off(cursor, changes)
    due = changes.by_window(np.abs(changes.counts).sum(axis=1), changes.windows < closing)
    if due:
        mark_late(cursor, due)
    return len(due)
