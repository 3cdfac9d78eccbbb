"""The values that the parts of the stream exchange: series, counts, closed windows.

Times are whole milliseconds since the epoch, UTC, everywhere in the stream; windows are half-open, ``[start, end)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from funnelwatch.schemas.window_counts import WindowCounts


class Series(NamedTuple):
    """The names by which events are counted.

    Attributes:
        funnel: the funnel.
        step: the step.
        dimensions: name and value of each dimension that has a value, sorted by name.
    """

    funnel: str
    step: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, funnel: str, step: str, /, **dimensions: str) -> Series:
        """The series with these dimensions; an empty value is none."""
        return cls(funnel, step, tuple(sorted(pair for pair in dimensions.items() if pair[1])))

    def value(self, name: str) -> str:
        """The value of a dimension; empty where the series has none."""
        for own, value in self.dimensions:
            if own == name:
                return value
        return ""


class CountRow(NamedTuple):
    """Counts of one series in one window.

    ``successes`` and ``failures`` are dated by their own ts (window basis); ``cohort_successes`` and
    ``cohort_failures`` are the same verifications dated back to their impression, ``ts - duration_ms`` (cohort
    basis; a verification without ``duration_ms`` is dated by its ts).

    The others count sessions, each once. ``sessions`` saw the step and ``session_successes`` of them completed it, both
    dated by the session's first impression of the step. ``reached`` came to the step of a declared funnel in order and
    ``completed`` of them completed it, both dated by the session's entry into the funnel, with the dimensions at entry.
    """

    impressions: int = 0
    successes: int = 0
    failures: int = 0
    cohort_successes: int = 0
    cohort_failures: int = 0
    sessions: int = 0
    session_successes: int = 0
    reached: int = 0
    completed: int = 0

    @property
    def events(self) -> int:
        """The number of events, each once."""
        return self.impressions + self.successes + self.failures


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """The counts of every active series of one funnel in one closed window; zeros included."""

    funnel: str
    window_start: int
    window_end: int
    revision: int
    series: dict[Series, CountRow]


CountKey = tuple[int, Series]
"""Start of a window, ms, and a series."""

Counts = dict[CountKey, list[int]]
"""Counts to add, by key; each list has the fields of a CountRow, in order."""


DurationKey = tuple[int, Series, int]
"""Start of a window, ms, a series, and a slot of a histogram (``funnelwatch.schemas.histogram``)."""

Durations = dict[DurationKey, list[int]]
"""Durations to add, by key; the list has one number, the successes in the slot."""


@dataclass(slots=True)
class PartitionCounts:
    """The counts that the records ``[start_offset, next_offset)`` of one partition add.

    ``log_time`` is the largest Kafka timestamp among them, ``watermark`` the event time before which no more
    events of the partition are expected; None where no record has one.
    ``undeclared`` is how many of the rejected records are of funnels that nobody has declared.
    ``rejected_offsets`` are those of rejected records whose event ids do not count as seen when the duplicate horizon
    is read again; they are at most as young as ``rejected_log_time``, by default ``log_time``.
    """

    partition: int
    start_offset: int
    next_offset: int
    counts: WindowCounts
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    watermark: int | None = None
    log_time: int | None = None
    undeclared: int = 0
    rejected_offsets: list[int] = field(default_factory=list)
    rejected_log_time: int | None = None
