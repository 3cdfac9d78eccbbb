"""Small numbers for series, so that events can be counted without making their strings."""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import MOST_STEPS, SESSION_WINDOW_MS
from funnelwatch.stream.native.digests import digests_of
from funnelwatch.stream.native.library import PLACE, enough_memory, native

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.funnels import Funnels

    Places = NDArray[np.void]

UNCOUNTABLE = -1
"""In the place of a number: no event with these names is counted."""

PROVISIONAL = -2
"""``PROVISIONAL - n`` stands for the n-th of the digests, which nobody has decided about yet."""

MOST_SERIES = 200_000
"""With more names of series, all are forgotten and found anew: garbage in a dimension must not fill the memory."""

NO_STEP = -1
"""In the place of a step: sessions are not counted."""


class NumberedSeries:
    """Numbers series as they come, and keeps the numbers; for one thread.

    The series of a declared funnel with the same dimensions have numbers in a row, in the order of the steps.

    Args:
        funnels: the declared funnels.

    Attributes:
        names: the series of each number.
    """

    def __init__(self, funnels: Funnels) -> None:
        self.names: list[Series] = []
        self._funnels = funnels
        self._by_name: dict[Series, int] = {}
        self._places = np.zeros(1024, PLACE)
        self._digests: dict[str, int] = {}
        self._steps: dict[str, dict[str, int]] = {}

    @property
    def places(self) -> Places:
        """Where the series of each number stands in its funnel."""
        return self._places[: len(self.names)]

    def of(self, series: Series) -> int:
        """The number of a series."""
        number = self._by_name.get(series)
        return self._add(series) if number is None else number

    def _add(self, series: Series) -> int:
        name = series.funnel
        funnel = self._funnels.get(name)
        if name not in self._digests:
            self._digests[name] = int(digests_of([name])[0])
        if funnel is None or series.step not in funnel.steps:
            steps = self._steps.setdefault(name, {})
            step = steps.setdefault(series.step, len(steps))
            self._place(series, (self._digests[name], SESSION_WINDOW_MS, step if step < MOST_STEPS else NO_STEP, -1))
        else:
            first = len(self.names)
            for step, one in enumerate(funnel.steps):
                place = (self._digests[name], funnel.session_window_ms, step, first)
                self._place(Series(name, one, series.dimensions), place)
        return self._by_name[series]

    def _place(self, series: Series, place: tuple[int, int, int, int]) -> None:
        number = len(self.names)
        if number == self._places.size:
            self._places = np.concatenate([self._places, np.zeros(number, PLACE)])
        self._places[number] = place
        self._by_name[series] = number
        self.names.append(series)


class SeriesNumbers:
    """The numbers of series by the digests of their names; for one thread.

    Args:
        known: numbers the series.

    Attributes:
        known: numbers the series.
        handle: ``struct series`` of decoder.h, which has the numbers by the digests of the names.
    """

    def __init__(self, known: NumberedSeries) -> None:
        library = native()
        self.known = known
        self.handle = library.fw_series_new()
        enough_memory(self.handle)
        weakref.finalize(self, library.fw_series_free, self.handle)

    @property
    def is_full(self) -> bool:
        """Whether they should be forgotten."""
        return int(native().fw_series_size(self.handle)) > MOST_SERIES

    def decide(self, provisional: Ints, numbers: Iterable[int]) -> None:
        """Give provisional series their numbers, for all records that are decoded from now on."""
        decided = np.fromiter(numbers, np.int32)
        self._numbers()[PROVISIONAL - provisional] = decided

    def settle(self, series: Ints) -> Ints:
        """The numbers of provisional series; those that are not decided about stay as they are."""
        return self._numbers()[PROVISIONAL - series]

    def _numbers(self) -> Ints:
        # They move when series are added, so nobody keeps them.
        library = native()
        size = library.fw_series_size(self.handle)
        at = ctypes.cast(library.fw_series_numbers(self.handle), ctypes.POINTER(ctypes.c_int32))
        return np.ctypeslib.as_array(at, (size,))
