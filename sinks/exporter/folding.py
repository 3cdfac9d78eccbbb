"""Limits the series that Prometheus gets: series beyond the limit are added up under one name. Pure.

A series must keep its name: a series that vanished and came back, or moved into another one, would look like a fall and
a jump. So the first series keep names of their own, and later ones stay folded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

Labels = tuple[str, ...]

OTHER = "(other)"
"""The value of each label by which folded series are not distinguished."""


class Folding:
    """Gives a limited number of series names of their own, and remembers which.

    Args:
        limit: most series with names of their own.
        kept: how many of the first labels a folded series keeps, where series that came before have them as well.
        declared: first labels that may have all names; the others may have half of them, so that invented funnels
            leave room for series of declared ones. None: all may.
    """

    def __init__(self, limit: int, kept: int, declared: Container[str] | None = None) -> None:
        self.limit = limit
        self._kept = kept
        self._declared = declared
        self._others = 0
        self._own: set[Labels] = set()
        self._folded: set[Labels] = set()
        self._known: set[Labels] = set()

    @property
    def folded(self) -> int:
        """The number of folded series."""
        return len(self._folded)

    def take(self, series: Iterable[Labels]) -> None:
        """Admit series in their order while there is room."""
        for labels in series:
            if labels in self._own or labels in self._folded:
                continue
            is_other = self._declared is not None and labels[0] not in self._declared
            if len(self._own) < self.limit and not (is_other and self._others >= self.limit // 2):
                self._own.add(labels)
                self._others += is_other
                self._known.update(labels[:kept] for kept in range(1, self._kept + 1))
            else:
                self._folded.add(labels)

    def name(self, labels: Labels) -> Labels:
        """The labels under which a series is shown."""
        if labels in self._own:
            return labels
        kept = next((kept for kept in range(self._kept, 0, -1) if labels[:kept] in self._known), 0)
        return labels[:kept] + (OTHER,) * (len(labels) - kept)
