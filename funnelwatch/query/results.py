"""The result of a rate query, as rows, JSON and CSV."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from funnelwatch.format import clock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from funnelwatch.query.rate_query import RateQuery
    from funnelwatch.schemas.freshness import Freshness
    from funnelwatch.sinks.timescale.rates import Basis, Rate
    from funnelwatch.sinks.timescale.timers import Timer

FORMULA: Final = re.compile(
    r"[\s\x00-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060\ufeff]*+[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\0]"
)
"""The start of a formula, also in full width or behind invisible characters; also separators of cells."""
NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)

QUANTILES: Final = ("p50_ms", "p90_ms", "p99_ms")
COUNTS: Final[Mapping[Basis, tuple[str, ...]]] = {
    "window": ("impressions", "successes", "failures"),
    "cohort": ("impressions", "successes", "failures"),
    "session": ("sessions", "session_successes", "open"),
}
"""Basis to the fields of its counts."""
OF_FUNNELS: Final = ("position", "reached", "of_first", "of_previous", "completed", "dropped", "entered")
FIELDS: Final = frozenset(
    ("start", "step", *COUNTS["window"], *COUNTS["session"], "rate", "low", "high", "conversions", *QUANTILES)
).union(OF_FUNNELS)
"""The fields of rows of rates, counts, times to convert and funnels, beside dimensions."""


@dataclass(frozen=True, slots=True)
class RateResult:
    """Rates, with the query that they answer; times in ms.

    Attributes:
        query: the query.
        from_ms: start of the range, widened to whole windows or spans.
        to_ms: end of the range, exclusive.
        window_ms: length of a window.
        closed_through: windows that start before this are complete; None while none is.
        rates: by step in the funnel's order, then by the values of dimensions, then by time.
        found: whether the range has counts; else ``rates`` are zeros of declared steps, or none.
        freshness: whether windows close and the detector evaluates them; None: not read.
    """

    query: RateQuery
    from_ms: int
    to_ms: int
    window_ms: int
    closed_through: int | None
    rates: Sequence[Rate]
    found: bool
    freshness: Freshness | None = None

    @property
    def old(self) -> str | None:
        """Why these figures are stale, or may be; None for current figures and complete ranges."""
        return old_of(self.freshness, self.closed_through, self.query)

    @property
    def open(self) -> int:
        """By sessions, how many of them are younger than the session window."""
        return sum(rate.open for rate in self.rates)

    @property
    def open_ms(self) -> int:
        """The part of the range in open windows, ms."""
        return open_part(self.from_ms, self.to_ms, self.closed_through)

    @property
    def filters(self) -> dict[str, list[str]]:
        """Dimensions, or step, with the selected values."""
        return {name: list(values) for name, values in self.query.scope.filters.items()}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each rate; times ISO 8601 UTC, rates 0 to 1 or None."""
        return [_row(rate, self.query.basis) for rate in self.rates]

    def as_object(self) -> dict[str, Any]:
        """One object for JSON."""
        return {
            "funnel": self.query.scope.funnel,
            "filters": self.filters,
            "basis": self.query.basis,
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
        return row_fields(self.query, (*COUNTS[self.query.basis], "rate", "low", "high"))

    def as_csv(self) -> str:
        """The rows with a header; empty where there is no rate."""
        return as_csv(self.columns(), self.rows())


def open_part(from_ms: int, to_ms: int, closed_through: int | None) -> int:
    """The part of a range that is not closed, ms."""
    through = from_ms if closed_through is None else closed_through
    return min(to_ms - from_ms, max(0, to_ms - through))


def old_of(freshness: Freshness | None, closed_through: int | None, query: RateQuery) -> str | None:
    """Why figures of a query are stale, or may be; None for current figures and complete ranges."""
    if freshness is None or freshness.state == "fresh":
        return None
    return None if closed_through is not None and query.until_ms <= closed_through else freshness.message


def dimension_field(name: str) -> str:
    """The field of a dimension in rows: its name, behind ``dimensions.`` where another field has that name."""
    return f"dimensions.{name}" if name in FIELDS else name


def row_fields(query: RateQuery, figures: Collection[str]) -> list[str]:
    """The fields of the rows of a result, in order."""
    return [*(["start"] if query.every_ms else []), "step", *map(dimension_field, query.by), *figures]


def group_fields(one: Rate | Timer) -> dict[str, Any]:
    """The fields that tell the group of a row: its start, step and dimensions."""
    return {
        **({} if one.start_ms is None else {"start": clock(one.start_ms)}),
        "step": one.step,
        **{dimension_field(name): value for name, value in one.dimensions.items()},
    }


def _row(rate: Rate, basis: Basis) -> dict[str, Any]:
    low, high = rate.interval or (None, None)
    counts = (rate.impressions, rate.successes, rate.open if basis == "session" else rate.failures)
    return {
        **group_fields(rate),
        **dict(zip(COUNTS[basis], counts, strict=True)),
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
