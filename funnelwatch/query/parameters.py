"""Parses the parameters of queries; the command line, the query API and the board share these parsers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from funnelwatch.schemas.dimensions import check_dimension_name
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.metrics import DIMENSION
from funnelwatch.schemas.times import SPAN, iso, parse_span_ms, parse_time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STEP: Final = "step"
"""Filters accept it beside dimensions. Results are always grouped by it."""

MOST_BY: Final = 5
"""Dimensions to group by in one query: more of them give groups too small to compare."""

MOST_VALUES: Final = 100
"""Values in the filters of one query: each is compared with every series of the funnel."""


class BadQueryError(FunnelwatchError, ValueError):
    """A query has an invalid parameter; the message gives the reason and a valid value.

    Args:
        parameter: the name of the invalid parameter: since, until, every, closed, ….
        message: why the parameter is invalid.
    """

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(f"{parameter}: {message}")
        self.parameter = parameter
        self.message = message


class UnknownDimensionError(BadQueryError):
    """A query names a dimension that the funnel does not have; the message lists the dimensions of the funnel.

    Args:
        parameter: by or where.
        dimension: the unknown name.
        funnel: the name of the funnel.
        known: the dimensions of the funnel.
    """

    def __init__(self, parameter: str, dimension: str, funnel: str, known: Sequence[str]) -> None:
        right = f"right would be {', '.join(known)}" if known else "it has none"
        super().__init__(parameter, f"{dimension[:100]!r} is no dimension of {funnel}; {right}")
        self.dimension = dimension
        self.funnel = funnel
        self.known = known


def moment_ms(text: str, now_ms: int) -> int:
    """A point in time, ms: a span before now (15m), ``now``, +10m, or ISO 8601 (UTC where it names no zone).

    Raises:
        ValueError: the text is none of these.
    """
    try:
        moment = now_ms - parse_span_ms(text) if SPAN.fullmatch(text.strip()) else parse_time_ms(text, now_ms)
        iso(moment)  # rejects a time beyond the calendar
    except (ValueError, OverflowError, OSError) as error:
        cause = error.__cause__ or error
        raise ValueError(
            f"{text[:50]!r} is neither a span (90s, 15m, 1h, 7d) nor a time (now, 2026-11-22T10:00:00Z): {cause}"
        ) from error
    return moment


def parse_moment_ms(parameter: str, text: str, now_ms: int) -> int:
    """A parameter that is a point in time, as ``moment_ms``.

    Raises:
        BadQueryError: the text is no point in time.
    """
    try:
        return moment_ms(text, now_ms)
    except ValueError as error:
        raise BadQueryError(parameter, str(error)) from error


def parse_every_ms(text: str | None) -> int | None:
    """The parameter ``every``: the length of each span of time, ms; None: one span, the whole range.

    Raises:
        BadQueryError: the text is no span.
    """
    try:
        return None if text is None else parse_span_ms(text)
    except ValueError as error:
        raise BadQueryError("every", str(error)) from error


def split_names(texts: Iterable[str]) -> list[str]:
    """The names in texts like ``os,country``."""
    return [name.strip() for text in texts for name in text.split(",")]


def parse_by(texts: Iterable[str]) -> tuple[str, ...]:
    """The parameter ``by``: the dimensions to group by, from ``os`` or ``os,country``, each once.

    ``step`` may be among them and changes nothing.

    Raises:
        BadQueryError: a name is invalid, or there are more than ``MOST_BY``.
    """
    names = dict.fromkeys(_dimension("by", name) for name in split_names(texts))
    names.pop(STEP, None)
    if len(names) > MOST_BY:
        raise BadQueryError("by", f"{len(names)} dimensions; group by at most {MOST_BY}")
    return tuple(names)


def parse_filters(texts: Iterable[str]) -> dict[str, list[str]]:
    """The parameter ``where`` of rates: dimensions, or ``step``, with the values to select, from ``os=iOS``.

    A name that occurs twice selects either value. The whole text behind the first ``=`` is one value.

    Raises:
        BadQueryError: a text has another form, or a name is invalid.
    """
    filters: dict[str, list[str]] = {}
    for text in texts:
        name, value = _name_and_value(text)
        filters.setdefault(_dimension("where", name), []).append(value)
    return filters


def check_filters(filters: Mapping[str, Sequence[str]]) -> None:
    """Limit the values of filters.

    Raises:
        BadQueryError: there are more than ``MOST_VALUES``.
    """
    values = sum(map(len, filters.values()))
    if values > MOST_VALUES:
        raise BadQueryError("where", f"{values:,} values; select at most {MOST_VALUES}")


def _dimension(parameter: str, name: str) -> str:
    """The name, if a dimension can have it, or ``step``."""
    try:
        return name if name == STEP else check_dimension_name(name)
    except ValueError as error:
        raise BadQueryError(parameter, str(error)) from error


def _name_and_value(text: str) -> tuple[str, str]:
    """The parts of ``os=iOS``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise BadQueryError("where", f"{text!r} is not NAME=VALUE, such as os=iOS")
    return name, value


def parse_where(texts: Iterable[str]) -> dict[str, str]:
    """The parameter ``where`` of metrics: dimensions with the value to select, from ``os=iOS``.

    Raises:
        BadQueryError: a text has another form, or a dimension occurs twice.
    """
    where: dict[str, str] = {}
    for text in texts:
        name, value = _name_and_value(text)
        if not DIMENSION.fullmatch(name):
            raise BadQueryError("where", f"{text!r} is not NAME=VALUE, such as os=iOS")
        if name in where:
            raise BadQueryError("where", f"{name} occurs more than once; select one value at a time")
        where[name] = value
    return where
