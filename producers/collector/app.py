"""The collector's web application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response

from funnelwatch.producers.collector import events, influx
from funnelwatch.producers.collector.access import Access
from funnelwatch.producers.collector.delivery import Delivery
from funnelwatch.producers.collector.intake import Checks
from funnelwatch.producers.collector.keys import load_keys
from funnelwatch.producers.collector.line_mapper import LineMapper
from funnelwatch.producers.collector.line_mapping import load_line_mapping
from funnelwatch.producers.collector.metrics import CollectorMetrics
from funnelwatch.producers.collector.turns import Turns
from funnelwatch.producers.collector.user_agent import platform_and_browser
from funnelwatch.producers.http import problem
from funnelwatch.producers.http.problem import Problem
from funnelwatch.producers.kafka.topics import KafkaUnreachable, ensure_topics
from funnelwatch.schemas.funnels import load_funnels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from funnelwatch.schemas.settings import Settings

logger = logging.getLogger("funnelwatch.collector")

READY_S = 2.0
"""Kafka must answer within this, s."""
TOPICS_AGAIN_S = 5.0
"""Pause between attempts to create the topics, s."""

DESCRIPTION = """\
Writes events of funnels, counters and timers to Kafka, for clients without a Kafka library. The collector acknowledges
an event when Kafka has acknowledged it. Send undelivered events again with the same event_id: each counts once.
"""

router = APIRouter()


def create_app(settings: Settings) -> FastAPI:
    """The application; connects to Kafka at startup, and delivers pending events at shutdown.

    Raises:
        funnelwatch.producers.collector.keys.KeysError: an API key is invalid.
        funnelwatch.schemas.funnels.FunnelsFileError: the declared funnels cannot be read.
        funnelwatch.producers.collector.line_mapping.LinesFileError: the mapping of line protocol is invalid.
    """
    app = FastAPI(
        title="funnelwatch collector",
        description=DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=_life,
    )
    app.state.settings = settings
    app.state.metrics = CollectorMetrics()
    app.state.access = Access(settings, load_keys(settings), app.state.metrics)
    app.state.checks = Checks(settings, load_funnels(settings.funnels_path))
    app.state.turns = Turns()
    app.state.lines = LineMapper(load_line_mapping(settings.lines_path), app.state.checks)
    app.include_router(router)
    app.include_router(events.router)
    app.include_router(influx.router)
    problem.install(app)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[origin.strip().rstrip("/") for origin in settings.collector_origins.split(",")],
        allow_credentials=True,  # beacons ask with credentials, whatever the page wants; there are no cookies here
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "Content-Encoding"],
        expose_headers=["Retry-After"],
        max_age=86_400,
    )
    app.add_middleware(CountRequests, metrics=app.state.metrics)
    return app


class CountRequests:
    """Counts requests by their status.

    Args:
        app: the application behind it.
        metrics: the counters.
    """

    def __init__(self, app: ASGIApp, metrics: CollectorMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            await self._app(scope, receive, count)


@contextlib.asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    app.state.delivery = delivery = Delivery(settings)
    topics = asyncio.create_task(_make_topics(settings))
    await asyncio.to_thread(platform_and_browser, "Mozilla/5.0")  # reads a thousand patterns, once
    try:
        yield
    finally:
        topics.cancel()
        await asyncio.gather(topics, return_exceptions=True)
        await asyncio.to_thread(delivery.close)


async def _make_topics(settings: Settings) -> None:
    """Create the topics as soon as Kafka answers; until then the collector answers events with 503."""
    while True:
        try:
            await asyncio.to_thread(ensure_topics, settings, TOPICS_AGAIN_S)
        except KafkaUnreachable as error:
            logger.warning("%s", error)
            await asyncio.sleep(TOPICS_AGAIN_S)
        else:
            return


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """The process lives."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Kafka does not answer."}})
async def readyz(request: Request) -> str:
    """Kafka answers and has the topic, so the collector can deliver events."""
    if not await asyncio.to_thread(request.app.state.delivery.reachable, READY_S):
        servers = request.app.state.settings.kafka_bootstrap_servers
        topic = request.app.state.settings.events_topic
        raise Problem(503, f"Kafka at {servers} does not answer, or has no topic {topic}", retry_after_s=READY_S)
    return "ok\n"


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
