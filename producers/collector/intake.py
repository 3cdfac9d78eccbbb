"""Converts the JSON of a request to events that workers count, or to the errors of invalid events.

The collector validates with the functions and the settings of a worker, so an acknowledged event does not become a dead
letter later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from funnelwatch.producers.collector.user_agent import platform_and_browser
from funnelwatch.producers.http.problem import Problem
from funnelwatch.schemas.dimensions import EVENT_FIELDS
from funnelwatch.schemas.events import event_error, new_event_id
from funnelwatch.schemas.files import SCHEMAS
from funnelwatch.schemas.fit import misfit
from funnelwatch.schemas.metrics import metric_error
from funnelwatch.schemas.times import DAY_MS, parse_instant_ms
from funnelwatch.schemas.validation import Limits, RejectedError, RejectionReason, check
from funnelwatch.schemas.whole import whole, whole_event, whole_metric

if TYPE_CHECKING:
    from funnelwatch.schemas.funnels import DeclaredFunnels
    from funnelwatch.schemas.settings import Settings

RIGHT = (
    'an event {"sign_up_session_id": "s-1", "step": "INPUT_NAME", "phase": "IMPRESSION"}, a list of events, '
    'or {"events": [...]}'
)
FIELD_OF = {
    RejectionReason.UNKNOWN_STEP: "step",
    RejectionReason.UNDECLARED_FUNNEL: "funnel",
    RejectionReason.STATUS_MISSING: "status",
    RejectionReason.IN_THE_FUTURE: "ts",
    RejectionReason.TOO_OLD: "ts",
    RejectionReason.BAD_DURATION: "duration_ms",
}


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why an event is rejected: the field, and what is wrong with it and would be right."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The content of a request: its events as in the JSON, and the time on the sender's clock."""

    events: list[Any]
    sent_at: int | None = None


def parse_events(body: bytes, most: int) -> Sent:
    """The events of a request's body, unchecked.

    Raises:
        Problem: it is no JSON (400), not of a known form (400), or has too many events (413).
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        has_position = isinstance(error, json.JSONDecodeError | UnicodeDecodeError)
        deep = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise Problem(400, f"the body is no JSON: {error if has_position else deep}; right would be {RIGHT}") from None
    sent_at = None
    if isinstance(content, dict) and "events" in content:
        if unknown := sorted(set(content) - {"events", "sent_at"}):
            raise Problem(400, f"{unknown[0]}: is not known beside events; right would be sent_at, or nothing")
        sent_at, content = _time(content.get("sent_at")), content["events"]
        if sent_at is not None and type(sent_at) is not int:
            invalid = _no_time("sent_at", sent_at) if isinstance(sent_at, str) else None
            message = (
                invalid.message if invalid else f"{sent_at!r} is not a time; right would be Date.now(), in milliseconds"
            )
            raise Problem(400, f"sent_at: {message}")
    events = content if isinstance(content, list) else [content] if isinstance(content, dict) else None
    if not events:
        raise Problem(400, f"the body has no events; right would be {RIGHT}")
    if len(events) > most:
        raise Problem(413, f"{len(events)} events at once are more than {most}; send fewer at once")
    return Sent(events, sent_at)


class Checks:
    """Completes the events of requests, or returns their errors.

    Args:
        settings: how old an event may be, how far ahead and how large.
        funnels: the declared ones.
    """

    def __init__(self, settings: Settings, funnels: DeclaredFunnels) -> None:
        self._funnels = funnels
        self._limits = Limits.of(settings, funnels=funnels)

    def complete(self, given: Any, user_agent: str, skew_ms: int, now_ms: int) -> dict[str, Any] | Invalid:
        """The complete event: given fields, and defaults from the clock, a random id and the User-Agent.

        Args:
            given: one event as it came.
            user_agent: the header; empty where there is none.
            skew_ms: how far the sender's clock is behind; added to a ts that was given.
            now_ms: the wall clock.
        """
        if not isinstance(given, dict):
            return Invalid("", f"{str(given)[:100]!r} is not an event; right would be an object of fields")
        ts = _time(given.get("ts"))
        if isinstance(ts, str):
            return _no_time("ts", ts)
        event = {"funnel": "sign_up", **given, "ts": now_ms if ts is None else ts}
        if type(ts) is int:
            event["ts"] = ts + skew_ms
        event["event_id"] = given.get("event_id") or new_event_id()
        if "kind" in given:
            return self.metric({name: value for name, value in event.items() if name != "funnel"}, now_ms)
        if user_agent and not given.get("os"):
            os, browser = platform_and_browser(user_agent)
            if os:
                event["os"] = os
            else:
                event.pop("os", None)
            event["browser"] = given.get("browser") or browser
        return self.event({name: value for name, value in event.items() if value is not None}, now_ms)

    def event(self, event: dict[str, Any], now_ms: int) -> dict[str, Any] | Invalid:
        """The event with all its fields, if a worker accepts it, else its error."""
        if (unknown := next((name for name in event if name not in EVENT_FIELDS), None)) is not None:
            right = f'{{"contexts": {{{json.dumps(unknown[:100])}: "…"}}}} for a further dimension'
            return Invalid(
                unknown, f"is not a field of an event, which has {', '.join(FIELDS)}; right would be {right}"
            )
        event = {"funnel": "sign_up", **whole_event(event, rounded_ts=True)}
        if wrong := misfit(SCHEMAS["FunnelEvent"], event) or event_error(event):
            return _invalid(wrong)
        event = {**DEFAULTS, **event}
        try:
            check(event, self._funnels, self._limits, now_ms)
        except RejectedError as error:
            return Invalid(FIELD_OF.get(error.reason) or error.detail.split()[0], error.detail)
        return event

    def metric(self, sample: dict[str, Any], now_ms: int) -> dict[str, Any] | Invalid:
        """The sample of a counter or timer with all its fields, if a worker accepts it, else its error.

        Only workers know the limits on names and series; they reject samples beyond.
        """
        sample = {"dimensions": {}, "value": 1, **whole_metric(sample, rounded_ts=True)}
        if wrong := misfit(SCHEMAS["Metric"], sample) or metric_error(sample):
            return _invalid(wrong)
        ahead = sample["ts"] - now_ms
        if ahead > self._limits.max_future_ms:
            return Invalid("ts", f"is {ahead / 1000:.0f} s ahead of the clock")
        if -ahead > self._limits.max_age_ms:
            return Invalid("ts", f"is {-ahead / DAY_MS:.0f} days old; is it in milliseconds?")
        return sample


def _invalid(wrong: str) -> Invalid:
    name, _, message = wrong.partition(": ")
    return Invalid(name, message)


FIELDS = tuple(field["name"] for field in SCHEMAS["FunnelEvent"]["fields"])
DEFAULTS = {field["name"]: field["default"] for field in SCHEMAS["FunnelEvent"]["fields"] if "default" in field}


def _time(given: Any) -> Any:
    """Milliseconds since the epoch where a text is a time with its zone (ISO 8601); else what was given."""
    if not isinstance(given, str):
        return whole(given, rounded=True)
    try:
        return parse_instant_ms(given, zone=None)
    except (ValueError, OverflowError):
        return given


def _no_time(field: str, text: str) -> Invalid:
    """The error of a text that is no time."""
    try:
        parse_instant_ms(text, zone=None)
    except (ValueError, OverflowError) as error:
        cause = str(error)
    else:
        cause = "no calendar has it"
    right = "Date.now(), or like 2026-11-22T10:00:00Z"
    return Invalid(field, f"{text[:50]!r} is not a time: {cause}; right would be {right}")
