"""Counters and timers: the fields of a sample, and the rules beyond its Avro types."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.events import new_event_id
from funnelwatch.schemas.files import SCHEMAS
from funnelwatch.schemas.fit import misfit
from funnelwatch.schemas.whole import whole_metric

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
"""Names are those of Prometheus, so that a sample can be shown there as it is."""

DIMENSION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_LENGTH: Final = 100
"""Characters of a name, of a dimension's name and of its value."""
MAX_DIMENSIONS: Final = 8
MAX_ID_LENGTH: Final = 500
MAX_VALUE: Final = 1_000_000_000
"""The largest increment, and the longest time, ms (11 days): no window's sum of such leaves the range of a bigint."""


class MetricKind(StrEnum):
    """The kind of a sample."""

    COUNTER = "COUNTER"
    """A number of occurrences."""
    TIMER = "TIMER"
    """A duration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One sample of a counter or a timer.

    Attributes:
        name: of the counter or timer, such as ``sms_sent``.
        kind: COUNTER or TIMER; a name keeps the kind that it was first seen with.
        value: the increment, or milliseconds; 0 to 1,000,000,000.
        dimensions: the values it is counted by, such as ``{"os": "iOS"}``; at most 8.
        ts: event time, ms since the epoch, UTC; by default now.
        event_id: unique; the same id twice is counted once. By default a random UUID.

    Raises:
        ValueError: a field is invalid; the message names it.
    """

    name: str
    kind: MetricKind
    value: int = 1
    dimensions: dict[str, str] = field(default_factory=dict)
    ts: int = field(default_factory=wall_clock_ms)
    event_id: str = field(default_factory=new_event_id)

    def __post_init__(self) -> None:
        """Reject a sample that the stream would reject; the value of a timer is rounded."""
        for name, value in whole_metric({"ts": self.ts, "value": self.value, "kind": self.kind}).items():
            object.__setattr__(self, name, value)
        record = self.record()
        if wrong := misfit(SCHEMAS["Metric"], record) or metric_error(record):
            raise ValueError(wrong)

    def record(self) -> dict[str, Any]:
        """The sample as a record for the encoder."""
        return {name: getattr(self, name) for name in self.__slots__}


def metric_error(record: Mapping[str, Any]) -> str | None:
    """The error of a record that is no possible sample, as ``field: error``; None: it is possible.

    Assumes the types of the schema (the encoder and the decoder see to them) and looks only at what they cannot say.
    """
    event_id, name, value = record.get("event_id"), record.get("name", ""), record["value"]
    dimensions = record.get("dimensions") or {}
    if not event_id or len(event_id) > MAX_ID_LENGTH:
        return f"event_id: is missing, empty or longer than {MAX_ID_LENGTH} characters"
    if not NAME.fullmatch(name) or len(name) > MAX_LENGTH:
        return f"name: {name[:MAX_LENGTH]!r} is not a name; right would be up to {MAX_LENGTH} of a-z, A-Z, 0-9, _ and :"
    if not 0 <= value <= MAX_VALUE:
        return f"value: {value} is not between 0 and {MAX_VALUE}"
    if len(dimensions) > MAX_DIMENSIONS:
        return f"dimensions: {len(dimensions)} are more than {MAX_DIMENSIONS}"
    return next((wrong for key, text in dimensions.items() if (wrong := _dimension_error(key, text))), None)


def _dimension_error(key: str, text: str) -> str | None:
    if not DIMENSION.fullmatch(key) or len(key) > MAX_LENGTH:
        return (
            f"dimensions: {key[:MAX_LENGTH]!r} is not a name; right would be up to {MAX_LENGTH} of a-z, A-Z, 0-9 and _"
        )
    if not 0 < len(text) <= MAX_LENGTH or "\0" in text:
        return f"dimensions: {key} has {len(text)} characters or a NUL; right would be 1 to {MAX_LENGTH} without it"
    return None


def series_name(name: str, dimensions: Mapping[str, str]) -> str:
    """A counter or timer with its dimensions in one line, as Prometheus writes it: ``sms_sent{os="iOS"}``."""
    inside = ",".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in sorted(dimensions.items()))
    return f"{name}{{{inside}}}" if inside else name
