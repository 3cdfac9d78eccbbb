"""The query of a board page: the filters in its address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.query.parameters import BadQueryError
from funnelwatch.schemas.dimensions import check_dimension_name
from funnelwatch.schemas.times import parse_span_ms
from funnelwatch.sinks.timescale.rates import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.schemas.counts import Series

RANGES = {span: parse_span_ms(span) for span in ("15m", "1h", "6h", "24h")}
"""Lengths of the time line, ms."""
MOST_POINTS = 130
"""A time line has at most about this many points; longer ranges are drawn in coarser spans."""
LONGEST_VALUE = 500


MOST_FILTERS = 10
FUNNEL, SINCE = "sign_up", "1h"
NO_DIMENSIONS = frozenset({"funnel", "since"})
"""Parameters that are no dimensions."""


@dataclass(frozen=True, slots=True)
class BoardQuery:
    """The counts that a page shows, and how far back.

    Attributes:
        funnel: the funnel.
        filters: name and value of each chosen dimension, sorted; an empty value chooses events without one.
        since: a key of ``RANGES``.
    """

    funnel: str = FUNNEL
    filters: tuple[tuple[str, str], ...] = ()
    since: str = SINCE

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> BoardQuery:
        """The query that the parameters of an address name.

        Raises:
            BadQueryError: a parameter is invalid.
        """
        for name, value in given.items():
            if len(value) > LONGEST_VALUE or "\0" in value:
                raise BadQueryError(name[:LONGEST_VALUE], f"at most {LONGEST_VALUE} characters, and no zero byte")
        chosen = {name: value for name, value in given.items() if name not in NO_DIMENSIONS}
        for name in sorted(chosen):
            try:
                check_dimension_name(name)
            except ValueError as error:
                raise BadQueryError(name[:LONGEST_VALUE], f"there are funnel, since and dimensions: {error}") from None
        if len(chosen) > MOST_FILTERS:
            raise BadQueryError(max(chosen), f"at most {MOST_FILTERS} dimensions can be chosen")
        query = cls(given.get("funnel", FUNNEL), tuple(sorted(chosen.items())), given.get("since", SINCE))
        if query.since not in RANGES:
            raise BadQueryError("since", f"one of {', '.join(RANGES)}")
        return query

    @property
    def scope(self) -> Scope:
        """The events to count."""
        return Scope(self.funnel, {name: (value,) for name, value in self.filters})

    @property
    def range_ms(self) -> int:
        """Length of the time line, ms."""
        return RANGES[self.since]

    def every_ms(self, window_ms: int) -> int:
        """Length of each span of the time line, ms: whole windows, at most ``MOST_POINTS`` spans."""
        return max(1, -(-self.range_ms // (MOST_POINTS * window_ms))) * window_ms

    def has(self, series: Series) -> bool:
        """Whether the filters select a series."""
        return all(series.value(name) == value for name, value in self.filters)
