"""Parses the parameters of queries; the command line, the query API and the board share these parsers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.metrics import DIMENSION
from funnelwatch.schemas.times import SPAN, iso, parse_span_ms, parse_time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def parse_where(texts: Iterable[str]) -> dict[str, str]:
    """The parameter ``where``: dimensions with the value to select, from ``os=iOS``.

    Raises:
        BadQueryError: a text has another form, or a dimension occurs twice.
    """
    where: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not DIMENSION.fullmatch(name):
            raise BadQueryError("where", f"{text!r} is not NAME=VALUE, such as os=iOS")
        if name in where:
            raise BadQueryError("where", f"{name} occurs more than once; select one value at a time")
        where[name] = value
    return where
