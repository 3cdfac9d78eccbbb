"""Converts rows to events by a mapping."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.events import Phase
from funnelwatch.schemas.times import parse_instant_ms, to_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping as Map

    from funnelwatch.producers.files.mapping import Column, Made, Mapping, Time

Row = "Map[str, Any]"

_PER_UNIT = {"s": 1000, "ms": 1}


class Rejected(FunnelwatchError):  # noqa: N818 - a verdict on the row
    """A row that should have an event is rejected.

    Attributes:
        reason: the kind of error, for counting: a name in capitals.
        detail: the error, for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Mapper:
    """Applies a mapping, row after row.

    Args:
        mapping: the mapping.
        funnel: the funnel, instead of the mapping's.
    """

    def __init__(self, mapping: Mapping, funnel: str | None = None) -> None:
        self._mapping = mapping
        self._funnel = funnel or mapping.funnel
        self._ts = _time_reader(mapping.ts)
        self._sessions: OrderedDict[str, dict[str, int]] = OrderedDict()

    def __call__(self, row: Map[str, Any], line: int) -> list[dict[str, Any]]:
        """The events of a row, as records for the encoder; none where it has nothing to count.

        Args:
            row: values by column.
            line: its number in the file, for the ids of its events.

        Raises:
            Rejected: the row lacks a field, or has a name that the mapping does not list.
        """
        mapping = self._mapping
        name = _value(mapping.event, row)
        if name not in mapping.events:
            if mapping.other_events == "ignore":
                return []
            raise Rejected("UNKNOWN_EVENT", f"{mapping.event.column}: {name!r} is not among the mapping's events")
        makes = mapping.events[name]
        if not makes:
            return []
        session = _value(mapping.session_id, row)
        if not session:
            raise Rejected("NO_SESSION", f"{mapping.session_id.column}: is missing or empty")
        ts = self._ts(row)
        row_id = _value(mapping.event_id, row) if mapping.event_id else line_id(row, line)
        if not row_id:
            raise Rejected("NO_EVENT_ID", "event_id: is missing or empty")
        base = {
            "funnel": self._funnel,
            "sign_up_session_id": session,
            "os": _value(mapping.os, row),
            "browser": _value(mapping.browser, row),
            "app_version": _value(mapping.app_version, row),
            "ts": ts,
            "contexts": {key: text for key, column in mapping.contexts.items() if (text := _value(column, row))},
        }
        events = []
        for number, made in enumerate(makes):
            counts, duration_ms = self._first_time(session, made, ts) if mapping.once_per_session else (True, None)
            if counts:
                event = {"event_id": f"{row_id}-{number}" if len(makes) > 1 else row_id, **base, "step": made.step}
                event |= {"phase": made.phase.value, "status": made.status and made.status.value}
                events.append({**event, "duration_ms": duration_ms})
        return events

    def _first_time(self, session: str, made: Made, ts: int) -> tuple[bool, int | None]:
        """Whether an event counts under ``once_per_session``, and the ms since the impression of its step."""
        seen = self._sessions.get(session)
        if seen is None:
            seen = self._sessions[session] = {}
            if len(self._sessions) > self._mapping.remember_sessions:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(session)
        key = f"{made.step}/{made.status or ''}"
        shown = seen.get(f"{made.step}/")
        if key in seen or (made.phase is Phase.POST_VERIFICATION and shown is None):
            return False, None
        seen[key] = ts
        return True, None if shown is None else max(0, ts - shown)


def line_id(row: Map[str, Any], line: int) -> str:
    """An id of a row from its content and line: the same each time the file is read."""
    text = "\x1f".join(f"{key}\x1e{value}" for key, value in row.items())
    return hashlib.blake2b(f"{line}\x1d{text}".encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _value(column: Column, row: Map[str, Any]) -> str:
    if column.column is None:
        return column.value or ""
    found = row.get(column.column)
    text = "" if found is None else str(found)
    return column.values.get(text, text) or column.default


def _time_reader(time: Time) -> Callable[[Map[str, Any]], int]:
    """A function that reads the event time of a row, in ms.

    It raises ``Rejected`` where the time is missing or invalid.
    """
    zone = ZoneInfo(time.timezone)
    scale = _PER_UNIT.get(time.format)

    def read(row: Map[str, Any]) -> int:
        given = row.get(time.column)
        if given is None or given == "":
            raise Rejected("NO_TIME", f"{time.column}: is missing or empty")
        try:
            if scale:
                return round(float(str(given)) * scale)  # the text, so that a boolean is no number
            text = str(given)
            if time.format == "iso":
                return parse_instant_ms(text, zone)
            at = datetime.strptime(text, time.format)  # noqa: DTZ007 - the zone comes next
            return to_ms(at if at.tzinfo else at.replace(tzinfo=zone))
        except (ValueError, OverflowError, TypeError) as error:
            shown = repr(given)[:100]
            detail = f"{time.column}: {shown} is not of the format {time.format}: {error}"
            raise Rejected("BAD_TIME", detail) from None

    return read
