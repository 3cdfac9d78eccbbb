"""From the records of a partition to validated batches: pure, one batch at a time.

An ``EventValidator`` decodes, validates and drops duplicates, and keeps the outcome with its offset;
``stream.aggregate.aggregation`` adds up. They are apart because batches are joined while a flush takes its time, and
because a batch whose beginning another worker has counted is aggregated again from there, while its duplicates may not
be asked for twice.

Events are decoded and checked in bulk, in C. A record that the decoder does not plainly accept is validated by itself,
and only that way is a record ever rejected. So a record that the decoder passes over costs time, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.schemas.codec import Reason, Undecodable
from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import series_of
from funnelwatch.schemas.validation import Limits, RejectedError, RejectionReason, check, check_series
from funnelwatch.stream.intake.batches import (
    DOUBTFUL,
    FAILURE,
    IMPRESSION,
    NO_CREDITS,
    NONE,
    SUCCESS,
    Events,
    Rejected,
    ValidatedBatch,
)
from funnelwatch.stream.native.digests import digests_of
from funnelwatch.stream.native.event_decoder import EventDecoder
from funnelwatch.stream.native.library import survey
from funnelwatch.stream.native.series_numbers import PROVISIONAL, UNCOUNTABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from funnelwatch.schemas.admission import Admission
    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.stream.intake.batches import RecordBatch, Records
    from funnelwatch.stream.intake.duplicates import SeenIds
    from funnelwatch.stream.intake.sessions import Sessions
    from funnelwatch.stream.native.series_numbers import SeriesNumbers

    Admit = Callable[[Iterable[Series]], Mapping[Series, Admission]]

NEVER_EVENTS = frozenset({Reason.EMPTY, Reason.UNKNOWN_FRAMING, Reason.INVALID_AVRO, Reason.TRAILING_BYTES})
"""Rejected for good: such bytes have no event id that could be taken for counted. Garbage may be much."""


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

    def __call__(
        self, batch: RecordBatch, seen: SeenIds, now_ms: int, sessions: Sessions | None = None
    ) -> ValidatedBatch:
        """Decide about every record of a batch; ``seen`` remembers its ids, ``sessions`` its sessions."""
        # Decoded first and remembered after: an outage in the middle (of the schema registry, say) leaves no trace,
        # so that the batch can be validated again.
        records = self.decoder(batch.records, now_ms)
        assert records.numbers is not None
        found = survey(records.rows)
        if found.provisional:
            self._settle_series(records, records.numbers)
        rejected: list[Rejected] = []
        rows = records.rows
        if found.doubtful or found.provisional:
            rejected = self._validate_alone(records, records.numbers, now_ms)
            rows = rows[rows["outcome"] >= 0]
        new = seen.are_new(rows, now_ms)
        known = records.numbers.known
        events = Events(known.names, rows)
        accepted = events.where(new)
        return ValidatedBatch(
            batch.partition,
            batch.start_offset,
            batch.next_offset,
            found.latest if len(records) else None,
            accepted,
            rejected,
            events.offsets[~new],
            found.earliest if len(records) else None,
            credited=NO_CREDITS if sessions is None else sessions.credited(accepted.rows, known.places, now_ms),
        )

    @cached_property
    def decoder(self) -> EventDecoder:
        """Decodes records in bulk."""
        return EventDecoder(self.decode, self.funnels, self.limits, self.max_value_bytes)

    def _settle_series(self, records: Records, numbers: SeriesNumbers) -> None:
        """Decide about the series that are new, in the order in which they came; once a series, not once an event."""
        series = records.rows["series"]
        provisional = np.flatnonzero(series <= PROVISIONAL)
        series[provisional] = numbers.settle(series[provisional])
        provisional = provisional[series[provisional] <= PROVISIONAL]
        fresh, first = np.unique(series[provisional], return_index=True)
        order = np.argsort(first)
        found = [self._series_of(records, at) for at in provisional[first[order]].tolist()]
        admitted = self._admitted([one for one in found if self._is_countable(one)])
        counted = [admitted.get(one) for one in found]
        known = numbers.known
        numbers.decide(fresh[order], [known.of(one) if isinstance(one, Series) else UNCOUNTABLE for one in counted])
        series[provisional] = numbers.settle(series[provisional])
        records.rows["outcome"][series == UNCOUNTABLE] = DOUBTFUL

    def _series_of(self, records: Records, at: int) -> Series:
        return series_of(self.decode(records[at].value), self.funnels)

    def _admitted(self, found: Sequence[Series]) -> Mapping[Series, Admission]:
        """What series count as, or why they are rejected."""
        return self.admit(found) if self.admit and found else {one: one for one in found}

    def _is_countable(self, series: Series) -> bool:
        try:
            check_series(series, self.funnels, self.limits)
        except RejectedError:
            return False
        return True

    def _validate_alone(self, records: Records, numbers: SeriesNumbers, now_ms: int) -> list[Rejected]:
        """Validate what is not plainly an event, record by record."""
        rejected: list[Rejected] = []
        read: list[tuple[int, dict[str, Any], Series]] = []
        for at in np.flatnonzero(records.rows["outcome"] < 0).tolist():
            record = records[at]
            try:
                event = self.event(record.value, now_ms)
            except (Undecodable, RejectedError) as error:
                rejected.append(Rejected(record, str(error.reason), error.detail))
            else:
                read.append((at, event, series_of(event, self.funnels)))
        admitted = self._admitted(list(dict.fromkeys(series for _, _, series in read)))
        good: list[tuple[int, dict[str, Any], Series]] = []
        for at, event, series in read:
            counted = admitted[series]
            if isinstance(counted, RejectedError):
                rejected.append(Rejected(records[at], str(counted.reason), counted.detail))
            else:
                good.append((at, event, counted))
        # Both kinds of rejection in the order of the log, as the dead letters have them.
        rejected.sort(key=lambda one: one.record.offset)
        ids = digests_of([one["event_id"] for _, one, _ in good])
        sessions = digests_of([one["sign_up_session_id"] for _, one, _ in good])
        for (at, event, series), digest, session in zip(good, ids, sessions, strict=True):
            row = records.rows[at]
            row["id"], row["session"], row["ts"] = digest, session, event["ts"]
            row["duration"] = NONE if event["duration_ms"] is None else event["duration_ms"]
            row["series"], row["outcome"] = numbers.known.of(series), _outcome(event)
        return rejected


def _outcome(event: dict[str, Any]) -> int:
    if event["phase"] == "IMPRESSION":
        return IMPRESSION
    return SUCCESS if event["status"] == "SUCCESS" else FAILURE


def warm_up(
    validator: EventValidator, batch: RecordBatch, seen: SeenIds, now_ms: int, sessions: Sessions | None = None
) -> None:
    """Remember the ids and the sessions of a batch that is counted already; nothing else comes of it."""
    validator(batch, seen, now_ms, sessions)
