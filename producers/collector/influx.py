"""``POST /api/v2/write`` and ``POST /write``: line protocol, with the answers of InfluxDB 2 and 1."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from funnelwatch.producers.collector.access import first_parameter
from funnelwatch.producers.collector.body import read_body
from funnelwatch.producers.collector.events import KEY_PARAMETER, RETRY_S
from funnelwatch.producers.collector.intake import Fault
from funnelwatch.producers.collector.keys import LINES
from funnelwatch.producers.collector.lines import PRECISIONS, BadLine, parse_point, split_lines
from funnelwatch.producers.collector.problem import AsciiJson, Problem
from funnelwatch.producers.collector.service import answer
from funnelwatch.schemas.events import now_ms

if TYPE_CHECKING:
    from funnelwatch.producers.collector.keys import ApiKey
    from funnelwatch.producers.collector.service import Answer

VERSION = "2.7.0"
"""The InfluxDB whose answers these are; some clients ask."""

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
TOLD = 5
"""Wrong lines that an answer shows; the others are counted."""

OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "InfluxDB line protocol; Content-Encoding gzip is taken.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
    "parameters": [
        {
            "name": "precision",
            "in": "query",
            "schema": {"enum": ["", *sorted(PRECISIONS)], "default": "ns"},
            "description": "Unit of timestamps; empty: ns. Of several the first counts, as in InfluxDB.",
        },
        KEY_PARAMETER,
    ],
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    204: {"description": "Kafka has acknowledged what all lines make."},
    400: {"description": "Some lines are wrong and dropped; the others are taken (partial write)."},
    401: {"description": "No token, or one that is not known."},
    413: {"description": "The body is too large, or has too many lines."},
    429: {"description": "Too much; Retry-After says when to try again."},
    503: {"description": "Kafka has not acknowledged all; send the same again after Retry-After: it is counted once."},
}

router = APIRouter()


@router.post("/api/v2/write", status_code=204, openapi_extra=OPENAPI, responses=RESPONSES)
async def write_v2(request: Request) -> Response:
    """Take line protocol as InfluxDB 2 does; organisation and bucket are not looked at."""
    try:
        return _said(await _write(request))
    except Problem as problem:
        content = {"code": CODES.get(problem.status, "internal error"), "message": problem.detail}
        return AsciiJson(content, problem.status, problem.headers)


@router.post("/write", status_code=204, openapi_extra=OPENAPI, responses=RESPONSES)
async def write_v1(request: Request) -> Response:
    """Take line protocol as InfluxDB 1 does; the database is not looked at, the password is the API key."""
    try:
        return _said(await _write(request))
    except Problem as problem:
        said = "".join(letter if " " <= letter <= "~" else "?" for letter in problem.detail)
        return AsciiJson({"error": problem.detail}, problem.status, {**problem.headers, "X-Influxdb-Error": said[:500]})


@router.get("/ping", status_code=204)
@router.head("/ping", status_code=204)
async def ping() -> Response:
    """What clients of InfluxDB ask to see whether it is there."""
    return Response(status_code=204, headers={"X-Influxdb-Version": VERSION, "X-Influxdb-Build": "funnelwatch"})


async def _write(request: Request) -> tuple[Answer, list[int]]:
    """Deliver what the lines make; the answer, and the number of the line of each thing in it."""
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
    now = now_ms()

    def make(line: str) -> dict[str, Any] | Fault | None:
        point = parse_point(line, PRECISIONS[precision])
        made: dict[str, Any] | Fault | None = (
            Fault("", point.message) if isinstance(point, BadLine) else state.lines.map(point, now)
        )
        return made

    made = await turns.map(make, (line for _, line in lines))
    kept = [(number, one) for (number, _), one in zip(lines, made, strict=True) if one is not None]
    said = await answer(state.delivery, turns, LINES, [one for _, one in kept], settings.max_value_bytes)
    return said, [number for number, _ in kept]


def _said(outcome: tuple[Answer, list[int]]) -> Response:
    """204, or what is wrong, as a partial write.

    Raises:
        Problem: a line is wrong (400), or Kafka has not acknowledged all (503).
    """
    said, numbers = outcome
    if said.undelivered:
        first = next(event.message for event in said.events if event.outcome == "undelivered")
        raise Problem(503, f"{said.undelivered} points are not acknowledged by Kafka: {first}", retry_after_s=RETRY_S)
    if said.rejected:
        wrong = [event for event in said.events if event.outcome == "rejected"]
        lines = [
            f"line {numbers[event.index]}: {f'{event.field}: ' if event.field else ''}{event.message}"
            for event in wrong[:TOLD]
        ]
        more = f"; and {said.rejected - TOLD} more" if said.rejected > TOLD else ""
        raise Problem(400, f"partial write: {'; '.join(lines)}{more} dropped={said.rejected}")
    return Response(status_code=204)
