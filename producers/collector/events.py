"""``POST /v1/events``: one event or sample, or many, as JSON."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from funnelwatch.producers.collector.body import read_body
from funnelwatch.producers.collector.intake import parse_events
from funnelwatch.producers.collector.keys import EVENTS
from funnelwatch.producers.collector.service import BatchResult, deliver
from funnelwatch.producers.http.problem import AsciiJson
from funnelwatch.schemas.clock import wall_clock_ms

RETRY_S = 5.0
"""Pause before a client sends undelivered events again, s."""

EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["sign_up_session_id", "step", "phase"],
    "additionalProperties": False,
    "properties": {
        "event_id": {
            "type": "string",
            "maxLength": 500,
            "description": "Unique; a retry with the same id is counted once.",
        },
        "funnel": {"type": "string", "maxLength": 100, "default": "sign_up"},
        "sign_up_session_id": {"type": "string", "minLength": 1, "maxLength": 500},
        "step": {"type": "string", "minLength": 1, "maxLength": 100},
        "phase": {"enum": ["IMPRESSION", "POST_VERIFICATION"]},
        "status": {"enum": ["SUCCESS", "FAILURE", None], "description": "Status of a POST_VERIFICATION."},
        "os": {"type": "string", "maxLength": 100, "description": "Absent: from the User-Agent."},
        "browser": {"type": "string", "maxLength": 100, "description": "Absent: from the User-Agent."},
        "app_version": {"type": "string", "maxLength": 100},
        "ts": {
            "oneOf": [{"type": "number"}, {"type": "string", "format": "date-time"}],
            "description": "When it happened: milliseconds since the epoch, rounded, or ISO 8601; absent: now.",
        },
        "duration_ms": {
            "type": ["number", "null"],
            "minimum": 0,
            "description": "Milliseconds from the impression to its POST_VERIFICATION, rounded.",
        },
        "contexts": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": 'Further dimensions: {"country": "DE"}.',
        },
    },
}
METRIC_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "kind"],
    "additionalProperties": False,
    "description": "A sample of a counter or a timer.",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z_:][A-Za-z0-9_:]*$", "maxLength": 100},
        "kind": {"enum": ["COUNTER", "TIMER"]},
        "value": {
            "type": "number",
            "minimum": 0,
            "default": 1,
            "description": "The increment, a whole number (3 or 3.0); or milliseconds, rounded.",
        },
        "dimensions": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 8},
        "ts": EVENT_SCHEMA["properties"]["ts"],
        "event_id": EVENT_SCHEMA["properties"]["event_id"],
    },
}
EVENTS_SCHEMA = {"type": "array", "items": {"oneOf": [EVENT_SCHEMA, METRIC_SCHEMA]}, "minItems": 1}
BODY_SCHEMA: dict[str, Any] = {
    "oneOf": [
        EVENT_SCHEMA,
        METRIC_SCHEMA,
        EVENTS_SCHEMA,
        {
            "type": "object",
            "required": ["events"],
            "additionalProperties": False,
            "properties": {
                "events": EVENTS_SCHEMA,
                "sent_at": {
                    "oneOf": [{"type": "number"}, {"type": "string", "format": "date-time"}],
                    "description": "The sender's clock at sending; its error is added to every ts.",
                },
            },
        },
    ]
}
KEY_PARAMETER = {"name": "key", "in": "query", "schema": {"type": "string"}, "description": "API key, for beacons."}
OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "JSON, with any Content-Type; Content-Encoding may be gzip.",
        "content": {kind: {"schema": BODY_SCHEMA} for kind in ("application/json", "text/plain")},
    },
    "parameters": [KEY_PARAMETER],
    "security": [{"bearer": []}, {}],
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No API key, or an unknown one."},
    403: {"description": "The API key, or the page's origin, is not allowed."},
    408: {"description": "The body was not complete in time."},
    413: {"description": "The body is too large, packed or unpacked, or has too many events."},
    415: {"description": "Content-Encoding is neither gzip nor none."},
    429: {"description": "Too many requests or events; retry after Retry-After."},
}

router = APIRouter()


@router.post(
    "/v1/events",
    response_model=BatchResult,
    openapi_extra=OPENAPI,
    responses={
        400: {
            "model": BatchResult,
            "description": "Some events are rejected, the others accepted; or the body is no JSON.",
        },
        503: {
            "model": BatchResult,
            "description": "Kafka has not acknowledged some events; send those again after Retry-After.",
        },
        **PROBLEMS,
    },
)
async def collect(request: Request) -> AsciiJson:
    """Accept events, and samples of counters and timers, which have a kind; the response has the outcome of each.

    One, a list of them, or {"events": [...], "sent_at": ...}.
    """
    state = request.app.state
    settings, access = state.settings, state.access
    key = access.enter(request, EVENTS)
    turns = state.turns
    body = await read_body(request, settings.collector_max_body_bytes, settings.collector_body_timeout_s, turns)
    charged = access.charge_body(key, len(body))
    async with turns.turn():
        sent = parse_events(body, settings.collector_max_events)
    access.charge_events(key, len(sent.events) - charged)
    now, user_agent = wall_clock_ms(), request.headers.get("user-agent", "")
    skew_ms = 0 if sent.sent_at is None else now - sent.sent_at
    checked = await turns.map(lambda event: state.checks.complete(event, user_agent, skew_ms, now), sent.events)
    result = await deliver(
        state.delivery, turns, state.metrics, way=EVENTS, checked=checked, most_bytes=settings.max_value_bytes
    )
    headers = {"Retry-After": str(int(RETRY_S))} if result.undelivered else None
    return AsciiJson(result.model_dump(exclude_none=True), result.status, headers)
