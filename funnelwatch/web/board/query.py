"""The query of a board page: the filters in its address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.query.parameters import BadQueryError
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


@dataclass(frozen=True, slots=True)
class BoardQuery:
    """The counts that a page shows, and how far back; None: every value of a dimension; empty: events without one."""

    funnel: str = "sign_up"
    os: str | None = None
    browser: str | None = None
    app_version: str | None = None
    since: str = "1h"

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> BoardQuery:
        """The query that the parameters of an address name.

        Raises:
            BadQueryError: a parameter is invalid.
        """
        unknown = sorted(set(given) - {"funnel", "os", "browser", "app_version", "since"})
        if unknown:
            raise BadQueryError(unknown[0], "no such filter: there are funnel, os, browser, app_version and since")
        for name, value in given.items():
            if len(value) > LONGEST_VALUE or "\0" in value:
                raise BadQueryError(name, f"at most {LONGEST_VALUE} characters, and no zero byte")
        query = cls(**given)
        if query.since not in RANGES:
            raise BadQueryError("since", f"one of {', '.join(RANGES)}")
        return query

    @property
    def scope(self) -> Scope:
        """The events to count."""
        return Scope(self.funnel, os=self.os, browser=self.browser, app_version=self.app_version)

    @property
    def range_ms(self) -> int:
        """Length of the time line, ms."""
        return RANGES[self.since]

    def every_ms(self, window_ms: int) -> int:
        """Length of each span of the time line, ms: whole windows, at most ``MOST_POINTS`` spans."""
        return max(1, -(-self.range_ms // (MOST_POINTS * window_ms))) * window_ms

    def has(self, series: Series) -> bool:
        """Whether the filters select a series."""
        return (
            (self.os is None or series.value("os") == self.os)
            and (self.browser is None or series.value("browser") == self.browser)
            and (self.app_version is None or series.value("app_version") == self.app_version)
        )
