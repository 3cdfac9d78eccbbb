"""What a page asks to see: the filters of its address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.times import MINUTE_MS
from funnelwatch.sinks.timescale.rates import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.schemas.counts import Series

RANGES = {"15m": 15 * MINUTE_MS, "1h": 60 * MINUTE_MS, "6h": 360 * MINUTE_MS, "24h": 1440 * MINUTE_MS}
"""How far back the time line goes, ms."""
MOST_POINTS = 130
"""A time line has at most about this many points; longer ranges are drawn in coarser spans."""
LONGEST_VALUE = 500


class QuestionError(FunnelwatchError, ValueError):
    """A parameter cannot be used; the message says what would be right."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Question:
    """Which counts, and how far back; None: all of a dimension. Empty is a value: events that named none."""

    funnel: str = "sign_up"
    os: str | None = None
    browser: str | None = None
    app_version: str | None = None
    since: str = "1h"

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Question:
        """The question in an address's parameters.

        Raises:
            QuestionError: a parameter cannot be used.
        """
        unknown = sorted(set(given) - {"funnel", "os", "browser", "app_version", "since"})
        if unknown:
            raise QuestionError(unknown[0], "no such filter: there are funnel, os, browser, app_version and since")
        for name, value in given.items():
            if len(value) > LONGEST_VALUE or "\0" in value:
                raise QuestionError(name, f"at most {LONGEST_VALUE} characters, and no zero byte")
        question = cls(**given)
        if question.since not in RANGES:
            raise QuestionError("since", f"one of {', '.join(RANGES)}")
        return question

    @property
    def scope(self) -> Scope:
        """What to count."""
        return Scope(self.funnel, os=self.os, browser=self.browser, app_version=self.app_version)

    @property
    def range_ms(self) -> int:
        """How far back."""
        return RANGES[self.since]

    def every_ms(self, window_ms: int) -> int:
        """Length of the spans of the time line: whole windows, and as few as make at most ``MOST_POINTS``."""
        return max(1, -(-self.range_ms // (MOST_POINTS * window_ms))) * window_ms

    def has(self, series: Series) -> bool:
        """Whether a series is asked for."""
        return (
            (self.os is None or series.os == self.os)
            and (self.browser is None or series.browser == self.browser)
            and (self.app_version is None or series.app_version == self.app_version)
        )
