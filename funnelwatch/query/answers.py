"""What is asked about rates, and the answer: the same object for the command line, the query API and the board."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from funnelwatch.format import clock
from funnelwatch.sinks.timescale.rates import DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from funnelwatch.schemas.freshness import Freshness
    from funnelwatch.sinks.timescale.rates import Basis, Dimension, Rate, Scope


FORMULA: Final = re.compile(
    r"[\s\x00-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060\ufeff]*+[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\0]"
)
"""The begin of a formula, also in full width or behind what nobody sees; and of what moves into the next cell."""
NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RateQuery:
    """What is asked.

    Attributes:
        scope: what to count.
        since_ms: start, ms, UTC.
        until_ms: end, exclusive, ms, UTC.
        now_ms: when it is asked, ms, UTC: what is kept depends on it.
        by: dimensions to tell apart.
        basis: what dates a success.
        every_ms: length of the spans of time to tell apart; None: one span, the whole range.
        closed: only windows that are complete.
    """

    scope: Scope
    since_ms: int
    until_ms: int
    now_ms: int
    by: tuple[Dimension, ...] = ()
    basis: Basis = "window"
    every_ms: int | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class RateResult:
    """Rates, and what they were asked for; times in ms.

    Attributes:
        question: as it was asked.
        from_ms: start of the range as it was widened.
        to_ms: its end, exclusive.
        window_ms: length of a window.
        closed_through: windows that start before this are complete; None while none is.
        rates: by step in the funnel's order, then by dimensions, then by time.
        found: whether anything is counted in the range; else ``rates`` are zeros of declared steps, or none.
        freshness: whether windows close and are judged; None: it was not asked.
    """

    question: RateQuery
    from_ms: int
    to_ms: int
    window_ms: int
    closed_through: int | None
    rates: Sequence[Rate]
    found: bool
    freshness: Freshness | None = None

    @property
    def old(self) -> str | None:
        """Why these figures are old or nobody knows whether they are; None if they are current, or complete anyway."""
        through = self.closed_through
        if self.freshness is None or self.freshness.state == "fresh":
            return None
        return None if through is not None and self.question.until_ms <= through else self.freshness.message

    @property
    def open_ms(self) -> int:
        """How much of the range is in windows that still grow."""
        through = self.from_ms if self.closed_through is None else self.closed_through
        return min(self.to_ms - self.from_ms, max(0, self.to_ms - through))

    @property
    def filters(self) -> dict[str, str]:
        """What was chosen beside the funnel."""
        chosen = {name: getattr(self.question.scope, name) for name in ("step", *DIMENSIONS)}
        return {name: value for name, value in chosen.items() if value is not None}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each rate; times ISO 8601 UTC, rates 0 to 1 or None."""
        return [_row(rate, self.question.by) for rate in self.rates]

    def as_object(self) -> dict[str, Any]:
        """One object for JSON."""
        return {
            "funnel": self.question.scope.funnel,
            "filters": self.filters,
            "basis": self.question.basis,
            "from": clock(self.from_ms),
            "to": clock(self.to_ms),
            "window_s": self.window_ms / 1000,
            "complete_through": None if self.closed_through is None else clock(self.closed_through),
            "includes_open_windows": self.open_ms > 0,
            **({} if self.freshness is None else {"freshness": self.freshness.as_object()}),
            "rows": self.rows(),
        }

    def columns(self) -> list[str]:
        """The fields of a row, in order."""
        start = ["start"] if self.question.every_ms else []
        return [*start, "step", *self.question.by, "impressions", "successes", "failures", "rate", "low", "high"]

    def as_csv(self) -> str:
        """The rows with a header; empty where there is no rate."""
        return as_csv(self.columns(), self.rows())


def _row(rate: Rate, by: Sequence[Dimension]) -> dict[str, Any]:
    low, high = rate.interval or (None, None)
    return {
        **({} if rate.start_ms is None else {"start": clock(rate.start_ms)}),
        "step": rate.step,
        **{dimension: getattr(rate, dimension) for dimension in by},
        "impressions": rate.impressions,
        "successes": rate.successes,
        "failures": rate.failures,
        "rate": rate.rate,
        "low": low,
        "high": high,
    }


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows with a header; empty where there is no value.

    A text that a spreadsheet would take for a formula has an apostrophe before it; numbers are as they are.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in chain([columns], ([one.get(column) for column in columns] for one in rows)):
        cells = [plain_cell(cell) for cell in row]
        # Before Python 3.13 a carriage return alone is not quoted, and begins a row in a spreadsheet.
        (quoting if any("\r" in cell for cell in cells if isinstance(cell, str)) else writer).writerow(cells)
    return out.getvalue()


def plain_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula (OWASP, "CSV Injection"): a text gets an apostrophe before it.

    Texts come from events, which anybody may send. A text that is a number, such as ``-1``, is none.
    """
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    return f"'{value}" if FORMULA.match(value) else value
