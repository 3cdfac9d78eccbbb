"""``POST /api/v2/write`` and ``POST /write``: line protocol, with the responses of InfluxDB 2 and 1."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from funnelwatch.producers.collector.access import first_parameter
from funnelwatch.producers.collector.body import read_body
from funnelwatch.producers.collector.events import KEY_PARAMETER, RETRY_S
from funnelwatch.producers.collector.intake import Invalid
from funnelwatch.producers.collector.keys import LINES
from funnelwatch.producers.collector.lines import PRECISIONS, BadLine, parse_point, split_lines
from funnelwatch.producers.collector.service import deliver
from funnelwatch.producers.http.problem import AsciiJson, Problem
from funnelwatch.schemas.clock import wall_clock_ms

if TYPE_CHECKING:
    from funnelwatch.producers.collector.keys import ApiKey
    from funnelwatch.producers.collector.service import BatchResult

VERSION = "2.7.0"
"""The InfluxDB version that the responses follow; some clients ask for it."""

CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    408: "invalid",
    413: "request too large",
    415: "invalid",
    429: "too many requests",
    503: "unavailable",
}
SHOWN_LINES = 5
"""A response quotes at most this many invalid lines, and counts the others."""

OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "InfluxDB line protocol; Content-Encoding may be gzip.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
    "parameters": [
        {
            "name": "precision",
            "in": "query",
            "schema": {"enum": ["", *sorted(PRECISIONS)], "default": "ns"},
            "description": "Unit of timestamps; empty: ns. The first of several counts, as in InfluxDB.",
        },
        KEY_PARAMETER,
    ],
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    204: {"description": "Kafka has acknowledged the events of all lines."},
    400: {"description": "Some lines are invalid and dropped; the others are accepted (partial write)."},
    401: {"description": "No token, or an unknown one."},
    413: {"description": "The body is too large, or has too many lines."},
    429: {"description": "Too many requests or events; retry after Retry-After."},
    503: {"description": "Kafka has not acknowledged all events; send the same body again: each event counts once."},
}

router = APIRouter()


@router.post("/api/v2/write", status_code=204, openapi_extra=OPENAPI, responses=RESPONSES)
async def write_v2(request: Request) -> Response:
    """Accept line protocol as InfluxDB 2 does; organisation and bucket are ignored."""
    try:
        return _response(await _write(request))
    except Problem as problem:
        content = {"code": CODES.get(problem.status, "internal error"), "message": problem.detail}
        return AsciiJson(content, problem.status, problem.headers)


@router.post("/write", status_code=204, openapi_extra=OPENAPI, responses=RESPONSES)
async def write_v1(request: Request) -> Response:
    """Accept line protocol as InfluxDB 1 does; the database is ignored, the password is the API key."""
    try:
        return _response(await _write(request))
    except Problem as problem:
        header = "".join(letter if " " <= letter <= "~" else "?" for letter in problem.detail)
        return AsciiJson(
            {"error": problem.detail}, problem.status, {**problem.headers, "X-Influxdb-Error": header[:500]}
        )


@router.get("/ping", status_code=204)
@router.head("/ping", status_code=204)
async def ping() -> Response:
    """The liveness check of InfluxDB clients."""
    return Response(status_code=204, headers={"X-Influxdb-Version": VERSION, "X-Influxdb-Build": "funnelwatch"})


async def _write(request: Request) -> tuple[BatchResult, list[int]]:
    """Deliver the events of the lines; the result, and the line number of each event in it."""
    state = request.app.state
    settings, access = state.settings, state.access
    key: ApiKey = access.enter(request, LINES)
    precision = first_parameter(request, "precision") or "ns"
    if precision not in PRECISIONS:
        right = ", ".join(PRECISIONS)
        raise Problem(400, f"precision: {precision[:50]!r} is not one of {right}, or empty for ns", close=True)
    turns, most = state.turns, settings.collector_max_events
    body = await read_body(request, settings.collector_max_body_bytes, settings.collector_body_timeout_s, turns)
    charged = access.charge_body(key, len(body))
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8: {error}") from None
    async with turns.turn():
        lines = list(islice(split_lines(text), most + 1))
    if len(lines) > most:
        raise Problem(413, f"more than {most} lines at once; send fewer at once")
    access.charge_events(key, len(lines) - charged)
    now = wall_clock_ms()

    def make(line: str) -> dict[str, Any] | Invalid | None:
        point = parse_point(line, PRECISIONS[precision])
        made: dict[str, Any] | Invalid | None = (
            Invalid("", point.message) if isinstance(point, BadLine) else state.lines.map(point, now)
        )
        return made

    made = await turns.map(make, (line for _, line in lines))
    kept = [(number, one) for (number, _), one in zip(lines, made, strict=True) if one is not None]
    result = await deliver(
        state.delivery,
        turns,
        state.metrics,
        way=LINES,
        checked=[one for _, one in kept],
        most_bytes=settings.max_value_bytes,
    )
    return result, [number for number, _ in kept]


def _response(outcome: tuple[BatchResult, list[int]]) -> Response:
    """204, or the errors, as a partial write.

    Raises:
        Problem: a line is invalid (400), or Kafka has not acknowledged all events (503).
    """
    result, numbers = outcome
    if result.undelivered:
        first = next(event.message for event in result.events if event.outcome == "undelivered")
        raise Problem(503, f"Kafka has not acknowledged {result.undelivered} points: {first}", retry_after_s=RETRY_S)
    if result.rejected:
        wrong = [event for event in result.events if event.outcome == "rejected"]
        lines = [
            f"line {numbers[event.index]}: {f'{event.field}: ' if event.field else ''}{event.message}"
            for event in wrong[:SHOWN_LINES]
        ]
        more = f"; and {result.rejected - SHOWN_LINES} more" if result.rejected > SHOWN_LINES else ""
        raise Problem(400, f"partial write: {'; '.join(lines)}{more} dropped={result.rejected}")
    return Response(status_code=204)
