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

    from psycopg import Cursor

    from funnelwatch.schemas.admission import Admission, SeriesLimits
    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.schemas.window_counts import Names
    from funnelwatch.sinks.timescale.database import Database, Row


UNKNOWN = -1
"""Stands for a number that is not known yet."""


class SeriesTable:
    """The series of some funnels as the database has them, each read once; for one thread.

    Series are added under a lock that is held to the end of the transaction, so of a funnel the largest number that is
    known says what is not.
    """

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}

    def unread(self, cursor: Cursor[Row], funnels: Iterable[str]) -> dict[Series, int]:
        """The series of these funnels that were not read before, and their numbers."""
        newest = {funnel: self._newest.get(funnel, 0) for funnel in funnels}
        rows = run(cursor, "series_of", {"funnels": list(newest), "newest": list(newest.values())})
        found = {row_series(row): row["series_id"] for row in rows}
        self._note(found)
        return found

    def store(self, cursor: Cursor[Row], new: Sequence[Series]) -> dict[Series, int]:
        """Store series that the database does not have; their lock must be held, and everything read."""
        # As one value: psycopg makes arrays of texts in Python, for twice what the database needs to store them.
        series = json.dumps([(one.funnel, one.step, dict(one.dimensions)) for one in new], ensure_ascii=False)
        rows = run(cursor, "new_series", {"series": series})
        found = {one: row["series_id"] for one, row in zip(new, rows, strict=True)}
        self._note(found)
        return found

    def _note(self, found: Mapping[Series, int]) -> None:
        for one, number in found.items():
            if number > self._newest.get(one.funnel, 0):
                self._newest[one.funnel] = number


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
        self._forget()

    def _forget(self) -> None:
        self._known: dict[str, FunnelSeries] = {}
        self._table = SeriesTable()

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
            self._forget()
            raise

    def _admit(self, cursor: Cursor[Row], wanted: Sequence[Series]) -> Mapping[Series, Admission]:
        funnels = sorted({one.funnel for one in wanted})
        # What is known, and most of a flood, needs no lock: what is full stays full.
        self._catch_up(cursor, funnels)
        admitting = Admitting(self._declared, self._limits, self._known)
        found = {one: admitting(one) for one in wanted}
        if not admitting.new or not self._keeps:
            return found
        run(cursor, "lock_series")
        new = admitting.new
        admitting.undo()
        if self._catch_up(cursor, funnels):
            found = {one: admitting(one) for one in wanted}
        else:  # nobody else has stored anything meanwhile, so the same are admitted
            for one in new:
                admitting(one)
        if admitting.new:
            self._table.store(cursor, admitting.new)
        return found

    def _catch_up(self, cursor: Cursor[Row], funnels: Iterable[str]) -> bool:
        """Know what other workers have stored meanwhile: every funnel, and the series of these; whether it was any."""
        rows = {row["funnel"]: row["series"] for row in run(cursor, "counted_funnels")}
        unknown = rows.keys() - self._known.keys()
        for funnel in unknown:
            self._known[funnel] = FunnelSeries()
        behind = [one for one in funnels if one in rows and rows[one] > len(self._known[one].series)]
        if behind:
            for series in self._table.unread(cursor, behind):
                self._known[series.funnel].add(series)
        return bool(unknown or behind)


class StoredIds:
    """Gives series the ids that the database has for them, and keeps the ids; for one thread.

    Args:
        database: where the series are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = SeriesTable()
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
        missing = [one for one in series if one not in self._ids]
        if missing:
            try:
                with self._database.transaction() as cursor:
                    found = _numbered(cursor, self._table, missing, self._ids)
            except BaseException:
                # Whether they are stored is not known.
                self._table, self._ids = SeriesTable(), {}
                raise
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


def series_ids(cursor: Cursor[Row], wanted: Collection[Series]) -> dict[Series, int]:
    """The number of each series, stored now where it is not; other series of their funnels may be among them."""
    return _numbered(cursor, SeriesTable(), wanted, {})


def _numbered(
    cursor: Cursor[Row], table: SeriesTable, wanted: Collection[Series], known: Mapping[Series, int]
) -> dict[Series, int]:
    """The numbers of series that are not known, and of others that the table has read on the way."""
    funnels = sorted({one.funnel for one in wanted})
    found = table.unread(cursor, funnels)
    if any(one not in found and one not in known for one in wanted):
        run(cursor, "lock_series")
        found |= table.unread(cursor, funnels)
        new = [one for one in dict.fromkeys(wanted) if one not in found and one not in known]
        if new:
            found |= table.store(cursor, new)
    return found


def row_series(row: Row) -> Series:
    """The series of a row with ``funnel``, ``step`` and ``dimensions``."""
    return Series(row["funnel"], row["step"], tuple(sorted(row["dimensions"].items())))
