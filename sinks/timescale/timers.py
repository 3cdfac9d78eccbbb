"""Reads quantiles of the time from impression to success, where producers measured it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.sinks.timescale.rates import group_of, scope_parameters

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.sinks.timescale.rates import Dimension, Level, Scope


@dataclass(frozen=True, slots=True)
class Timer:
    """The time to convert of one step, and of one group of its series.

    Attributes:
        dimensions: the values of the dimensions to group by, in their order; empty where a series has none.
        start_ms: start of the span of time, ms; None where there is one span only.
        conversions: successes whose time is known.
        p50_ms: half of them took no longer, ms; less than 12.5 % off (``schemas/histogram.py``).
        p90_ms: nine of ten took no longer.
        p99_ms: 99 of 100 took no longer.
    """

    step: str
    dimensions: Mapping[str, str]
    start_ms: int | None
    conversions: int
    p50_ms: float
    p90_ms: float
    p99_ms: float


def timers(
    database: Database,
    scope: Scope,
    from_ms: int,
    to_ms: int,
    *,
    by: Collection[Dimension] = (),
    every_ms: int | None = None,
    limit: int | None = None,
    level: Level = "windows",
) -> list[Timer]:
    """The times of successes in windows that start in ``[from_ms, to_ms)``; as ``RateStore.rates`` has its counts.

    Returns:
        Sorted by time, step and the values of ``by``; where no time is known, nothing.
    """
    parameters = scope_parameters(scope, from_ms, to_ms, by, every_ms) | {"limit": limit, "level": level}
    found = [Timer(**group_of(row, by, every_ms)) for row in database.query("timers", parameters)]
    return sorted(found, key=lambda one: (one.start_ms or 0, one.step, *one.dimensions.values()))
