"""Small numbers for series, so that events can be grouped without making their strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.schemas.funnels import context_keys, dimensions_of
from funnelwatch.schemas.page import joined
from funnelwatch.stream.intake.hash_table import HashTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from funnelwatch.schemas.admission import Admission
    from funnelwatch.schemas.arrays import Ints, Words
    from funnelwatch.schemas.bulk import Columns
    from funnelwatch.schemas.funnels import Funnels

    Admit = Callable[[Iterable[Series]], Mapping[Series, Admission]]

UNCOUNTABLE = -1
_UNKNOWN = -2

MOST_SERIES = 200_000
"""With more, all are forgotten and found anew: garbage in a dimension must not fill the memory."""


class SeriesIds:
    """Numbers series as they come; for one thread.

    Attributes:
        names: the series of each number. ``forget`` begins another list and leaves this one as it is.

    Args:
        funnels: the declared funnels.
        is_countable: whether the names are acceptable; asked once a series.
        admit: what acceptable series count as, or why they are rejected; None: as they are.
    """

    def __init__(self, funnels: Funnels, is_countable: Callable[[Series], bool], admit: Admit | None = None) -> None:
        self._funnels = funnels
        self._dimensions = (*DIMENSION_FIELDS, *context_keys(funnels))
        self._is_countable = is_countable
        self._admit = admit
        self._start()

    def _start(self) -> None:
        self.names: list[Series] = []
        self._by_name: dict[Series, int] = {}
        self._by_digest = HashTable()

    def forget(self) -> None:
        """Begin anew where there are too many; numbers from before belong to the former ``names``."""
        if max(len(self.names), len(self._by_digest)) > MOST_SERIES:
            self._start()

    def of_columns(self, columns: Columns) -> Ints:
        """The number of each record's series; ``UNCOUNTABLE`` where its names are not acceptable."""
        # By digest, so that the strings of a series are decoded once and not for each of its events.
        digests = joined(self._sums(columns))
        numbers = self._by_digest.get(digests, _UNKNOWN)
        unknown = np.flatnonzero(numbers == _UNKNOWN)
        if unknown.size:
            fresh, first = np.unique(digests[unknown], return_index=True)
            order = np.argsort(first)  # as they came, so that of many new names the first are admitted
            fresh, first = fresh[order], first[order]
            found = [self._read(columns, at) for at in unknown[first].tolist()]
            admitted = self.admitted([one for one in found if self._is_countable(one)])
            counted = [admitted.get(one) for one in found]
            self._by_digest.put(
                fresh, np.array([self.of(one) if isinstance(one, Series) else UNCOUNTABLE for one in counted])
            )
            numbers[unknown] = self._by_digest.get(digests[unknown], UNCOUNTABLE)
        return numbers

    def _sums(self, columns: Columns) -> Iterator[Words]:
        """The sums of the names of each record's series; zeros for a dimension that its funnel does not have."""
        funnels = columns.sums("funnel")
        yield from (funnels, columns.sums("step"))
        if (funnels == funnels[0]).all():
            first, rows = np.zeros(1, np.int64), np.zeros(funnels.size, np.int64)
        else:
            _, first, rows = np.unique(funnels, return_index=True, return_inverse=True)
        having = [dimensions_of(columns.text("funnel", at), self._funnels) for at in first.tolist()]
        for name in self._dimensions:
            has = [name in names for names in having]
            if all(has):
                yield columns.sums(name)
            elif any(has):
                yield columns.sums(name) * np.array(has, np.uint64)[rows]
            else:
                yield np.zeros(funnels.size, np.uint64)

    def _read(self, columns: Columns, at: int) -> Series:
        funnel = columns.text("funnel", at)
        values = {name: columns.text(name, at) for name in dimensions_of(funnel, self._funnels)}
        return Series.of(funnel, columns.text("step", at), **values)

    def admitted(self, found: Sequence[Series]) -> Mapping[Series, Admission]:
        """What series count as, or why they are rejected."""
        return self._admit(found) if self._admit and found else {one: one for one in found}

    def of(self, series: Series) -> int:
        """The number of a series."""
        number = self._by_name.setdefault(series, len(self.names))
        if number == len(self.names):
            self.names.append(series)
        return number
