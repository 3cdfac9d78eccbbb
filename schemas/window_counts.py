"""Counts of many series and windows as columns, so that a flush makes no object per row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.histogram import SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from funnelwatch.schemas.arrays import Flags, Ints
    from funnelwatch.schemas.counts import Counts, Durations

WIDTH = len(CountRow._fields)


class Names(Protocol):
    """The series of each number: a list, or a map."""

    def __getitem__(self, number: int, /) -> Series:
        """The series."""


def _none(*shape: int) -> Callable[[], Ints]:
    return lambda: np.zeros(shape, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class WindowCounts:
    """Counts and durations, one row for each window and series, sorted by both.

    Attributes:
        names: the series of each number.
        windows: start of each row's window, ms.
        series: the number of each row's series.
        counts: (rows, 9), a column for each field of a ``CountRow``.
        cells: (cells, 3): row, slot (``funnelwatch.schemas.histogram``) and number of successes of each duration that
            occurs; sorted by row and slot.
    """

    names: Names = ()
    windows: Ints = field(default_factory=_none(0))
    series: Ints = field(default_factory=_none(0))
    counts: Ints = field(default_factory=_none(0, WIDTH))
    cells: Ints = field(default_factory=_none(0, 3))

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.windows)

    def __eq__(self, other: object) -> bool:
        """Whether both count the same, whatever the numbers of their series."""
        if not isinstance(other, WindowCounts):
            return NotImplemented
        return self.by_name() == other.by_name() and self.durations() == other.durations()

    __hash__ = None  # type: ignore[assignment]

    @property
    def events(self) -> Ints:
        """The number of events of each row, each once."""
        found: Ints = self.counts[:, :3].sum(axis=1)
        return found

    def funnels(self) -> tuple[list[str], Ints]:
        """The funnels that occur, and for each row the place of its funnel among them."""
        numbers, rows = np.unique(self.series, return_inverse=True)
        places: dict[str, int] = {}
        of = [places.setdefault(self.names[number].funnel, len(places)) for number in numbers.tolist()]
        return list(places), np.array(of, np.int64)[rows]

    def by_window(self, values: Ints, chosen: Flags) -> dict[tuple[str, int], int]:
        """The sum of a value of each chosen row, by funnel and window."""
        funnels, places = self.funnels()
        keys, at = np.unique(np.stack([places[chosen], self.windows[chosen]]), axis=1, return_inverse=True)
        sums = np.bincount(at.ravel(), values[chosen], keys.shape[1]).astype(np.int64)
        return {
            (funnels[place], window): number
            for place, window, number in zip(*keys.tolist(), sums.tolist(), strict=True)
        }

    def numbered(self, names: Names, numbers: Ints) -> WindowCounts:
        """The same rows with other numbers.

        Args:
            names: the series of each new number.
            numbers: the new number of each old one.
        """
        return self._sorted(names, self.windows, numbers[self.series], self.counts, self.cells)

    def selected(self, rows: slice) -> WindowCounts:
        """Some of the rows."""
        start, end, _ = rows.indices(len(self))
        begin, stop = np.searchsorted(self.cells[:, 0], [start, end])
        cells = self.cells[begin:stop].copy()
        cells[:, 0] -= start
        return WindowCounts(self.names, self.windows[rows], self.series[rows], self.counts[rows], cells)

    @classmethod
    def joined(cls, parts: Sequence[WindowCounts]) -> WindowCounts:
        """The sum of several, which have the same names."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls()
        firsts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        cells = [part.cells + np.array([first, 0, 0]) for part, first in zip(parts, firsts, strict=True)]
        return cls._sorted(
            parts[0].names,
            np.concatenate([part.windows for part in parts]),
            np.concatenate([part.series for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate(cells),
        )

    @classmethod
    def _sorted(cls, names: Names, windows: Ints, series: Ints, counts: Ints, cells: Ints) -> WindowCounts:
        """Rows in any order, a key perhaps more than once."""
        if not windows.size:
            return cls(names)
        first, spread = int(windows.min()), int(series.max()) + 1
        keys, places = np.unique((windows - first) * spread + series, return_inverse=True)
        sums = np.zeros((keys.size, WIDTH), np.int64)
        np.add.at(sums, places, counts)
        slots, at = np.unique(places[cells[:, 0]] * SLOTS + cells[:, 1], return_inverse=True)
        numbers = np.bincount(at, cells[:, 2], slots.size).astype(np.int64)
        return cls(
            names,
            keys // spread + first,
            keys % spread,
            sums,
            np.stack([slots // SLOTS, slots % SLOTS, numbers], axis=1),
        )

    @classmethod
    def of(cls, counts: Counts, durations: Durations | None = None) -> WindowCounts:
        """The columns of counts and durations that are given by name; the key of a duration may have no counts."""
        durations = durations or {}
        keys = list(dict.fromkeys([*counts, *(key[:2] for key in durations)]))
        numbers: dict[Series, int] = {}
        series = [numbers.setdefault(one, len(numbers)) for _, one in keys]
        places = {key: place for place, key in enumerate(keys)}
        zeros = [0] * WIDTH
        cells = [(places[key[:2]], key[2], values[0]) for key, values in durations.items()]
        return cls._sorted(
            list(numbers),
            np.array([key[0] for key in keys], np.int64),
            np.array(series, np.int64),
            np.array([counts.get(key, zeros) for key in keys], np.int64).reshape(-1, WIDTH),
            np.array(cells, np.int64).reshape(-1, 3),
        )

    def by_name(self) -> Counts:
        """The counts by name."""
        rows = zip(self.windows.tolist(), self.series.tolist(), self.counts.tolist(), strict=True)
        return {(window, self.names[number]): counts for window, number, counts in rows}

    def durations(self) -> Durations:
        """The durations by name."""
        windows, series = self.windows.tolist(), self.series.tolist()
        return {(windows[row], self.names[series[row]], slot): [number] for row, slot, number in self.cells.tolist()}
