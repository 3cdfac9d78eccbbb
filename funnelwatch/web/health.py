"""Liveness, readiness and metrics of the board and the query API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

from funnelwatch.schemas.process_metrics import process_registry
from funnelwatch.schemas.redaction import error_clause
from funnelwatch.sinks.errors import BusyError
from funnelwatch.sinks.redis.client import NO_REDIS, connect, explain

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

router = APIRouter(include_in_schema=False)


class Metrics:
    """The metrics of this server; names and labels are part of the public interface."""

    def __init__(self) -> None:
        self.registry = process_registry()
        self.requests = Counter(
            "funnelwatch_board_requests_total",
            "Requests answered, by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "funnelwatch_board_request_seconds",
            "Time until an answer begins, by route.",
            ["route"],
            registry=self.registry,
        )


class Counting:
    """Counts requests by their route, never by the path a client sent.

    Args:
        app: the application behind it.
        metrics: the counters.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = _route(scope)
                self._metrics.requests.labels(route, message["status"]).inc()
                self._metrics.seconds.labels(route).observe(time.monotonic() - begun)
            await send(message)

        await self._app(scope, receive, send_counted)


def _route(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return "other"
    # A route below a prefix knows its own part only; one that holds many files or names is counted as one.
    if "{" in path:
        return "/".join(scope["path"].split("/")[: -path.count("/")]) + str(path)
    return str(scope["path"] if scope["path"].endswith(path) else path)


@router.get("/healthz")
async def healthz() -> PlainTextResponse:
    """The process lives and its loop turns."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
def readyz(request: Request) -> JSONResponse:
    """Readiness: 503 without the database. Without Redis queries work, and the board reads the database.

    Redis is "ok", an error, or not configured.
    """
    state: dict[str, Any] = {"database": _database_error(request), "redis": _redis_error(request)}
    return JSONResponse(
        {name: error or "ok" for name, error in state.items()}, status_code=503 if state["database"] else 200
    )


@router.get("/metrics")
def metrics(request: Request) -> PlainTextResponse:
    """For Prometheus."""
    return PlainTextResponse(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _database_error(request: Request) -> str | None:
    try:
        request.app.state.pool.run(lambda database: database.query("window_length"))
    except (psycopg.Error, BusyError) as error:
        return error_clause(error)
    return None


def _redis_error(request: Request) -> str | None:
    if not request.app.state.settings.redis_url:
        return NO_REDIS
    try:
        with connect(request.app.state.settings.redis_url, timeout_s=2, connect_timeout_s=2) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        return explain(error)
    return None
