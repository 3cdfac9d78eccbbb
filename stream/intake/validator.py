"""From the records of a partition to validated batches: pure, one batch at a time.

An ``EventValidator`` decodes, validates and drops duplicates, and keeps the outcome with its offset;
``stream.aggregate.aggregation`` adds up. They are apart because batches are joined while a flush takes its time, and
because a batch whose beginning another worker has counted is aggregated again from there, while its duplicates may not
be asked for twice.

Events are validated in bulk, as columns. A record that the columns do not plainly accept is validated by itself, and
only that way is a record ever rejected. So a record that the columns pass over costs time, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.schemas.bulk import NONE, BulkDecoder, Columns
from funnelwatch.schemas.codec import Decoder, Reason, Undecodable
from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.schemas.funnels import context_keys, series_of
from funnelwatch.schemas.page import digests_of, finish
from funnelwatch.schemas.validation import MAX_ID_LENGTH, Limits, RejectedError, RejectionReason, check, check_series
from funnelwatch.stream.aggregate.series_ids import SeriesIds
from funnelwatch.stream.intake.batches import FAILURE, IMPRESSION, SUCCESS, Events, Rejected, ValidatedBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from funnelwatch.schemas.arrays import Flags, Ints, Words
    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.stream.aggregate.series_ids import Admit
    from funnelwatch.stream.intake.batches import RecordBatch, Records
    from funnelwatch.stream.intake.duplicates import SeenIds

NEVER_EVENTS = frozenset({Reason.EMPTY, Reason.UNKNOWN_FRAMING, Reason.INVALID_AVRO, Reason.TRAILING_BYTES})
"""Rejected for good: such bytes have no event id that could be taken for counted. Garbage may be much."""

HASHED = frozenset({"event_id", "funnel", "step", *DIMENSION_FIELDS})
"""Fields that identify events; the validator needs their hashes."""


@dataclass(frozen=True)
class EventValidator:
    """Decides about records. For one thread.

    Attributes:
        decode: bytes to event; raises ``Undecodable`` for bytes that are none, anything else for an outage. Where it is
            a ``Decoder`` batches are decoded in bulk.
        funnels: the declared funnels.
        limits: how far an event's time may be from now.
        max_value_bytes: a larger value is rejected unread.
        admit: what series count as, or why they are rejected; None: as they are. Raises for an outage.
    """

    decode: Callable[[bytes | None], dict[str, Any]]
    funnels: Funnels
    limits: Limits
    max_value_bytes: int
    admit: Admit | None = None

    def event(self, value: bytes | None, now_ms: int) -> dict[str, Any]:
        """The event of a record's value.

        Raises:
            RejectedError: it can be decoded, but not counted.
            Undecodable: it is no event.
        """
        if value is not None and len(value) > self.max_value_bytes:
            raise RejectedError(
                RejectionReason.TOO_LARGE, f"the value has {len(value)} bytes, more than {self.max_value_bytes}"
            )
        event = self.decode(value)
        check(event, self.funnels, self.limits, now_ms)
        return event

    def __call__(self, batch: RecordBatch, seen: SeenIds, now_ms: int) -> ValidatedBatch:
        """Decide about every record of a batch; ``seen`` remembers its ids."""
        # Decoded first and remembered after: an outage in the middle (of the schema registry, say) leaves no trace,
        # so that the batch can be validated again.
        # Only between batches: the numbers of one batch must all be of one list of names.
        self._series.forget()
        records = batch.records
        draft = _Draft(self._series.names, len(records))
        if self._bulk is not None:
            for columns in self._bulk(records.values):
                self._add(draft, columns, now_ms)
        rejected = self._validate_alone(draft, records, now_ms)
        events = draft.events(records.offsets).where(draft.good)
        # A timestamp ahead of the clock must not end the generation of ids early for all other events.
        times = np.minimum(records.timestamps[draft.good], now_ms)
        new = seen.are_new(draft.digests[draft.good], times)
        return ValidatedBatch(
            batch.partition,
            batch.start_offset,
            batch.next_offset,
            int(records.timestamps.max()) if records.timestamps.size else None,
            events.where(new),
            rejected,
            events.offsets[~new],
            int(records.timestamps.min()) if records.timestamps.size else None,
        )

    @cached_property
    def _bulk(self) -> BulkDecoder | None:
        return (
            BulkDecoder(self.decode, HASHED, context_keys(self.funnels)) if isinstance(self.decode, Decoder) else None
        )

    @cached_property
    def _series(self) -> SeriesIds:
        return SeriesIds(self.funnels, self._is_countable, self.admit)

    def _is_countable(self, series: Series) -> bool:
        try:
            check_series(series, self.funnels, self.limits)
        except RejectedError:
            return False
        return True

    def _add(self, draft: _Draft, columns: Columns, now_ms: int) -> None:
        """Take the events of which it is plain that ``check`` lets them pass."""
        numbers = columns.numbers
        outcomes = np.where(numbers["phase"] == 0, IMPRESSION, numbers["status"] + 1)
        series, ts, durations = self._series.of_columns(columns), numbers["ts"], numbers["duration_ms"]
        good = (series >= 0) & (outcomes >= 0) & (columns.sizes <= self.max_value_bytes)
        good &= (ts <= now_ms + self.limits.max_future_ms) & (ts >= self.limits.oldest_ms(now_ms))
        good &= (durations == NONE) | (durations >= 0) & (durations <= self.limits.max_age_ms)
        if self.limits.horizon.from_ms is not None:
            # A verification is added to the window of its impression as well.
            good &= (durations == NONE) | (ts - durations >= self.limits.dropped_ms)
        for name in ("event_id", "sign_up_session_id"):
            lengths = columns.texts[name].lengths
            good &= (lengths > 0) & (lengths <= MAX_ID_LENGTH)
        digests = finish(columns.sums("event_id"))
        # Nearly every batch is good as a whole, and selecting all of it would copy six columns.
        if good.all():
            draft.fill(columns.rows, digests, series, outcomes, ts, durations)
        else:
            draft.fill(columns.rows[good], digests[good], *(one[good] for one in (series, outcomes, ts, durations)))

    def _validate_alone(self, draft: _Draft, records: Records, now_ms: int) -> list[Rejected]:
        """Validate what is not validated yet, record by record."""
        rejected: list[Rejected] = []
        rows: list[int] = []
        events: list[dict[str, Any]] = []
        for at in np.flatnonzero(~draft.good).tolist():
            try:
                events.append(self.event(records.values[at], now_ms))
            except (Undecodable, RejectedError) as error:
                rejected.append(Rejected(records[at], str(error.reason), error.detail))
            else:
                rows.append(at)
        series = [series_of(event, self.funnels) for event in events]
        admitted = self._series.admitted(list(dict.fromkeys(series)))
        counted = [admitted[one] for one in series]
        for at, one in zip(rows, counted, strict=True):
            if isinstance(one, RejectedError):
                rejected.append(Rejected(records[at], str(one.reason), one.detail))
        kept = [place for place, one in enumerate(counted) if isinstance(one, Series)]
        if len(kept) < len(rows):
            # Both kinds of rejection in the order of the log, as the dead letters have them.
            rejected.sort(key=lambda one: one.record.offset)
            rows, events = [rows[place] for place in kept], [events[place] for place in kept]
        if rows:
            columns = [
                [self._series.of(one) for one in counted if isinstance(one, Series)],
                [_outcome(event) for event in events],
                [event["ts"] for event in events],
                [NONE if event["duration_ms"] is None else event["duration_ms"] for event in events],
            ]
            digests = digests_of([event["event_id"] for event in events])
            draft.fill(np.array(rows), digests, *(np.array(column, np.int64) for column in columns))
        return rejected


def _outcome(event: dict[str, Any]) -> int:
    if event["phase"] == "IMPRESSION":
        return IMPRESSION
    return SUCCESS if event["status"] == "SUCCESS" else FAILURE


class _Draft:
    """The events of a batch while they are found, in any order."""

    def __init__(self, names: Sequence[Series], count: int) -> None:
        self._names = names
        self.good: Flags = np.zeros(count, np.bool_)
        self.digests: Words = np.empty(count, np.uint64)
        self._columns = [np.empty(count, np.int64) for _ in ("series", "outcomes", "ts", "durations")]

    def fill(self, rows: Ints, digests: Words, *columns: Ints) -> None:
        """Note the events of some records."""
        self.good[rows] = True
        self.digests[rows] = digests
        for own, column in zip(self._columns, columns, strict=True):
            own[rows] = column

    def events(self, offsets: Ints) -> Events:
        """All of them; of records that are not good anything."""
        return Events(self._names, offsets, *self._columns)


def warm_up(validator: EventValidator, batch: RecordBatch, seen: SeenIds, now_ms: int) -> None:
    """Remember the ids of a batch that is counted already; nothing else comes of it."""
    validator(batch, seen, now_ms)
