"""How many series Prometheus gets: a fixed number, and what is beyond it added up under one name. Pure.

Which series has a name of its own must never change: one that vanished and came back, or moved into another, would
read as a fall and a jump. So it is first come, first served, and what came later is folded for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Labels = tuple[str, ...]

OTHER = "(other)"
"""The value of each label by which what is folded is not told apart any more."""


class Folding:
    """Gives at most so many series names of their own; remembers which.

    Args:
        limit: how many.
        kept: how many of the first labels a folded series keeps, where series that came before have them as well.
    """

    def __init__(self, limit: int, kept: int) -> None:
        self.limit = limit
        self._kept = kept
        self._own: set[Labels] = set()
        self._folded: set[Labels] = set()
        self._known: set[Labels] = set()

    @property
    def folded(self) -> int:
        """How many series have no name of their own."""
        return len(self._folded)

    def take(self, series: Iterable[Labels]) -> None:
        """Let series in, in their order, as long as there is room."""
        for labels in series:
            if labels in self._own or labels in self._folded:
                continue
            if len(self._own) < self.limit:
                self._own.add(labels)
                self._known.update(labels[:kept] for kept in range(1, self._kept + 1))
            else:
                self._folded.add(labels)

    def name(self, labels: Labels) -> Labels:
        """The labels under which a series is shown."""
        if labels in self._own:
            return labels
        kept = next((kept for kept in range(self._kept, 0, -1) if labels[:kept] in self._known), 0)
        return labels[:kept] + (OTHER,) * (len(labels) - kept)
