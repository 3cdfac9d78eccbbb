"""Records of a partition, and batches of them before and after validation: plain data, column by column."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.stream.native.library import CREDIT, ROW

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from funnelwatch.schemas.arrays import Flags, Ints
    from funnelwatch.schemas.counts import Series
    from funnelwatch.stream.native.series_numbers import SeriesNumbers

    Rows = NDArray[np.void]
    Credits = NDArray[np.void]

IMPRESSION, SUCCESS, FAILURE = range(3)
"""The outcome of an event; the latter two are one more than the schema's indexes of the symbols of ``status``."""

DOUBTFUL, UNPLANNED = -1, -2
"""In the place of an outcome: the record is validated by itself; likewise, unless a plan is made for its header."""

NONE = int(np.iinfo(np.int64).min)
"""The duration of an event that has none."""

NO_CREDITS: Credits = np.zeros(0, CREDIT)


@dataclass(frozen=True, slots=True)
class Record:
    """A message of the events topic, as it came; ``timestamp`` is Kafka's, ms."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class Records:
    """Records in order of their offsets, as the decoder in C has them.

    Attributes:
        rows: one for each record (``ROW``).
        content: keys and values of those records that are not plainly events of known series.
        numbers: the series that the rows have numbers of; None: nothing is decoded yet.
    """

    rows: Rows
    content: bytes = b""
    numbers: SeriesNumbers | None = None

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Records that are there one by one."""
        keys, values = [one.key for one in records], [one.value for one in records]
        offsets, timestamps = [one.offset for one in records], [one.timestamp for one in records]
        return cls.of_columns(np.array(offsets, np.int64), keys, values, np.array(timestamps, np.int64))

    @classmethod
    def of_columns(
        cls, offsets: Ints, keys: Sequence[bytes | None], values: Sequence[bytes | None], timestamps: Ints
    ) -> Records:
        """Records that are there column by column."""
        rows = np.zeros(len(values), ROW)
        rows["outcome"], rows["series"], rows["offset"], rows["log_time"] = UNPLANNED, -1, offsets, timestamps
        rows["key_size"] = [-1 if one is None else len(one) for one in keys]
        rows["value_size"] = [-1 if one is None else len(one) for one in values]
        sizes = np.maximum(rows["key_size"], 0) + np.maximum(rows["value_size"], 0).astype(np.int64)
        rows["bytes_at"] = np.cumsum(sizes) - sizes
        return cls(rows, b"".join([part or b"" for pair in zip(keys, values, strict=True) for part in pair]))

    @property
    def offsets(self) -> Ints:
        """Where each is."""
        found: Ints = self.rows["offset"]
        return found

    @property
    def timestamps(self) -> Ints:
        """Kafka's timestamp of each, ms."""
        found: Ints = self.rows["log_time"]
        return found

    def __len__(self) -> int:
        """How many they are."""
        return len(self.rows)

    def __getitem__(self, at: int) -> Record:
        """One of them; its bytes must be kept."""
        row = self.rows[at]
        start, key, value = int(row["bytes_at"]), int(row["key_size"]), int(row["value_size"])
        assert start >= 0, "the bytes of an accepted event are gone"
        between = start + max(0, key)
        return Record(
            int(row["offset"]),
            self.content[start:between] if key >= 0 else None,
            self.content[between : between + value] if value >= 0 else None,
            int(row["log_time"]),
        )

    def without(self, offsets: Iterable[int]) -> Records:
        """All but those with these offsets."""
        return replace(self, rows=self.rows[~np.isin(self.offsets, np.fromiter(offsets, np.int64))])

    def split(self, offset: int) -> tuple[Records, Records]:
        """The records before an offset, and the others."""
        at = int(np.searchsorted(self.offsets, offset))
        return replace(self, rows=self.rows[:at]), replace(self, rows=self.rows[at:])


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


@dataclass(frozen=True, slots=True)
class Events:
    """Good events.

    Attributes:
        names: the series of each number.
        rows: one for each event (``ROW``).
    """

    names: Sequence[Series]
    rows: Rows

    @classmethod
    def of(cls, names: Sequence[Series], **columns: Iterable[int]) -> Events:
        """Events from columns of their rows."""
        rows = np.zeros(max(map(len, columns.values()), default=0), ROW)  # type: ignore[arg-type]
        for name, column in columns.items():
            rows[name] = column
        return cls(names, rows)

    @property
    def offsets(self) -> Ints:
        """Where each is."""
        return self._column("offset")

    @property
    def series(self) -> Ints:
        """Numbers that ``names`` has the series of."""
        return self._column("series")

    @property
    def outcomes(self) -> Ints:
        """``IMPRESSION``, ``SUCCESS`` or ``FAILURE``."""
        return self._column("outcome")

    @property
    def ts(self) -> Ints:
        """When each happened, ms."""
        return self._column("ts")

    @property
    def durations(self) -> Ints:
        """From the impression, ms; ``NONE`` where that is not known."""
        return self._column("duration")

    def _column(self, name: str) -> Ints:
        found: Ints = self.rows[name]
        return found

    def __len__(self) -> int:
        """How many they are."""
        return len(self.rows)

    @classmethod
    def joined(cls, parts: Sequence[Events]) -> Events:
        """Several, one after the other, that have the same names."""
        return cls(parts[0].names, np.concatenate([one.rows for one in parts]))

    def where(self, kept: Flags) -> Events:
        """Some of them."""
        return self if kept.all() else Events(self.names, self.rows[kept])


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
        credited: what the accepted events add by their sessions (``CREDIT``).
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
    credited: Credits = field(default_factory=lambda: NO_CREDITS)


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
        credited=np.concatenate([one.credited for one in parts]),
    )
