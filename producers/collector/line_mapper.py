"""Converts points to events and samples by a mapping."""

from __future__ import annotations

import hashlib
import json
from math import isfinite
from typing import TYPE_CHECKING, Any

from funnelwatch.producers.collector.intake import Invalid
from funnelwatch.producers.collector.line_mapping import EVENT_FIELDS, UNIT_MS, name_of
from funnelwatch.schemas.events import new_event_id

if TYPE_CHECKING:
    from funnelwatch.producers.collector.intake import Checks
    from funnelwatch.producers.collector.line_mapping import Entry, LineMapping, Sample
    from funnelwatch.producers.collector.lines import Point, Value

WHOLE = ("duration_ms",)
"""Fields of an event that are whole numbers."""

FOR_LINES = "FUNNELWATCH_LINES_PATH names a file that maps it, or ignores it"


class LineMapper:
    """Applies a mapping to points.

    Args:
        mapping: the mapping.
        checks: the validation of events and samples.
    """

    def __init__(self, mapping: LineMapping, checks: Checks) -> None:
        self._mapping = mapping
        self._checks = checks

    def map(self, point: Point, now_ms: int) -> dict[str, Any] | Invalid | None:
        """A complete event or sample, or an error; None where the mapping ignores the point.

        The id of a point with a time is a hash of the point, so that a batch that is sent again counts once, as
        InfluxDB stores it once. Points without a time are distinct.
        """
        entry = self._mapping.entry(point.measurement, point.tags)
        if entry is None:
            unmapped = Invalid("measurement", f"{point.measurement!r} is not mapped; {FOR_LINES}")
            return unmapped if self._mapping.others == "reject" else None
        if entry.ignore:
            return None
        made: dict[str, Any] = {"event_id": _id(point), "ts": now_ms if point.ts is None else point.ts}
        if entry.event is not None:
            return self._checks.event({**made, **_event(entry, point)}, now_ms)
        sample = entry.counter or entry.timer
        assert sample is not None
        value = _number(sample, point, counter=entry.counter is not None)
        if isinstance(value, Invalid):
            return value
        kept = point.tags if sample.dimensions is None else {k: point.tags.get(k, "") for k in sample.dimensions}
        made["dimensions"] = {key: text for key, text in kept.items() if text and key not in sample.leave_out}
        made |= {"name": name_of(sample.name, point.measurement, point.tags), "value": value}
        return self._checks.metric({**made, "kind": "COUNTER" if entry.counter else "TIMER"}, now_ms)


def _event(entry: Entry, point: Point) -> dict[str, Any]:
    """The fields of an event that the point has, and the rest of the point as contexts."""
    given: dict[str, Value] = {**point.fields, **point.tags}
    sources = entry.event or {}
    event: dict[str, Any] = {}
    used = set(entry.where)
    for name in EVENT_FIELDS:
        source = sources.get(name)
        if source is not None and source.value is not None:
            event[name] = source.value
            continue
        key = source.source if source and source.source else name
        if key not in given:
            continue
        used.add(key)
        value = given[key]
        text = _text(value)
        if name in WHOLE:
            event[name] = _whole(value)
        elif text:
            event[name] = source.values.get(text, text) if source else text
    named: dict[str, str] = {}
    for name, one in entry.contexts.items():
        used.add(one.source or "")
        text = one.value if one.value is not None else _text(given.get(one.source or "", ""))
        if text:
            named[name] = one.values.get(text, text)
    event["contexts"] = {**{key: _text(value) for key, value in given.items() if key not in used}, **named}
    return event


def _number(sample: Sample, point: Point, *, counter: bool) -> int | Invalid:
    """The increment, or whole milliseconds."""
    value = point.fields.get(sample.value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = "is missing" if value is None else f"{value!r} is not a number"
        return Invalid(sample.value, f"{what}; right would be a line like '{point.measurement} {sample.value}=1'")
    if counter:
        if value != int(value):
            return Invalid(sample.value, f"{value!r} is not whole; a counter goes up by whole numbers")
        return int(value)
    return round(value * UNIT_MS[sample.unit])


def _whole(value: Value) -> Value:
    """The whole number in a field or the text of a tag; another value unchanged, for validation to name."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() else value
    return round(value) if isinstance(value, float) and isfinite(value) else value


def _text(value: Value) -> str:
    """A field as text, in the notation of line protocol."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _id(point: Point) -> str:
    if point.exact_ns is None:
        return new_event_id()
    whole = [point.measurement, sorted(point.tags.items()), sorted(point.fields.items()), point.exact_ns]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:32]
