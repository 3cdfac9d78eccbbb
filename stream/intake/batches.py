"""Records of a partition, and batches of them before and after validation: plain data, column by column."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from funnelwatch.schemas.arrays import Flags, Ints
    from funnelwatch.schemas.counts import Series

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
        """The records before an offset, and the others."""
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
        """Its place and its reason, kept once the dead letters have the record."""
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
        accepted: records to count.
        rejected: records for the dead letters.
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
