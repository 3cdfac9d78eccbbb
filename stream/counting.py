"""From the records of a partition to what they add to the counts: pure, one batch at a time.

``judge`` decodes, validates and drops duplicates, record by record, and keeps each verdict with its offset. ``tally``
adds up. They are apart because a batch that was in part counted by somebody else is tallied again from where that
one got, while its duplicates may not be asked for twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.codec import Reason, Undecodable
from stream.histogram import SLOTS, bucket
from stream.model import Counts, Durations, PartitionCounts
from stream.validation import Limits, Refusal, RefusedError, check
from stream.watermark import partition_watermark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from funnelwatch.funnels import Funnels
    from stream.duplicates import SeenIds

NEVER_EVENTS = frozenset({Reason.EMPTY, Reason.UNKNOWN_FRAMING, Reason.INVALID_AVRO, Reason.TRAILING_BYTES})
"""Refused for good: such bytes have no event id that could be taken for counted. Garbage may be much."""

IMPRESSION = "IMPRESSION"
SUCCESS = "SUCCESS"


@dataclass(frozen=True, slots=True)
class Record:
    """A message of the events topic, as it came; ``timestamp`` is Kafka's, ms."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one partition in a row: everything the log has in ``[start_offset, next_offset)``.

    The offsets of the records may have gaps (compaction, transaction markers), but the batch has none: it starts
    where the one before it ended.
    """

    partition: int
    start_offset: int
    next_offset: int
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Refused:
    """A record for the dead letters: why, in a word and in a sentence."""

    record: Record
    reason: str
    detail: str


@dataclass(slots=True)
class Judged:
    """The verdict on each record of a batch; the offsets of the three kinds together are those of the batch."""

    batch: RecordBatch
    accepted: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Judge:
    """What decides about a record.

    Attributes:
        decode: bytes to event; raises ``Undecodable`` for bytes that are none, anything else for an outage.
        funnels: the declared funnels.
        limits: how far an event's time may be from now.
        max_value_bytes: a larger value is refused unread.
    """

    decode: Callable[[bytes | None], dict[str, Any]]
    funnels: Funnels
    limits: Limits
    max_value_bytes: int

    def event(self, value: bytes | None, now_ms: int) -> dict[str, Any]:
        """The event of a record's value.

        Raises:
            RefusedError: it can be decoded, but not counted.
            Undecodable: it is no event.
        """
        if value is not None and len(value) > self.max_value_bytes:
            raise RefusedError(Refusal.TOO_LARGE, f"the value has {len(value)} bytes, more than {self.max_value_bytes}")
        event = self.decode(value)
        check(event, self.funnels, self.limits, now_ms)
        return event

    def __call__(self, batch: RecordBatch, seen: SeenIds, now_ms: int) -> Judged:
        """Decide about every record of a batch; ``seen`` remembers its ids."""
        judged = Judged(batch)
        # Decoded first and remembered after: an outage in the middle (of the schema registry, say) leaves no trace,
        # so that the batch can be judged again.
        events: list[tuple[Record, dict[str, Any]]] = []
        for record in batch.records:
            try:
                events.append((record, self.event(record.value, now_ms)))
            except (Undecodable, RefusedError) as error:
                judged.refused.append(Refused(record, str(error.reason), error.detail))
        for record, event in events:
            if seen.is_new(event["event_id"], min(record.timestamp, now_ms)):
                judged.accepted.append((record.offset, event))
            else:
                judged.duplicates.append(record.offset)
        return judged


def warm_up(judge: Judge, batch: RecordBatch, seen: SeenIds, now_ms: int) -> None:
    """Remember the ids of a batch that is counted already; nothing else comes of it."""
    judge(batch, seen, now_ms)


def watermark_of(judged: Judged, disorder_ms: int, now_ms: int) -> int | None:
    """The watermark that the accepted events of a batch bring their partition to; None where there are none."""
    largest_ts = max((event["ts"] for _, event in judged.accepted), default=None)
    return None if largest_ts is None else partition_watermark(largest_ts, disorder_ms, now_ms)


def tally(judged: Judged, window_ms: int, disorder_ms: int, now_ms: int, from_offset: int = 0) -> PartitionCounts:
    """What a judged batch adds to the counts, from ``from_offset`` on."""
    batch = judged.batch
    start = max(batch.start_offset, from_offset)
    counts: Counts = {}
    durations: Durations = {}
    accepted = 0
    for offset, event in judged.accepted:
        if offset < start:
            continue
        accepted += 1
        ts = event["ts"]
        series = (event["funnel"], event["step"], event["os"], event["browser"], event["app_version"])
        key = (ts - ts % window_ms, *series)
        numbers = counts.get(key)
        if numbers is None:
            numbers = counts[key] = [0, 0, 0, 0, 0]
        if event["phase"] == IMPRESSION:
            numbers[0] += 1
            continue
        failed = event["status"] != SUCCESS
        numbers[1 + failed] += 1
        duration = event["duration_ms"]
        if duration is not None and not failed:
            octave, slot = bucket(duration)
            durations.setdefault((*key, octave), [0] * SLOTS)[slot] += 1
        shown = ts - (duration or 0)
        cohort_key = (shown - shown % window_ms, *series)
        cohort = counts.get(cohort_key)
        if cohort is None:
            cohort = counts[cohort_key] = [0, 0, 0, 0, 0]
        cohort[3 + failed] += 1
    return PartitionCounts(
        partition=batch.partition,
        start_offset=start,
        next_offset=batch.next_offset,
        counts=counts,
        durations=durations,
        accepted=accepted,
        refused=sum(refused.record.offset >= start for refused in judged.refused),
        duplicates=sum(offset >= start for offset in judged.duplicates),
        watermark=watermark_of(judged, disorder_ms, now_ms),
        refused_offsets=[
            refused.record.offset
            for refused in judged.refused
            if refused.record.offset >= start and refused.reason not in NEVER_EVENTS
        ],
        # A producer may stamp its records as it likes: what is ahead of the clock would stay the largest for good.
        log_time=min(now_ms, max(record.timestamp for record in batch.records)) if batch.records else None,
    )
