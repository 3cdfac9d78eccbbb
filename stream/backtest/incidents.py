"""Incidents that are known, and which alerts are about them.

An alert and an incident *belong together* when their series are compatible and the alert was raised in time:

- Series are compatible when funnel, step and dimensions differ nowhere where both name one. An incident
  that names no step is about all steps; an alert on a whole step is about each os of it, and one on an os about the
  step.
- An alert was raised *in time* when the window in which it was raised ends after the incident's start and starts
  before the incident's end plus the grace, which is for the time that the detector needs for a short dip.

An alert that belongs to an incident is true. One that is raised within the echo after an incident on a compatible
series is an *echo*: the stretches that the detector looks at still hold the dip. Every other one is a false alarm. An
incident is detected when an alert belongs to it, or was raised before it on a compatible series and still fires when
it starts (delay 0; that alert may be a false alarm all the same). Its delay is how many windows have ended since its
start when the first alert that belongs to it is raised: 1 is the first window that it touches.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from funnelwatch.producers.files.csv_records import CsvRecords
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.schemas.funnels import context_keys
from funnelwatch.stream.backtest.table import TableError, header, moment, opened, width
from funnelwatch.stream.detector.scan import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from funnelwatch.schemas.counts import Series
    from funnelwatch.schemas.funnels import Funnels

NEEDED = ("start", "end")
SCOPE = ("funnel", "step", *DIMENSION_FIELDS)
GRACE_WINDOWS = 5
ECHO_WINDOWS = LONGEST


@dataclass(frozen=True, slots=True)
class Incident:
    """Something was broken in [start, end), ms; what ``scope`` names none of, it concerned all of."""

    start: int
    end: int
    scope: Mapping[str, str] = field(default_factory=dict)

    def concerns(self, named: Mapping[str, str]) -> bool:
        """Whether the scope of an alert is compatible."""
        return all(named.get(name, value) == value for name, value in self.scope.items())

    def has(self, series: Series) -> bool:
        """Whether it concerned a series."""
        own = {"funnel": series.funnel, "step": series.step}
        return all((own.get(name) or series.value(name)) == value for name, value in self.scope.items())


@dataclass(frozen=True, slots=True)
class Raised:
    """One alert: first to last message; times in ms."""

    rule: str
    funnel: str
    step: str
    dimensions: Mapping[str, str]
    start: int
    """Start of the window in which it was raised."""
    end: int | None
    """End of the window in which it was resolved; None when it still fires at the end of the counts."""
    message: Mapping[str, object]
    """The first message."""
    worst: float
    """The highest score of its messages."""

    @property
    def scope(self) -> dict[str, str]:
        """The place that it names."""
        return {"funnel": self.funnel, "step": self.step, **self.dimensions}


@dataclass(frozen=True, slots=True)
class Found:
    """The result of one incident."""

    incident: Incident
    detected: bool
    delay_windows: int | None
    by: int | None
    """The place of the alert that detected it."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Which alerts belong to which incidents."""

    found: list[Found]
    verdicts: list[str]
    """The class of each alert: ``incident``, ``echo``, ``false alarm``, or ``left out`` with its incident."""
    incidents: list[int | None]
    """The place of the incident that each alert belongs to, of those that are evaluated."""


def match(
    alerts: Sequence[Raised],
    incidents: Sequence[Incident],
    left_out: Sequence[Incident],
    window_ms: int,
    grace: int = GRACE_WINDOWS,
) -> Matches:
    """Match alerts with incidents; ``left_out`` are not evaluated, and excuse alerts; ``grace`` in windows."""

    def in_time(alert: Raised, incident: Incident, after: int) -> bool:
        raised = alert.start + window_ms
        return incident.start < raised and alert.start < incident.end + after * window_ms

    verdicts, owners = [], []
    for alert in alerts:
        mine = [place for place, one in enumerate(incidents) if one.concerns(alert.scope)]
        owner = next((place for place in mine if in_time(alert, incidents[place], grace)), None)
        others = [one for one in left_out if one.concerns(alert.scope)]
        echo = grace + ECHO_WINDOWS
        if owner is not None:
            verdict = "incident"
        elif any(in_time(alert, one, echo) for one in others):
            verdict = "left out"
        else:
            verdict = "echo" if any(in_time(alert, incidents[place], echo) for place in mine) else "false alarm"
        verdicts.append(verdict)
        owners.append(owner)
    found = [_found(one, alerts, window_ms, grace) for one in incidents]
    return Matches(found, verdicts, owners)


def _found(incident: Incident, alerts: Sequence[Raised], window_ms: int, grace: int) -> Found:
    """The result of an incident."""
    best: tuple[int, int] | None = None
    for place, alert in enumerate(alerts):
        if not incident.concerns(alert.scope):
            continue
        raised = alert.start + window_ms
        if incident.start < raised and alert.start < incident.end + grace * window_ms:
            delay = max(1, -(-(raised - incident.start) // window_ms))
        elif raised <= incident.start and (alert.end is None or alert.end > incident.start):
            delay = 0
        else:
            continue
        if best is None or delay < best[0]:
            best = delay, place
    return Found(incident, best is not None, best and best[0], best and best[1])


def read_incidents(path: Path, declared: Funnels) -> list[Incident]:
    """The incidents of a CSV file with ``start`` and ``end``, and what it has of funnel, step and dimensions.

    An empty field, and ``*`` and ``all``, name nothing.

    Raises:
        TableError: an error, with file, line and field.
    """
    with opened(path) as file:
        first = file.readline()
        scope = (*SCOPE, *context_keys(declared))
        columns = header(path, first, NEEDED, scope)
        try:
            text = file.read().decode()
        except UnicodeDecodeError as error:
            raise TableError(f"{path}: is not UTF-8: {error}") from None
    records = CsvRecords(io.StringIO(text, newline=""), line=1)
    records.width = width(first)
    incidents = []
    for record in records:
        if record.error:
            raise TableError(f"{path}:{record.line}: is no line of CSV: {record.error}")
        if any(value.strip() for value in record.values):
            try:
                incidents.append(_incident(record.values, columns))
            except ValueError as error:
                raise TableError(f"{path}:{record.line}: {error}") from None
    return incidents


def _incident(row: Iterable[str], columns: Mapping[str, int]) -> Incident:
    """One row; a ValueError names the field."""
    fields = [value.strip() for value in row]
    values = {name: fields[place] if place < len(fields) else "" for name, place in columns.items()}
    times = []
    for name in NEEDED:
        try:
            times.append(moment(values[name]))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    start, end = times
    if end <= start:
        raise ValueError(f"end: {values['end']} is not after start, {values['start']}; right would be a later time")
    named = {name: value for name, value in values.items() if name not in NEEDED and value not in {"", "*", "all"}}
    return Incident(start, end, named)
