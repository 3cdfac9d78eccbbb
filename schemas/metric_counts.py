"""Series of counters and timers, the samples that a partition adds, and the admission of new series. Pure."""

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
    """The number of a series, or the reason of its rejection."""


class MetricSeries(NamedTuple):
    """A counter or timer with the values of its dimensions, as JSON in one order."""

    name: str
    kind: str
    dimensions: str

    @classmethod
    def of(cls, name: str, kind: str, dimensions: Mapping[str, str]) -> MetricSeries:
        """The key, independent of the order of the dimensions."""
        return cls(name, kind, json.dumps(dict(sorted(dimensions.items())), ensure_ascii=False))

    def __str__(self) -> str:
        """The series in the notation of Prometheus."""
        return series_name(self.name, json.loads(self.dimensions))


@dataclass(slots=True)
class PartitionMetrics:
    """The samples that the records of one partition add.

    Attributes:
        place: offsets and watermark of the records; it counts no events.
        samples: window start (ms) and number of a series to the number of samples and their total.
        durations: window start, number and slot of the value to the samples in it; timers only.
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
    """Admit series, and give them numbers.

    Args:
        wanted: series, in the order of the requests.
        known: every existing series of their names, with its number.
        names: the number of existing names.
        make: makes a series and returns its number.
        max_names: the largest number of names.
        max_series: the largest number of series of a name.
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
