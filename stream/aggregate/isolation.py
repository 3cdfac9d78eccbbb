"""Finds the events that the database rejects, so that all others are counted: one bad row must not stop the stream.

A flush that fails with an error that retrying cannot help is divided: by partition, then into halves, down to a single
event. Each part is a flush of its own that moves the progress on, so each event still counts exactly once. The event
that fails alone goes to the dead letters with the database's message, and with it all events of the batch that are the
same to the database: those that add to the same columns of the same rows. Their sessions count nothing more: what such
a session has seen is not known without them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import psycopg

from funnelwatch.producers.kafka.topic_reader import TopicReader
from funnelwatch.schemas.codec import Undecodable
from funnelwatch.schemas.histogram import slots_of
from funnelwatch.schemas.validation import RejectedError, RejectionReason
from funnelwatch.sinks.errors import ErrorClass, classify
from funnelwatch.stream.intake.batches import IMPRESSION, NONE, Record, Rejected, ValidatedBatch
from funnelwatch.stream.native.digests import digests_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from typing import Any

    from funnelwatch.schemas.admission import Admission
    from funnelwatch.schemas.arrays import Flags, Ints
    from funnelwatch.schemas.counts import Series
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.stream.intake.batches import Credits, Events
    from funnelwatch.stream.intake.dead_letters import DeadLetters
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment
    from funnelwatch.stream.intake.validator import Admit


@dataclass(frozen=True, slots=True)
class RejectedByDatabase:
    """An event that the database rejects, alone in its batch, and the database's message."""

    event: Events
    credited: Credits
    detail: str


def detail_of(error: psycopg.Error) -> str:
    """An error of the database in one line, for the dead letter."""
    message = error.diag.message_primary or str(error)
    return f"the database rejects it: {' '.join(message.split())} (SQLSTATE {error.sqlstate})"


def admitted_apart(admit: Admit, wanted: Iterable[Series]) -> dict[Series, Admission]:
    """What series count as; those that the database rejects are found by halves, and rejected.

    Raises:
        psycopg.Error: an outage, or an error that is no series' fault.
    """
    found = list(dict.fromkeys(wanted))
    try:
        return dict(admit(found))
    except psycopg.Error as error:
        if classify(error) is not ErrorClass.REJECTED or not found:
            raise
        if len(found) == 1:
            return {found[0]: RejectedError(RejectionReason.NOT_STORED, detail_of(error))}
    at = len(found) // 2
    return admitted_apart(admit, found[:at]) | admitted_apart(admit, found[at:])


def halves(validated: ValidatedBatch) -> list[ValidatedBatch]:
    """A batch in two, by its accepted events, of which there must be two at least."""
    offsets = validated.accepted.offsets
    at = int(offsets[offsets.size // 2])
    return [_between(validated, validated.start_offset, at), _between(validated, at, validated.next_offset)]


def alike(events: Events, one: Events, window_ms: int) -> Flags:
    """Which events add to the same columns of the same rows as ``one``, which is a single event of the same names."""
    same: Flags = events.series == one.series
    for mine, its in zip(_places(events, window_ms), _places(one, window_ms), strict=True):
        same &= mine == its
    return same


def reject(validated: ValidatedBatch, which: Flags, rejected: list[Rejected]) -> ValidatedBatch:
    """A batch with some of its accepted events rejected instead."""
    together = sorted([*validated.rejected, *rejected], key=lambda one: one.record.offset)
    rejects = np.isin(validated.credited["offset"], validated.accepted.offsets[which])
    return replace(
        validated,
        accepted=validated.accepted.where(~which),
        rejected=together,
        credited=validated.credited[~rejects],
    )


class Isolation:
    """Takes rejected events out of batches. For the thread that counts.

    Args:
        settings: where Kafka is, and the length of a window.
        dead_letters: where rejected events go.
        decode: bytes to event.
    """

    def __init__(
        self, settings: Settings, dead_letters: Callable[[], DeadLetters], decode: Callable[[bytes], dict[str, Any]]
    ) -> None:
        self._settings = settings
        self._make_dead_letters = dead_letters
        self._dead_letters: DeadLetters | None = None
        self._reader: TopicReader | None = None
        self._decode = decode

    def without(
        self, assigned: PartitionAssignment, validated: ValidatedBatch, rejections: Sequence[RejectedByDatabase]
    ) -> ValidatedBatch:
        """The batch without the events that are like rejected ones; returns once the dead letters have those.

        Raises:
            KafkaException, RegistryUnavailable: a server is away; call it again.
        """
        events = validated.accepted
        details: dict[int, str] = {}
        for rejection in rejections:
            same = alike(events, rejection.event, self._settings.window_ms)
            found = self._credited_alike(events.offsets[same], validated.credited, rejection.credited)
            details |= dict.fromkeys(found, rejection.detail)
        if not details:
            return validated
        rejected = [
            Rejected(record, str(RejectionReason.NOT_STORED), details[record.offset])
            for record in self._records(validated.partition, details)
        ]
        ids = self._ids([one.record for one in rejected])
        if self._dead_letters is None:
            self._dead_letters = self._make_dead_letters()
        self._dead_letters.send(validated.partition, rejected)
        assigned.seen.forget(digests_of(ids))
        which = np.isin(events.offsets, np.fromiter(details, np.int64))
        if assigned.sessions is not None:
            assigned.sessions.void(events.rows[which])
        return reject(validated, which, [one.without_bytes() for one in rejected])

    def _credited_alike(self, offsets: Ints, credited: Credits, one: Credits) -> list[int]:
        """The offsets of the events that add as much by their sessions as ``one``, which is of a single event."""
        cells: defaultdict[int, set[tuple[int, ...]]] = defaultdict(set)
        window_ms = self._settings.window_ms
        for offset, moment, series, column in credited[np.isin(credited["offset"], offsets)].tolist():
            cells[offset].add((moment // window_ms, series, column))
        wanted = {(moment // window_ms, series, column) for _, moment, series, column in one.tolist()}
        return [offset for offset in offsets.tolist() if cells[offset] == wanted]

    def _records(self, partition: int, offsets: Collection[int]) -> list[Record]:
        """The records as Kafka has them; validated events have lost their bytes. One that was trimmed comes without."""
        if self._reader is None:
            self._reader = TopicReader(self._settings, self._settings.events_topic)
        found = {}
        for message in self._reader.at_offsets(partition, offsets):
            offset = message.offset()
            assert offset is not None
            found[offset] = Record(offset, _bytes(message.key()), message.value(), message.timestamp()[1])
        return [found.get(offset) or Record(offset, None, None, 0) for offset in sorted(offsets)]

    def _ids(self, records: list[Record]) -> list[str]:
        ids = []
        for record in records:
            if record.value is not None:
                try:
                    ids.append(self._decode(record.value)["event_id"])
                except Undecodable:
                    continue
        return ids


def _between(validated: ValidatedBatch, start: int, end: int) -> ValidatedBatch:
    """The part of a batch that is of ``[start, end)``."""
    accepted, duplicates = validated.accepted, validated.duplicates
    return ValidatedBatch(
        validated.partition,
        start,
        end,
        validated.log_time,
        accepted.where((accepted.offsets >= start) & (accepted.offsets < end)),
        [one for one in validated.rejected if start <= one.record.offset < end],
        duplicates[(duplicates >= start) & (duplicates < end)],
        oldest_log_time=validated.oldest_log_time,
        is_cut=validated.is_cut or end < validated.next_offset,
        credited=validated.credited[(validated.credited["offset"] >= start) & (validated.credited["offset"] < end)],
    )


def _places(events: Events, window_ms: int) -> list[Ints]:
    """The cells that events of one series add to in the database: window, column, cohort's window and slot."""
    timed = (events.outcomes != IMPRESSION) & (events.durations != NONE)
    durations = np.where(timed, events.durations, 0)
    cohorts = (events.ts - durations) // window_ms
    return [events.ts // window_ms, events.outcomes, cohorts, timed, slots_of(durations)]


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
