"""The counts of evaluated series over the remembered weeks, as cumulative sums, so that any span is two look-ups.

A *column* is one evaluated series: ``Column(level, step, values)``, e.g. ``(("os",), "VERIFY_SMS_CODE", ("iOS",))``. A
*row* is one window. ``cum[channel, r + 1] - cum[channel, r]`` are the counts of row r. Sums are kept modulo 2**32:
they may wrap, their differences over any span below four thousand million are exact.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from funnelwatch.schemas.counts import CountRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from funnelwatch.schemas.arrays import Floats, Indexes
    from funnelwatch.schemas.count_block import Block
    from funnelwatch.schemas.counts import Series

CHANNELS = {
    name: CountRow._fields.index(field)
    for name, field in {
        "impressions": "impressions",
        "window": "successes",
        "cohort": "cohort_successes",
        "sessions": "sessions",
        "session": "session_successes",
    }.items()
}
"""Kinds of counts and their places in a `CountRow`; those called as a basis are the successes on it."""
SHOWN = {"window": "impressions", "cohort": "impressions", "session": "sessions"}
"""The channel that the successes of a basis are divided by."""
MATURING = frozenset({"cohort", "session"})
"""The bases whose successes are dated by the impression: those of a closed window still grow."""

FIRST_ROWS = 1024
FIRST_COLUMNS = 16
SPARE = 8
"""There is room for an eighth more rows than are remembered: moving them all to the front is then rare."""


class Column(NamedTuple):
    """One evaluated series: all counts of a step whose dimensions ``level`` have these ``values``."""

    level: tuple[str, ...]
    step: str
    values: tuple[str, ...]

    @property
    def dimensions(self) -> dict[str, str]:
        """Values by dimension."""
        return dict(zip(self.level, self.values, strict=True))


class Counts:
    """Counts of the columns of some levels; grows by rows and columns, and forgets rows beyond ``limit``."""

    def __init__(self, levels: Iterable[tuple[str, ...]], channels: Iterable[str], window_ms: int, limit: int) -> None:
        self.levels = tuple(levels)
        self.channels = tuple(channels)
        self.window_ms = window_ms
        self.limit = limit
        self.first = 0
        """Window number (start // window_ms) of row 0."""
        self.rows = 0
        self.columns: dict[Column, int] = {}
        self._base: dict[Series, int] = {}
        self._map: list[list[int]] = []
        self._places = np.zeros((0, len(self.levels)), dtype=np.intp)
        self._last: tuple[Sequence[Series], Indexes] | None = None
        self._fields = [CHANNELS[name] for name in self.channels]
        self.cum: NDArray[np.uint32] = np.zeros((len(self.channels), FIRST_ROWS + 1, FIRST_COLUMNS), dtype=np.uint32)

    def row_of(self, start: int) -> int:
        """The row of the window that starts then; negative or beyond the last when it is not remembered."""
        return start // self.window_ms - self.first

    def start_of(self, row: int) -> int:
        """Start of the window of that row."""
        return (self.first + row) * self.window_ms

    def append(self, block: Block) -> None:
        """Add the newest windows; windows left out before them count nothing, however many they are."""
        row = self.row_of(block.start) if self.rows else 0
        if not self.rows:
            self.first = block.start // self.window_ms
        elif row - self.rows >= self.limit:
            self.first, self.rows, row = block.start // self.window_ms, 0, 0
            self.cum[:, 0] = 0
        fresh = self._sums(block)
        row -= self._make_room(row, len(block))
        if row > self.rows:
            self.cum[:, self.rows + 1 : row + 1] = self.cum[:, self.rows, None]
        end = row + len(block)
        np.cumsum(fresh, axis=1, dtype=np.uint32, out=self.cum[:, row + 1 : end + 1])
        self.cum[:, row + 1 : end + 1] += self.cum[:, row, None]
        self.rows = end

    def add(self, block: Block) -> None:
        """Add one remembered window's further counts."""
        self.shift(block.start, self._sums(block)[:, 0])

    def revise(self, block: Block) -> NDArray[np.uint32]:
        """Replace the counts of one remembered window by these, which are all of them.

        Returns:
            The change, as ``shift`` takes it.
        """
        fresh = self._sums(block)[:, 0]
        row = self.row_of(block.start)
        change: NDArray[np.uint32] = fresh - (self.cum[:, row + 1] - self.cum[:, row])
        self.shift(block.start, change)
        return change

    def shift(self, start: int, change: NDArray[np.uint32]) -> None:
        """Add to the counts of one remembered window; ``change`` has the shape (channels, columns), modulo 2**32."""
        row = self.row_of(start)
        where = np.flatnonzero(change.any(axis=0))
        if where.size:
            self.cum[:, row + 1 : self.rows + 1, where] += change[:, None, where]

    def places(self, series: Sequence[Series]) -> Indexes:
        """The columns that each series counts into, one per level: shape (series, levels).

        The blocks of a history share one list of series, which is looked up once.
        """
        if self._last is not None and self._last[0] is series:
            return self._last[1]
        base = self._base
        ids = []
        for one in series:
            number = base.get(one)
            if number is None:
                number = base[one] = len(base)
                self._map.append([self._column(one, level) for level in self.levels])
            ids.append(number)
        if len(self._map) != len(self._places):
            self._widen()
            self._places = np.array(self._map, dtype=np.intp).reshape(len(self._map), len(self.levels))
        places = self._places[ids]
        self._last = (series, places)
        return places

    def sums(self, channel: str, begin: Indexes, end: Indexes, columns: Indexes | None = None) -> Floats:
        """Sums over rows [begin, end), clipped to what is remembered, of some columns, ascending, or of all.

        Shape (len(begin), columns).
        """
        cum = self.cum[self.channels.index(channel), :, : len(self.columns)]
        upper, lower = (np.minimum(np.maximum(rows, 0), self.rows) for rows in (end, begin))
        if columns is None or not columns.size:
            found = cum[upper] - cum[lower]
        elif columns[-1] - columns[0] == columns.size - 1:
            # Neighbours, in order: several times faster.
            near = cum[:, columns[0] : columns[-1] + 1]
            found = near[upper] - near[lower]
        else:
            found = cum[upper[:, None], columns] - cum[lower[:, None], columns]
        return found.astype(np.float64)

    def only(self, columns: Indexes) -> Counts:
        """A copy of neighbouring columns, close together in memory, for reading again and again."""
        near = copy.copy(self)
        near.columns = dict(zip(list(self.columns)[columns[0] : columns[-1] + 1], range(len(columns)), strict=True))
        near.cum = np.ascontiguousarray(self.cum[:, : self.rows + 1, columns[0] : columns[-1] + 1])
        return near

    def each(self, channel: str, begin: int, end: int, columns: Indexes | slice) -> Floats:
        """The counts of every row in [begin, end), zeros where nothing is remembered: shape (rows, columns)."""
        cum = self.cum[self.channels.index(channel), :, : len(self.columns)]
        low, high = max(begin, 0), min(end, self.rows)
        found = np.diff(cum[low : max(high, low) + 1, columns], axis=0).astype(np.float64)
        before, after = low - begin, end - max(high, low)
        return np.pad(found, ((before, after), (0, 0))) if before or after else found

    def _column(self, series: Series, level: tuple[str, ...]) -> int:
        """The column of a series at a level, made when it is new."""
        column = Column(level, series.step, tuple(map(series.value, level)))
        return self.columns.setdefault(column, len(self.columns))

    def _widen(self) -> None:
        """Make room for all columns, and some more."""
        channels, rows, width = self.cum.shape
        if len(self.columns) > width:
            old = self.cum
            self.cum = np.zeros((channels, rows, max(len(self.columns), width + width // 4)), dtype=np.uint32)
            # Only what is remembered: the system gives out no memory for rows that are not written yet.
            self.cum[:, : self.rows + 1, :width] = old[:, : self.rows + 1]

    def _sums(self, block: Block) -> NDArray[np.uint32]:
        """The counts by channel, window and column."""
        places = self.places(block.series)
        width = self.cum.shape[2]
        sums = np.zeros((len(self.channels), len(block) * width), dtype=np.uint32)
        for level in range(len(self.levels)):
            cells = block.rows * width + places[block.places, level]
            for channel, field in enumerate(self._fields):
                added = np.bincount(cells, block.tallies[:, field], minlength=sums.shape[1])
                # Through 64 bits: a sum beyond 32 wraps, as all sums here do.
                sums[channel] += added.astype(np.int64).astype(np.uint32)
        return sums.reshape(len(self.channels), len(block), width)

    def _make_room(self, row: int, fresh: int) -> int:
        """Let ``fresh`` rows be stored from ``row`` on; how many rows were forgotten at the front for it."""
        capacity = self.cum.shape[1] - 1
        if row + fresh <= capacity:
            return 0
        drop = max(0, row + 1 - self.limit)
        kept = max(0, self.rows - drop)
        grown, whole = max(2 * capacity, row + fresh - drop + 1), self.limit + self.limit // SPARE + fresh + 1
        # The system gives out no memory for rows that are not written yet, so the array may have its final size.
        grown = whole if 2 * grown > whole else grown
        old, rows = self.cum, slice(self.rows - kept, self.rows + 1)
        if grown <= capacity:
            # In place, in pieces that do not overlap: no second copy of weeks of counts.
            size = max(1, rows.start)
            for begin in range(0, kept + 1, size):
                end = min(begin + size, kept + 1)
                old[:, begin:end] = old[:, rows.start + begin : rows.start + end]
        else:
            self.cum = np.zeros((old.shape[0], grown + 1, old.shape[2]), dtype=np.uint32)
            self.cum[:, : kept + 1] = old[:, rows]
        self.rows, self.first = kept, self.first + drop
        return drop
