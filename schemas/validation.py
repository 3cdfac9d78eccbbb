"""Validation of decoded events: whether an event can be counted, or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.funnels import dimensions_of, series_of
from funnelwatch.schemas.times import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.schemas.counts import Series
    from funnelwatch.schemas.funnels import DeclaredFunnels, Funnels
    from funnelwatch.schemas.settings import Settings

MAX_LENGTH = 100
"""Characters in the name of a funnel or step, and in the value of a dimension."""

MAX_DIMENSIONS_BYTES = 1_600
"""Bytes of a series' dimensions, names and values: with funnel and step they fit into a row of PostgreSQL's index."""

MAX_ID_LENGTH = 500
"""Characters in an id."""


NOTHING_DROPPED_MS = -(2**62)
"""Before every event."""

IDS = ("event_id", "sign_up_session_id")
OS = "os"


class RejectionReason(StrEnum):
    """The reason why a record that is well-formed Avro, or was not read, is not counted.

    Together with the codec's ``Reason`` these are the values of a dead letter's ``reason`` header.
    """

    TOO_LARGE = "TOO_LARGE"
    EMPTY_FIELD = "EMPTY_FIELD"
    FIELD_TOO_LONG = "FIELD_TOO_LONG"
    BAD_CHARACTER = "BAD_CHARACTER"
    UNKNOWN_STEP = "UNKNOWN_STEP"
    UNDECLARED_FUNNEL = "UNDECLARED_FUNNEL"
    TOO_MANY_FUNNELS = "TOO_MANY_FUNNELS"
    TOO_MANY_STEPS = "TOO_MANY_STEPS"
    STATUS_MISSING = "STATUS_MISSING"
    IN_THE_FUTURE = "IN_THE_FUTURE"
    TOO_OLD = "TOO_OLD"
    BAD_DURATION = "BAD_DURATION"
    BAD_METRIC = "BAD_METRIC"
    OTHER_KIND = "OTHER_KIND"
    TOO_MANY_NAMES = "TOO_MANY_NAMES"
    TOO_MANY_SERIES = "TOO_MANY_SERIES"
    NOT_STORED = "NOT_STORED"


OF_UNDECLARED = frozenset(
    {RejectionReason.UNDECLARED_FUNNEL, RejectionReason.TOO_MANY_FUNNELS, RejectionReason.TOO_MANY_STEPS}
)
"""Reasons that only events of undeclared funnels are rejected for."""


class RejectedError(FunnelwatchError, ValueError):
    """A record is not counted."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(slots=True)
class Horizon:
    """The time before which retention has dropped the counts, so that no event can be counted, ms; None: none.

    Another thread moves it forward while events are validated.
    """

    from_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The events that are accepted.

    Attributes:
        max_future_ms: how far ahead of the wall clock an event may be, ms.
        max_age_ms: how far behind it, ms.
        horizon: before this nothing is counted, however large ``max_age_ms`` is.
        accepts_undeclared: whether undeclared funnels are counted.
    """

    max_future_ms: int
    max_age_ms: int
    horizon: Horizon = field(default_factory=Horizon, compare=False)
    accepts_undeclared: bool = True

    @classmethod
    def of(cls, settings: Settings, horizon: Horizon | None = None, funnels: DeclaredFunnels | None = None) -> Limits:
        """The rules of the settings, and of the funnels file where it has any."""
        policy = (funnels.undeclared if funnels else None) or settings.undeclared_funnels
        return cls(
            int(settings.max_future_s * 1000),
            int(settings.max_age_days * DAY_MS),
            horizon or Horizon(),
            policy == "accept",
        )

    def oldest_ms(self, now_ms: int) -> int:
        """The oldest time that an event may have, ms."""
        return max(now_ms - self.max_age_ms, self.dropped_ms)

    @property
    def dropped_ms(self) -> int:
        """Counts before this are dropped, ms."""
        return self.horizon.from_ms or NOTHING_DROPPED_MS


def check(event: Mapping[str, Any], funnels: Funnels, limits: Limits, now_ms: int) -> None:
    """Raise ``RejectedError`` if the event cannot be counted.

    The status of an impression is ignored: some clients send one with every event.
    """
    check_series(series_of(event, funnels), funnels, limits)
    _check_ids(event)
    if event["phase"] == "POST_VERIFICATION" and event["status"] is None:
        raise RejectedError(RejectionReason.STATUS_MISSING, "a POST_VERIFICATION must say SUCCESS or FAILURE")
    _check_times(event, limits, now_ms)


def check_series(series: Series, funnels: Funnels, limits: Limits) -> None:
    """Raise ``RejectedError`` if no event of the series can be counted."""
    if OS in dimensions_of(series.funnel, funnels) and not series.value(OS):
        raise RejectedError(RejectionReason.EMPTY_FIELD, f"{OS} is empty")
    for name, value in (("funnel", series.funnel), ("step", series.step), *series.dimensions):
        if not value:
            raise RejectedError(RejectionReason.EMPTY_FIELD, f"{name} is empty")
        if len(value) > MAX_LENGTH:
            raise RejectedError(
                RejectionReason.FIELD_TOO_LONG, f"{name} has {len(value)} characters, more than {MAX_LENGTH}"
            )
        if "\0" in value:
            raise RejectedError(RejectionReason.BAD_CHARACTER, f"{name} has a NUL character")
    size = sum(len(part.encode()) for pair in series.dimensions for part in pair)
    if size > MAX_DIMENSIONS_BYTES:
        raise RejectedError(
            RejectionReason.FIELD_TOO_LONG,
            f"the dimensions have {size} bytes together, more than {MAX_DIMENSIONS_BYTES}",
        )
    funnel = funnels.get(series.funnel)
    if funnel is None and not limits.accepts_undeclared:
        raise RejectedError(
            RejectionReason.UNDECLARED_FUNNEL,
            f"the funnel {series.funnel} is not declared, and FUNNELWATCH_UNDECLARED_FUNNELS, or undeclared in the "
            "funnels file, is reject",
        )
    if funnel is not None and series.step not in funnel.steps:
        raise RejectedError(
            RejectionReason.UNKNOWN_STEP,
            f"funnel {series.funnel} has no step {series.step}; it has {', '.join(funnel.steps)}",
        )


def _check_ids(event: Mapping[str, Any]) -> None:
    for name in IDS:
        value = event[name]
        if not value:
            raise RejectedError(RejectionReason.EMPTY_FIELD, f"{name} is empty")
        if len(value) > MAX_ID_LENGTH:
            raise RejectedError(
                RejectionReason.FIELD_TOO_LONG, f"{name} has {len(value)} characters, more than {MAX_ID_LENGTH}"
            )


def check_time(ts: int, limits: Limits, now_ms: int) -> None:
    """Raise ``RejectedError`` if ``ts`` is too far from now to be counted."""
    ahead = ts - now_ms
    if ahead > limits.max_future_ms:
        raise RejectedError(RejectionReason.IN_THE_FUTURE, f"ts is {ahead / 1000:.0f} s ahead of the clock")
    if -ahead > limits.max_age_ms:
        raise RejectedError(
            RejectionReason.TOO_OLD,
            f"ts is {-ahead / DAY_MS:.0f} days old, more than {limits.max_age_ms / DAY_MS:g}; is it in milliseconds?",
        )
    _check_dropped("ts", ts, limits, now_ms)


def _check_dropped(what: str, moment: int, limits: Limits, now_ms: int) -> None:
    """Raise ``RejectedError`` if retention has dropped the counts of the event's window."""
    if moment < limits.dropped_ms:
        raise RejectedError(
            RejectionReason.TOO_OLD,
            f"{what} is {(now_ms - moment) / DAY_MS:.0f} days old, and counts older than "
            f"{(now_ms - limits.dropped_ms) / DAY_MS:.0f} days were dropped (FUNNELWATCH_KEEP_WINDOWS_DAYS)",
        )


def _check_times(event: Mapping[str, Any], limits: Limits, now_ms: int) -> None:
    check_time(event["ts"], limits, now_ms)
    duration = event["duration_ms"]
    if duration is not None and not 0 <= duration <= limits.max_age_ms:
        raise RejectedError(RejectionReason.BAD_DURATION, f"duration_ms is {duration}")
    if event["phase"] == "POST_VERIFICATION" and duration is not None:
        _check_dropped("the impression that it answers (ts - duration_ms)", event["ts"] - duration, limits, now_ms)
