"""From the records of the metrics topic to what they add to counters and timers: pure, one batch at a time.

Record by record, unlike events: an app has far fewer of these, and they may not hold the events up. Whether a series
may exist depends on what is stored already, and is decided between ``MetricValidator`` and ``settled``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funnelwatch.schemas.codec import Undecodable
from funnelwatch.schemas.counts import PartitionCounts
from funnelwatch.schemas.histogram import slots_of
from funnelwatch.schemas.metric_counts import MetricSeries, PartitionMetrics
from funnelwatch.schemas.metrics import MetricKind, metric_error
from funnelwatch.schemas.validation import RejectedError, RejectionReason, check_time
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.stream.intake.batches import RecordBatch, Records, Rejected
from funnelwatch.stream.intake.validator import NEVER_EVENTS
from funnelwatch.stream.native.digests import digests_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from funnelwatch.schemas.validation import Limits
    from funnelwatch.stream.intake.batches import Record
    from funnelwatch.stream.intake.duplicates import SeenIds


class Sample(NamedTuple):
    """One accepted sample."""

    offset: int
    series: MetricSeries
    value: int
    ts: int


@dataclass(slots=True)
class ValidatedMetrics:
    """A batch as far as it is validated; ``read`` are the samples that count if their series may exist."""

    batch: RecordBatch
    read: list[tuple[Record, MetricSeries, dict[str, Any]]] = field(default_factory=list)
    accepted: list[Sample] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)

    def halves(self) -> list[ValidatedMetrics]:
        """The batch in two, by its accepted samples, of which there must be two at least."""
        at = self.accepted[len(self.accepted) // 2].offset
        return [self._between(self.batch.start_offset, at), self._between(at, self.batch.next_offset)]

    def without(self, which: Callable[[Sample], bool], rejected: Callable[[Record], Rejected]) -> ValidatedMetrics:
        """The batch with some of its accepted samples rejected instead."""
        taken = {sample.offset for sample in self.accepted if which(sample)}
        records = self.batch.records
        again = [rejected(records[at]) for at in np.flatnonzero(np.isin(records.offsets, list(taken))).tolist()]
        return replace(
            self,
            accepted=[sample for sample in self.accepted if sample.offset not in taken],
            rejected=[*self.rejected, *again],
        )

    def _between(self, start: int, end: int) -> ValidatedMetrics:
        batch = self.batch
        records = batch.records.split(start)[1].split(end)[0]
        return ValidatedMetrics(
            RecordBatch(batch.partition, start, end, records),
            accepted=[sample for sample in self.accepted if start <= sample.offset < end],
            rejected=[one for one in self.rejected if start <= one.record.offset < end],
            duplicates=[offset for offset in self.duplicates if start <= offset < end],
        )


@dataclass(frozen=True, slots=True)
class MetricValidator:
    """What decides about a record, as far as it can be decided by itself.

    Attributes:
        decode: bytes to sample; raises ``Undecodable`` for bytes that are none, anything else for an outage.
        limits: how far a sample's time may be from now.
        max_value_bytes: a larger value is rejected unread.
    """

    decode: Callable[[bytes | None], dict[str, Any]]
    limits: Limits
    max_value_bytes: int

    def __call__(self, batch: RecordBatch, now_ms: int) -> ValidatedMetrics:
        """Read every record of a batch."""
        validated = ValidatedMetrics(batch)
        for record in map(batch.records.__getitem__, range(len(batch.records))):
            try:
                metric = self.event(record.value, now_ms)
            except (Undecodable, RejectedError) as error:
                validated.rejected.append(Rejected(record, str(error.reason), error.detail))
            else:
                series = MetricSeries.of(metric["name"], metric["kind"], metric["dimensions"])
                validated.read.append((record, series, metric))
        return validated

    def event(self, value: bytes | None, now_ms: int) -> dict[str, Any]:
        """The sample of a record's value.

        Raises:
            RejectedError: it can be decoded, but not counted.
            Undecodable: it is no sample.
        """
        if value is not None and len(value) > self.max_value_bytes:
            raise RejectedError(
                RejectionReason.TOO_LARGE, f"the value has {len(value)} bytes, more than {self.max_value_bytes}"
            )
        metric = self.decode(value)
        if wrong := metric_error(metric):
            raise RejectedError(RejectionReason.BAD_METRIC, wrong)
        check_time(metric["ts"], self.limits, now_ms)
        return metric


def settled(
    validated: ValidatedMetrics, rejected: Mapping[MetricSeries, RejectedError], seen: SeenIds, now_ms: int
) -> ValidatedMetrics:
    """The batch, validated: samples whose series may not exist are rejected, ids that were seen are duplicates."""
    good = []
    for record, series, metric in validated.read:
        if (why := rejected.get(series)) is not None:
            validated.rejected.append(Rejected(record, str(why.reason), why.detail))
        else:
            good.append((record, series, metric))
    rows = Records.of([record for record, _, _ in good]).rows
    rows["id"] = digests_of([metric["event_id"] for _, _, metric in good])
    for (record, series, metric), new in zip(good, seen.are_new(rows, now_ms).tolist(), strict=True):
        if new:
            validated.accepted.append(Sample(record.offset, series, metric["value"], metric["ts"]))
        else:
            validated.duplicates.append(record.offset)
    validated.read = []
    return validated


def aggregate_metrics(
    validated: ValidatedMetrics, numbers: Mapping[MetricSeries, int], window_ms: int, now_ms: int, from_offset: int = 0
) -> PartitionMetrics:
    """What a settled batch adds, from ``from_offset`` on."""
    batch = validated.batch
    start = max(batch.start_offset, from_offset)
    accepted = [sample for sample in validated.accepted if sample.offset >= start]
    rejected = [one for one in validated.rejected if one.record.offset >= start]
    place = PartitionCounts(
        partition=batch.partition,
        start_offset=start,
        next_offset=batch.next_offset,
        counts=WindowCounts(),
        accepted=len(accepted),
        rejected=len(rejected),
        duplicates=sum(offset >= start for offset in validated.duplicates),
        watermark=max((min(sample.ts, now_ms) for sample in accepted), default=None),
        rejected_offsets=[one.record.offset for one in rejected if one.reason not in NEVER_EVENTS],
        log_time=min(now_ms, int(batch.records.timestamps.max())) if len(batch.records) else None,
    )
    found = PartitionMetrics(place)
    slots = slots_of(np.array([sample.value for sample in accepted], np.int64))
    for sample, slot in zip(accepted, slots.tolist(), strict=True):
        key = sample.ts - sample.ts % window_ms, numbers[sample.series]
        counted = found.samples.setdefault(key, [0, 0])
        counted[0] += 1
        counted[1] += sample.value
        if sample.series.kind == MetricKind.TIMER:
            found.durations.setdefault((*key, slot), [0])[0] += 1
    return found
