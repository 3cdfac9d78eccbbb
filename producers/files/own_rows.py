"""Rows whose columns are the fields of ``FunnelEvent``: the input of ``funnelwatch produce`` without a mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.producers.files.mapper import Rejected, line_id
from funnelwatch.schemas.files import SCHEMAS
from funnelwatch.schemas.times import parse_instant_ms
from funnelwatch.schemas.whole import whole_event, whole_text

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = tuple(field["name"] for field in SCHEMAS["FunnelEvent"]["fields"])
CONTEXT = "contexts."
WITH_DEFAULT = ("funnel", "os", "browser", "app_version", "status", "duration_ms", "contexts", "event_id")


def own_row(row: Mapping[str, Any], line: int, funnel: str | None = None) -> list[dict[str, Any]]:
    """The one event of a row; its types are not validated yet.

    Columns are the event's fields, ``contexts.KEY`` for one of its contexts. ``ts`` is ms since the epoch or ISO 8601.
    An optional field that is empty or absent takes its default; an absent ``event_id`` is a hash of content and line.

    Args:
        row: values by column; strings where they come from CSV.
        line: its number in the file.
        funnel: the funnel, instead of the row's.

    Raises:
        Rejected: the row is not an event.
    """
    event: dict[str, Any] = {}
    contexts: dict[str, Any] = {}
    for name, value in row.items():
        if name.startswith(CONTEXT):
            if value not in ("", None):
                contexts[name.removeprefix(CONTEXT)] = value
        elif name not in FIELDS:
            raise Rejected("UNKNOWN_FIELD", f"{name}: is not a field of an event; use --map to map your columns")
        elif value not in ("", None) or name not in WITH_DEFAULT:
            event[name] = value
    if contexts:
        event["contexts"] = {**event.get("contexts", {}), **contexts}
    if "event_id" not in event:
        event["event_id"] = line_id(row, line)
    event["funnel"] = funnel or event.get("funnel", "sign_up")
    event["ts"] = _time(event.get("ts"))
    if isinstance(event.get("duration_ms"), str):
        event["duration_ms"] = _whole(event["duration_ms"])
    return [whole_event(event, rounded_ts=True)]


def _time(value: Any) -> Any:
    if value is None or value == "":
        raise Rejected("NO_TIME", "ts: is missing or empty")
    if not isinstance(value, str):
        return value
    found = whole_text(value, rounded=True)
    if isinstance(found, int):
        return found
    try:
        return parse_instant_ms(value)
    except (ValueError, OverflowError) as error:
        raise Rejected("BAD_TIME", f"ts: {value[:50]!r} is neither ms since the epoch nor ISO 8601: {error}") from None


def _whole(text: str) -> int:
    found = whole_text(text, rounded=True)
    if not isinstance(found, int):
        raise Rejected("BAD_FIELD", f"duration_ms: {text[:50]!r} is not a number of milliseconds")
    return found
