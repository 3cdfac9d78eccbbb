"""Small numbers for series, so that events can be counted without making their strings."""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.stream.native.library import enough_memory, native

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.counts import Series

UNCOUNTABLE = -1
"""In the place of a number: no event with these names is counted."""

PROVISIONAL = -2
"""``PROVISIONAL - n`` stands for the n-th of the digests, which nobody has decided about yet."""

MOST_SERIES = 200_000
"""With more, all are forgotten and found anew: garbage in a dimension must not fill the memory."""


class SeriesNumbers:
    """Numbers series as they come; for one thread.

    Attributes:
        names: the series of each number.
        handle: ``struct series`` of decoder.h, which has the numbers by the digests of the names.
    """

    def __init__(self) -> None:
        library = native()
        self.names: list[Series] = []
        self._by_name: dict[Series, int] = {}
        self.handle = library.fw_series_new()
        enough_memory(self.handle)
        weakref.finalize(self, library.fw_series_free, self.handle)

    @property
    def is_full(self) -> bool:
        """Whether they should be forgotten."""
        return max(len(self.names), int(native().fw_series_size(self.handle))) > MOST_SERIES

    def of(self, series: Series) -> int:
        """The number of a series."""
        number = self._by_name.setdefault(series, len(self.names))
        if number == len(self.names):
            self.names.append(series)
        return number

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
