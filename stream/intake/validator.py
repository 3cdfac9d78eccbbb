"""From the records of a partition to outcomes on them: pure, one batch at a time.

A ``EventValidator`` decodes, validates and drops duplicates, and keeps each verdict with its offset; ``stream.tally``
adds up.
They are apart because outcomes are joined while a flush takes its time, and because a batch that was in part counted by
somebody else is tallied again from where that one got, while its duplicates may not be asked for twice.

Events are judged in bulk, as columns. A record that in bulk is not plainly a good one is judged by itself, and only
that way is a record ever rejected: so whatever the columns pass over costs time, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.schemas.bulk import NONE, BulkDecoder, Columns
from funnelwatch.schemas.codec import Decoder, Reason, Undecodable
from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.page import digests_of, finish
from funnelwatch.schemas.validation import MAX_ID_LENGTH, Limits, RejectedError, RejectionReason, check, is_countable
from funnelwatch.stream.aggregate.series_ids import SeriesIds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.schemas.page import Flags, Ints, Words
    from funnelwatch.stream.aggregate.series_ids import Admit
    from funnelwatch.stream.intake.duplicates import SeenIds

NEVER_EVENTS = frozenset({Reason.EMPTY, Reason.UNKNOWN_FRAMING, Reason.INVALID_AVRO, Reason.TRAILING_BYTES})
"""Rejected for good: such bytes have no event id that could be taken for counted. Garbage may be much."""

HASHED = frozenset({"event_id", *Series._fields})
"""Fields by which events are told apart, so that their hashes are wanted."""

IMPRESSION, SUCCESS, FAILURE = range(3)
"""The outcome of an event; the latter two are one more than the schema's indexes of the symbols of ``status``."""


@dataclass(frozen=True, slots=True)
class Record:
    """A message of the events topic, as it came; ``timestamp`` is Kafka's, ms."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class Records:
    """Records in order of their offsets, by column."""

    offsets: Ints
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps: Ints

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Records that are there one by one."""
        return cls(
            np.array([one.offset for one in records], np.int64),
            [one.key for one in records],
            [one.value for one in records],
            np.array([one.timestamp for one in records], np.int64),
        )

    def __len__(self) -> int:
        """How many they are."""
        return len(self.values)

    def __getitem__(self, at: int) -> Record:
        """One of them."""
        return Record(int(self.offsets[at]), self.keys[at], self.values[at], int(self.timestamps[at]))

    def without(self, offsets: Iterable[int]) -> Records:
        """All but those with these offsets."""
        kept = np.flatnonzero(~np.isin(self.offsets, np.fromiter(offsets, np.int64))).tolist()
        keys, values = [self.keys[at] for at in kept], [self.values[at] for at in kept]
        return Records(self.offsets[kept], keys, values, self.timestamps[kept])

    def split(self, offset: int) -> tuple[Records, Records]:
        """Those before an offset, and the others."""
        at = int(np.searchsorted(self.offsets, offset))
        return (
            Records(self.offsets[:at], self.keys[:at], self.values[:at], self.timestamps[:at]),
            Records(self.offsets[at:], self.keys[at:], self.values[at:], self.timestamps[at:]),
        )


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one partition in a row: everything the log has in ``[start_offset, next_offset)``.

    The offsets of the records may have gaps (compaction, transaction markers), but the batch has none: it starts
    where the one before it ended.
    """

    partition: int
    start_offset: int
    next_offset: int
    records: Records


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record for the dead letters: why, in a word and in a sentence."""

    record: Record
    reason: str
    detail: str

    def without_bytes(self) -> Rejected:
        """What is left to know of it once the dead letters have it: where it was, and why in a word."""
        return Rejected(replace(self.record, key=None, value=None), self.reason, "")


@dataclass(slots=True)
class Events:
    """Good events, by column.

    Attributes:
        offsets: where each is.
        series: numbers that ``names`` has the series of.
        outcomes: ``IMPRESSION``, ``SUCCESS`` or ``FAILURE``.
        ts: when each happened, ms.
        durations: from the impression, ms; ``NONE`` where that is not known.
    """

    names: Sequence[Series]
    offsets: Ints
    series: Ints
    outcomes: Ints
    ts: Ints
    durations: Ints

    @classmethod
    def joined(cls, parts: Sequence[Events]) -> Events:
        """Several, one after the other, that have the same names."""
        columns = ("offsets", "series", "outcomes", "ts", "durations")
        return cls(parts[0].names, *(np.concatenate([getattr(one, name) for one in parts]) for name in columns))

    def where(self, kept: Flags) -> Events:
        """Some of them."""
        return Events(
            self.names,
            self.offsets[kept],
            self.series[kept],
            self.outcomes[kept],
            self.ts[kept],
            self.durations[kept],
        )


@dataclass(slots=True)
class ValidatedBatch:
    """Every record that one partition has in ``[start_offset, next_offset)``, as accepted, rejected or duplicate.

    The records themselves are not kept.

    Attributes:
        partition: which.
        start_offset: the first offset.
        next_offset: the one after the last.
        log_time: the latest of Kafka's timestamps, ms; None where there is no record.
        accepted: what is to be counted.
        rejected: what is for the dead letters.
        duplicates: the offsets of what was counted before.
        oldest_log_time: the earliest of Kafka's timestamps, ms; None where there is no record.
        is_cut: whether the records that follow were cut off: then the two times are those of all of them, and how far
            this part reaches in time is not known.
    """

    partition: int
    start_offset: int
    next_offset: int
    log_time: int | None
    accepted: Events
    rejected: list[Rejected]
    duplicates: Ints
    oldest_log_time: int | None = None
    is_cut: bool = False


def joined(parts: Sequence[ValidatedBatch]) -> ValidatedBatch:
    """Batches of which each begins where the one before it ends, as one; they have the same names of series."""
    if len(parts) == 1:
        return parts[0]
    first, last = parts[0], parts[-1]
    return ValidatedBatch(
        first.partition,
        first.start_offset,
        last.next_offset,
        max((one.log_time for one in parts if one.log_time is not None), default=None),
        Events.joined([one.accepted for one in parts]),
        [rejected for one in parts for rejected in one.rejected],
        np.concatenate([one.duplicates for one in parts]),
        min((one.oldest_log_time for one in parts if one.oldest_log_time is not None), default=None),
    )


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
        self._series.forget()
        records = batch.records
        draft = _Draft(self._series.names, len(records))
        if self._bulk is not None:
            for columns in self._bulk(records.values):
                self._add(draft, columns, now_ms)
        rejected = self._validate_alone(draft, records, now_ms)
        events = draft.events(records.offsets).where(draft.good)
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
        return BulkDecoder(self.decode, HASHED) if isinstance(self.decode, Decoder) else None

    @cached_property
    def _series(self) -> SeriesIds:
        return SeriesIds(partial(is_countable, funnels=self.funnels, limits=self.limits), self.admit)

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
        series = [Series(*(event[name] for name in Series._fields)) for event in events]
        admitted = self._series.admitted(list(dict.fromkeys(series)))
        counted = [admitted[one] for one in series]
        for at, one in zip(rows, counted, strict=True):
            if isinstance(one, RejectedError):
                rejected.append(Rejected(records[at], str(one.reason), one.detail))
        kept = [place for place, one in enumerate(counted) if isinstance(one, Series)]
        if len(kept) < len(rows):
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
