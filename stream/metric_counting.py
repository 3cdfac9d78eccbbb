"""From the records of the metrics topic to what they add to counters and timers: pure, one batch at a time.

Record by record, unlike events: an app has far fewer of these, and they may not hold the events up. What is judged
together with what is stored already (may this series exist?) stands between ``MetricJudge`` and ``settled``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funnelwatch.schemas.codec import Undecodable
from funnelwatch.schemas.metrics import MetricKind, fault, series_name
from funnelwatch.schemas.page import digests_of
from funnelwatch.stream.counting import NEVER_EVENTS, RecordBatch, Refused
from funnelwatch.stream.histogram import SLOTS, buckets
from funnelwatch.stream.model import PartitionCounts
from funnelwatch.stream.validation import Refusal, RefusedError, check_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from funnelwatch.stream.counting import Record
    from funnelwatch.stream.duplicates import SeenIds
    from funnelwatch.stream.validation import Limits

    Admission = int | RefusedError
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


class Sample(NamedTuple):
    """One accepted sample."""

    offset: int
    series: MetricSeries
    value: int
    ts: int


@dataclass(slots=True)
class MetricsJudged:
    """The verdicts on a batch so far; ``read`` are those that can be counted if their series may be."""

    batch: RecordBatch
    read: list[tuple[Record, MetricSeries, dict[str, Any]]] = field(default_factory=list)
    accepted: list[Sample] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)

    def halves(self) -> list[MetricsJudged]:
        """The batch in two, by its accepted samples, of which there must be two at least."""
        at = self.accepted[len(self.accepted) // 2].offset
        return [self._between(self.batch.start_offset, at), self._between(at, self.batch.next_offset)]

    def without(self, which: Callable[[Sample], bool], refused: Callable[[Record], Refused]) -> MetricsJudged:
        """The batch with some of its accepted samples refused instead."""
        taken = {sample.offset for sample in self.accepted if which(sample)}
        records = self.batch.records
        again = [refused(records[at]) for at in np.flatnonzero(np.isin(records.offsets, list(taken))).tolist()]
        return replace(
            self,
            accepted=[sample for sample in self.accepted if sample.offset not in taken],
            refused=[*self.refused, *again],
        )

    def _between(self, start: int, end: int) -> MetricsJudged:
        batch = self.batch
        records = batch.records.split(start)[1].split(end)[0]
        return MetricsJudged(
            RecordBatch(batch.partition, start, end, records),
            accepted=[sample for sample in self.accepted if start <= sample.offset < end],
            refused=[one for one in self.refused if start <= one.record.offset < end],
            duplicates=[offset for offset in self.duplicates if start <= offset < end],
        )


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


@dataclass(frozen=True, slots=True)
class MetricJudge:
    """What decides about a record, as far as it can be decided by itself.

    Attributes:
        decode: bytes to sample; raises ``Undecodable`` for bytes that are none, anything else for an outage.
        limits: how far a sample's time may be from now.
        max_value_bytes: a larger value is refused unread.
    """

    decode: Callable[[bytes | None], dict[str, Any]]
    limits: Limits
    max_value_bytes: int

    def __call__(self, batch: RecordBatch, now_ms: int) -> MetricsJudged:
        """Read every record of a batch."""
        judged = MetricsJudged(batch)
        for record in map(batch.records.__getitem__, range(len(batch.records))):
            try:
                metric = self.event(record.value, now_ms)
            except (Undecodable, RefusedError) as error:
                judged.refused.append(Refused(record, str(error.reason), error.detail))
            else:
                series = MetricSeries.of(metric["name"], metric["kind"], metric["dimensions"])
                judged.read.append((record, series, metric))
        return judged

    def event(self, value: bytes | None, now_ms: int) -> dict[str, Any]:
        """The sample of a record's value.

        Raises:
            RefusedError: it can be decoded, but not counted.
            Undecodable: it is no sample.
        """
        if value is not None and len(value) > self.max_value_bytes:
            raise RefusedError(Refusal.TOO_LARGE, f"the value has {len(value)} bytes, more than {self.max_value_bytes}")
        metric = self.decode(value)
        if wrong := fault(metric):
            raise RefusedError(Refusal.BAD_METRIC, wrong)
        check_time(metric["ts"], self.limits, now_ms)
        return metric


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
            found[series] = RefusedError(Refusal.OTHER_KIND, f"{name} is a {kinds[name]}, not a {series.kind}")
        elif name not in kinds and names >= max_names:
            what = f"there are {names} counters and timers already, as many as FUNNELWATCH_METRIC_MAX_NAMES allows"
            found[series] = RefusedError(Refusal.TOO_MANY_NAMES, what)
        elif many.get(name, 0) >= max_series:
            what = (
                f"{name} has {many[name]} combinations of dimensions already, as many as FUNNELWATCH_METRIC_MAX_SERIES "
                "allows; is one of them an id?"
            )
            found[series] = RefusedError(Refusal.TOO_MANY_SERIES, what)
        else:
            names += name not in kinds
            kinds[name] = series.kind
            many[name] = many.get(name, 0) + 1
            found[series] = numbers[series] = make(series)
    return found


def settled(
    judged: MetricsJudged, refused: Mapping[MetricSeries, RefusedError], seen: SeenIds, now_ms: int
) -> MetricsJudged:
    """The whole verdict: samples whose series may not be are refused, ids that were seen are duplicates."""
    good = []
    for record, series, metric in judged.read:
        if (why := refused.get(series)) is not None:
            judged.refused.append(Refused(record, str(why.reason), why.detail))
        else:
            good.append((record, series, metric))
    digests = digests_of([metric["event_id"] for _, _, metric in good])
    times = np.array([min(record.timestamp, now_ms) for record, _, _ in good], np.int64)
    for (record, series, metric), new in zip(good, seen.are_new(digests, times).tolist(), strict=True):
        if new:
            judged.accepted.append(Sample(record.offset, series, metric["value"], metric["ts"]))
        else:
            judged.duplicates.append(record.offset)
    judged.read = []
    return judged


def tally_metrics(
    judged: MetricsJudged, numbers: Mapping[MetricSeries, int], window_ms: int, now_ms: int, from_offset: int = 0
) -> PartitionMetrics:
    """What a settled batch adds, from ``from_offset`` on."""
    batch = judged.batch
    start = max(batch.start_offset, from_offset)
    accepted = [sample for sample in judged.accepted if sample.offset >= start]
    refused = [one for one in judged.refused if one.record.offset >= start]
    place = PartitionCounts(
        partition=batch.partition,
        start_offset=start,
        next_offset=batch.next_offset,
        counts={},
        accepted=len(accepted),
        refused=len(refused),
        duplicates=sum(offset >= start for offset in judged.duplicates),
        watermark=max((min(sample.ts, now_ms) for sample in accepted), default=None),
        refused_offsets=[one.record.offset for one in refused if one.reason not in NEVER_EVENTS],
        log_time=min(now_ms, int(batch.records.timestamps.max())) if len(batch.records) else None,
    )
    found = PartitionMetrics(place)
    octaves, slots = buckets(np.array([sample.value for sample in accepted], np.int64))
    for sample, octave, slot in zip(accepted, octaves.tolist(), slots.tolist(), strict=True):
        key = sample.ts - sample.ts % window_ms, numbers[sample.series]
        counted = found.samples.setdefault(key, [0, 0])
        counted[0] += 1
        counted[1] += sample.value
        if sample.series.kind == MetricKind.TIMER:
            found.durations.setdefault((*key, octave), [0] * SLOTS)[slot] += 1
    return found
