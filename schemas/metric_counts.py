"""Series of counters and timers, what a partition adds to them, and which series may exist. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from funnelwatch.schemas.metrics import series_name
from funnelwatch.schemas.validation import RejectedError, RejectionReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from funnelwatch.schemas.counts import PartitionCounts

    Admission = int | RejectedError
    """The number of a series, or why it may not be."""


class MetricSeries(NamedTuple):
    """A counter or timer with the values of its dimensions, as JSON in one order."""

    name: str
    kind: str
    dimensions: str

    @classmethod
    def of(cls, name: str, kind: str, dimensions: Mapping[str, str]) -> MetricSeries:
        """The same for the same dimensions in whatever order."""
        return cls(name, kind, json.dumps(dict(sorted(dimensions.items())), ensure_ascii=False))

    def __str__(self) -> str:
        """As Prometheus writes it."""
        return series_name(self.name, json.loads(self.dimensions))


@dataclass(slots=True)
class PartitionMetrics:
    """What the records of one partition add.

    Attributes:
        place: where they stand, and what moves the partition on; it counts no events.
        samples: window start (ms) and number of a series to how many samples and their total.
        durations: the same and an octave to how many fall into each of its slots; timers only.
    """

    place: PartitionCounts
    samples: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    durations: dict[tuple[int, int, int], list[int]] = field(default_factory=dict)


def admitted(  # noqa: PLR0917
    wanted: Iterable[MetricSeries],
    known: Mapping[MetricSeries, int],
    names: int,
    make: Callable[[MetricSeries], int],
    max_names: int,
    max_series: int,
) -> dict[MetricSeries, Admission]:
    """Which series may be, and their numbers.

    Args:
        wanted: series, in the order in which they are to be looked at.
        known: every series of their names that there is, with its number.
        names: how many names there are in all.
        make: makes a series and returns its number.
        max_names: how many names there may be.
        max_series: how many series a name may have.
    """
    found: dict[MetricSeries, Admission] = {}
    numbers = dict(known)
    kinds = {series.name: series.kind for series in known}
    many: dict[str, int] = {}
    for series in known:
        many[series.name] = many.get(series.name, 0) + 1
    for series in wanted:
        name = series.name
        if series in numbers:
            found[series] = numbers[series]
        elif kinds.get(name, series.kind) != series.kind:
            found[series] = RejectedError(RejectionReason.OTHER_KIND, f"{name} is a {kinds[name]}, not a {series.kind}")
        elif name not in kinds and names >= max_names:
            what = f"there are {names} counters and timers already, as many as FUNNELWATCH_METRIC_MAX_NAMES allows"
            found[series] = RejectedError(RejectionReason.TOO_MANY_NAMES, what)
        elif many.get(name, 0) >= max_series:
            what = (
                f"{name} has {many[name]} combinations of dimensions already, as many as FUNNELWATCH_METRIC_MAX_SERIES "
                "allows; is one of them an id?"
            )
            found[series] = RejectedError(RejectionReason.TOO_MANY_SERIES, what)
        else:
            names += name not in kinds
            kinds[name] = series.kind
            many[name] = many.get(name, 0) + 1
            found[series] = numbers[series] = make(series)
    return found
