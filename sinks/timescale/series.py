"""The table of series: it numbers them, and decides which names of events are counted as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.admission import Admitting, FunnelSeries
from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.timescale.database import run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from psycopg import Cursor

    from funnelwatch.schemas.admission import Admission, SeriesLimits
    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.schemas.window_counts import Names
    from funnelwatch.sinks.timescale.database import Database, Row


UNKNOWN = -1
"""Stands for a number that is not known yet."""


class SeriesStore:
    """Admits series; for one thread. What is admitted is never taken back.

    Args:
        database: over a connection of its own.
        declared: the declared funnels.
        limits: how many names there may be where a declaration does not say otherwise.
        keeps: whether what is admitted is stored; without it this only tells what workers would do.
    """

    def __init__(self, database: Database, declared: Funnels, limits: SeriesLimits, *, keeps: bool = True) -> None:
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
            run(cursor, "lock_series")
            self._catch_up(cursor, funnels)
        admitting = Admitting(self._declared, self._limits, self._known)
        found = {one: admitting(one) for one in wanted}
        if admitting.new and self._keeps:
            _store(cursor, admitting.new)
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
            for row in run(cursor, "series_of", {"funnels": behind}):
                found.setdefault(row["funnel"], []).append(row_series(row))
            self._known |= {funnel: FunnelSeries.of(series) for funnel, series in found.items()}


class StoredIds:
    """Gives series the ids that the database has for them, and keeps the ids; for one thread.

    Args:
        database: where the series are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: dict[Series, int] = {}
        self._series: dict[int, Series] = {}
        self._names: Names | None = None
        self._numbers: Ints = np.zeros(0, np.int64)

    def numbered(self, counts: WindowCounts) -> WindowCounts:
        """The same counts by the numbers of the database.

        New series are stored in a transaction of their own, so that no flush holds their lock.

        Raises:
            psycopg.Error: an outage, or the database rejects a series; nothing is kept of it.
        """
        used = np.unique(counts.series)
        if not used.size:
            return WindowCounts(self._series)
        if counts.names is not self._names:
            self._names, self._numbers = counts.names, np.zeros(0, np.int64)
        if self._numbers.size <= used[-1]:
            more = np.full(int(used[-1]) + 1 - self._numbers.size, UNKNOWN)
            self._numbers = np.concatenate([self._numbers, more])
        missing = used[self._numbers[used] == UNKNOWN]
        if missing.size:
            self._numbers[missing] = self._of([counts.names[number] for number in missing.tolist()])
        return counts.numbered(self._series, self._numbers)

    def _of(self, series: list[Series]) -> list[int]:
        wanted = set(series)
        if not wanted <= self._ids.keys():
            with self._database.transaction() as cursor:
                found = series_ids(cursor, wanted)
            self._ids |= found
            self._series |= {number: one for one, number in found.items()}
        return [self._ids[one] for one in series]


class SeriesNames:
    """The series of numbers, each read once: names are text, and a window has thousands of them; for one thread.

    Args:
        database: where the series are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[int, Series] = {}

    def of(self, numbers: Collection[int]) -> Iterator[Series]:
        """The series, in the order of the numbers."""
        known = self.known(numbers)
        return (known[number] for number in numbers)

    def known(self, numbers: Iterable[int]) -> Mapping[int, Series]:
        """The series of these numbers, and others."""
        known = self._known
        missing = [number for number in numbers if number not in known]
        if missing:
            found = self._database.query("series_by_number", {"numbers": missing})
            known |= {row["series_id"]: row_series(row) for row in found}
        return known


def series_ids(cursor: Cursor[Row], wanted: AbstractSet[Series]) -> dict[Series, int]:
    """The number of each series, stored now where it is not; other series of their funnels may be among them."""
    funnels = sorted({one.funnel for one in wanted})
    found = _read(cursor, funnels)
    if wanted and not wanted <= found.keys():
        run(cursor, "lock_series")
        found = _read(cursor, funnels)
        found |= _store(cursor, [one for one in wanted if one not in found])
    return found


def _read(cursor: Cursor[Row], funnels: Sequence[str]) -> dict[Series, int]:
    return {row_series(row): row["series_id"] for row in run(cursor, "series_of", {"funnels": funnels})}


def _store(cursor: Cursor[Row], new: Sequence[Series]) -> dict[Series, int]:
    columns = {
        "funnel": [one.funnel for one in new],
        "step": [one.step for one in new],
        "dimensions": [json.dumps(dict(one.dimensions), ensure_ascii=False) for one in new],
    }
    return {row_series(row): row["series_id"] for row in run(cursor, "new_series", columns)}


def row_series(row: Row) -> Series:
    """The series of a row with ``funnel``, ``step`` and ``dimensions``."""
    return Series(row["funnel"], row["step"], tuple(sorted(row["dimensions"].items())))
