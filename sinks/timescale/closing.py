"""The closer's state in the database: watermarks, closed windows, late windows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.schemas.counts import CountRow
from funnelwatch.sinks.timescale.database import Database, run
from funnelwatch.sinks.timescale.series import SeriesNames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.counts import Series


IDLE_VALID_S = 5.0
"""A partition stays idle for this long after its worker has reported it, s; the worker reports it more often.

If that worker is gone, its unread records are unknown, and the partition holds windows open until a worker reads it.
"""


@dataclass(frozen=True, slots=True)
class PartitionWatermark:
    """The event time before which a partition expects no more events, ms; None before its first event."""

    watermark: int | None
    idle: bool


@dataclass(frozen=True, slots=True)
class FunnelProgress:
    """Windows that start before ``closed_through`` (ms) are published; None before the first.

    ``has_late``: whether late events have changed windows since their publication.
    """

    funnel: str
    closing_through: int | None
    closed_through: int | None
    has_late: bool


@dataclass(frozen=True, slots=True)
class LateWindow:
    """A closed window that late events changed, with its next revision."""

    window: int
    revision: int
    events: int


class ClosingStore:
    """The closer's view of the database; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names = SeriesNames(database)

    @contextmanager
    def sole_closer(self, topic: str) -> Iterator[bool]:
        """Become the only closer of this topic; False where another worker is.

        The lock belongs to the session and ends with it, so a dead closer leaves no lock behind.
        """
        locked = self._database.query("try_closer_lock", {"topic": topic})[0]["locked"]
        try:
            yield locked
        finally:
            if locked:
                self._database.query("release_closer_lock", {"topic": topic})

    def watermarks(self, topic: str) -> dict[int, PartitionWatermark]:
        """The watermark of each partition that was ever assigned."""
        rows = self._database.query("watermarks", {"topic": topic, "idle_valid_s": IDLE_VALID_S})
        return {row["partition"]: PartitionWatermark(row["watermark_ms"], row["idle"]) for row in rows}

    def funnels(self) -> list[FunnelProgress]:
        """Every funnel that was ever counted."""
        return [
            FunnelProgress(row["funnel"], row["closing_through_ms"], row["closed_through_ms"], row["has_late"])
            for row in self._database.query("funnels")
        ]

    def start_closing(self, funnel: str, through_ms: int) -> None:
        """Make events for windows that start before ``through_ms`` late.

        When this returns, every flush that did not see the mark is committed, and the next read sees its counts.
        """
        with self._database.transaction() as cursor:
            run(cursor, "wait_for_flushes")
            run(cursor, "start_closing", {"funnel": funnel, "through_ms": through_ms})

    def finish_closing(self, funnel: str, through_ms: int, published_ms: int | None = None) -> None:
        """Record that the windows that start before ``through_ms`` are published.

        Args:
            funnel: the funnel.
            through_ms: see above.
            published_ms: start of the newest published window; None where all were empty.
        """
        parameters = {"funnel": funnel, "through_ms": through_ms, "published_ms": published_ms}
        self._database.query("finish_closing", parameters)

    def next_window(self, funnel: str, from_ms: int) -> int | None:
        """The first window at or after ``from_ms`` with counts; None if there is none."""
        window: int | None = self._database.query("next_window", {"funnel": funnel, "from_ms": from_ms})[0]["window_ms"]
        return window

    def active_series(self, funnel: str, from_ms: int, to_ms: int) -> dict[Series, int]:
        """The series with events in ``[from_ms, to_ms)``, each with its newest window."""
        [row] = self._database.query("active_series", {"funnel": funnel, "from_ms": from_ms, "to_ms": to_ms})
        return dict(zip(self._names.of(row["series"]), row["windows"], strict=True))

    def read(self, funnel: str, from_ms: int, to_ms: int) -> dict[int, dict[Series, CountRow]]:
        """The tallies of the windows that start in ``[from_ms, to_ms)``; a window without counts is missing."""
        rows = self._database.query("counts_by_window", {"funnel": funnel, "from_ms": from_ms, "to_ms": to_ms})
        return {
            row["window_ms"]: dict(
                zip(
                    self._names.of(row["series"]),
                    map(CountRow._make, zip(*(row[name] for name in CountRow._fields), strict=True)),
                    strict=True,
                )
            )
            for row in rows
        }

    def claim_late(self, funnel: str, closed_through_ms: int, settle_s: float, limit: int) -> list[LateWindow]:
        """Windows that late events changed and that have settled, each with its next revision, oldest first."""
        parameters = {
            "funnel": funnel,
            "closed_through_ms": closed_through_ms,
            "settle_s": settle_s,
            "limit": limit,
        }
        rows = self._database.query("claim_late_windows", parameters)
        return sorted(
            (LateWindow(row["window_ms"], row["revision"], row["events"]) for row in rows),
            key=lambda late: late.window,
        )

    def late_published(self, funnel: str, published: list[LateWindow]) -> None:
        """Record that revisions are published; a window that has changed meanwhile stays due."""
        with self._database.transaction() as cursor:
            for late in published:
                parameters = {
                    "funnel": funnel,
                    "window_ms": late.window,
                    "revision": late.revision,
                    "events": late.events,
                }
                run(cursor, "late_published", parameters)
