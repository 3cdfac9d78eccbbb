"""The series that there are: the table that decides which names of events are counted as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.schemas.admission import Admitting, FunnelSeries
from funnelwatch.schemas.counts import Series
from funnelwatch.sinks.timescale.database import run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from psycopg import Cursor

    from funnelwatch.schemas.admission import Admission, SeriesLimits
    from funnelwatch.sinks.timescale.database import Database, Row


class SeriesStore:
    """Admits series; for one thread. What is admitted is never taken back.

    Args:
        database: over a connection of its own.
        declared: the declared funnels.
        limits: how many names there may be.
        keeps: whether what is admitted is stored; without it this only tells what workers would do.
    """

    def __init__(
        self, database: Database, declared: Collection[str], limits: SeriesLimits, *, keeps: bool = True
    ) -> None:
        self._database = database
        self._declared = declared
        self._limits = limits
        self._keeps = keeps
        self._known: dict[str, FunnelSeries] = {}

    def admit(self, wanted: Iterable[Series]) -> Mapping[Series, Admission]:
        """What each series counts as, or why it is rejected.

        What is stored stays stored although its events are flushed later: to do it again does no harm.

        Raises:
            psycopg.OperationalError: an outage.
        """
        try:
            with self._database.transaction() as cursor:
                return self._admit(cursor, list(dict.fromkeys(wanted)))
        except BaseException:
            # Whether it is stored is not known.
            self._known.clear()
            raise

    def _admit(self, cursor: Cursor[Row], wanted: Sequence[Series]) -> Mapping[Series, Admission]:
        funnels = sorted({one.funnel for one in wanted})
        # What is known, and most of a flood, needs no lock: what is full stays full.
        self._catch_up(cursor, funnels)
        copies = {one: self._known[one].copy() for one in funnels if one in self._known}
        trial = Admitting(self._declared, self._limits, {**self._known, **copies})
        found = {one: trial(one) for one in wanted}
        if not trial.new:
            return found
        if self._keeps:
            run(cursor, "lock_funnel_series")
            self._catch_up(cursor, funnels)
        admitting = Admitting(self._declared, self._limits, self._known)
        found = {one: admitting(one) for one in wanted}
        if admitting.new and self._keeps:
            columns = dict(zip(Series._fields, map(list, zip(*admitting.new, strict=True)), strict=True))
            run(cursor, "new_funnel_series", columns)
        return found

    def _series_of(self, funnel: str) -> Collection[Series]:
        known = self._known.get(funnel)
        return known.series if known else ()

    def _catch_up(self, cursor: Cursor[Row], funnels: Iterable[str]) -> None:
        """Know what other workers have stored meanwhile: every funnel, and the series of these."""
        rows = {row["funnel"]: row["series"] for row in run(cursor, "counted_funnels")}
        for funnel in rows.keys() - self._known.keys():
            self._known[funnel] = FunnelSeries()
        behind = [one for one in funnels if rows.get(one, 0) > len(self._series_of(one))]
        if behind:
            found: dict[str, list[Series]] = {}
            for row in run(cursor, "funnel_series_of", {"funnels": behind}):
                found.setdefault(row["funnel"], []).append(Series(*(row[name] for name in Series._fields)))
            self._known |= {funnel: FunnelSeries.of(series) for funnel, series in found.items()}
