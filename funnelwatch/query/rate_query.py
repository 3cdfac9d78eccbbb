"""A query about rates, the same object for the command line, the query API and the board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.query.parameters import check_filters, parse_by, parse_every_ms, parse_moment_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.sinks.timescale.rates import Basis, Scope


@dataclass(frozen=True, slots=True)
class RateQuery:
    """A query about rates.

    Attributes:
        scope: the events to count.
        since_ms: start, ms, UTC.
        until_ms: end, exclusive, ms, UTC.
        now_ms: the time of the query, ms, UTC; retention depends on it.
        by: dimensions to group by.
        basis: the time that dates a success.
        every_ms: length of each span of time to group by; None: one span, the whole range.
        closed: only complete windows.
    """

    scope: Scope
    since_ms: int
    until_ms: int
    now_ms: int
    by: tuple[str, ...] = ()
    basis: Basis = "window"
    every_ms: int | None = None
    closed: bool = False

    @classmethod
    def parse(
        cls,
        scope: Scope,
        now_ms: int,
        *,
        since: str,
        until: str,
        by: Iterable[str] = (),
        basis: Basis = "window",
        every: str | None = None,
        closed: bool = False,
    ) -> RateQuery:
        """The query that the texts of a user name.

        Args:
            scope: the events to count.
            now_ms: the time of the query, ms, UTC.
            since: start, as ``moment_ms``.
            until: end, exclusive, as ``moment_ms``.
            by: dimensions to group by, as ``parse_by``.
            basis: the time that dates a success.
            every: length of each span of time, such as 5m.
            closed: only complete windows.

        Raises:
            BadQueryError: a time, a span or a name is invalid, or there are too many dimensions or values.
        """
        check_filters(scope.filters)
        return cls(
            scope,
            parse_moment_ms("since", since, now_ms),
            parse_moment_ms("until", until, now_ms),
            now_ms,
            parse_by(by),
            basis,
            parse_every_ms(every),
            closed,
        )
