"""The collector's web application: its paths, and what all of them share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from funnelwatch.producers.collector import events, health, influx
from funnelwatch.producers.collector.access import Access
from funnelwatch.producers.collector.delivery import Delivery
from funnelwatch.producers.collector.intake import Checks
from funnelwatch.producers.collector.keys import load_keys
from funnelwatch.producers.collector.line_mapper import LineMapper
from funnelwatch.producers.collector.line_mapping import load_line_mapping
from funnelwatch.producers.collector.metrics import IN_FLIGHT, REQUESTS
from funnelwatch.producers.collector.problem import Problem
from funnelwatch.producers.collector.turns import Turns
from funnelwatch.producers.collector.user_agent import platform_and_browser
from funnelwatch.producers.kafka.topics import KafkaUnreachable, ensure_topics
from funnelwatch.schemas.funnels import load_funnels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from funnelwatch.schemas.settings import Settings

logger = logging.getLogger("funnelwatch.collector")

TOPICS_AGAIN_S = 5.0
"""Pause between attempts to make the topics, in seconds."""

DESCRIPTION = """\
Puts events of funnels, counters and timers on Kafka, for whoever does not speak Kafka. An event is acknowledged when
Kafka has acknowledged it. Send what is undelivered again, with the same event_id: it is counted once.
"""


def create_app(settings: Settings) -> FastAPI:
    """The application; connects to Kafka when it starts, and delivers what is on its way when it ends.

    Raises:
        funnelwatch.producers.collector.keys.KeysError: an API key cannot be used.
        funnelwatch.schemas.funnels.FunnelsFileError: the declared funnels cannot be read.
        funnelwatch.producers.collector.line_mapping.LinesFileError: the mapping of line protocol cannot be used.
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
    app.state.access = Access(settings, load_keys(settings))
    app.state.checks = Checks(settings, load_funnels(settings.funnels_path))
    app.state.turns = Turns()
    app.state.lines = LineMapper(load_line_mapping(settings.lines_path), app.state.checks)
    app.include_router(health.router)
    app.include_router(events.router)
    app.include_router(influx.router)
    app.add_exception_handler(Problem, _tell)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[origin.strip().rstrip("/") for origin in settings.collector_origins.split(",")],
        allow_credentials=True,  # beacons ask with credentials, whatever the page wants; there are no cookies here
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "Content-Encoding"],
        expose_headers=["Retry-After"],
        max_age=86_400,
    )
    app.add_middleware(Counted)
    return app


class Counted:
    """Counts requests by their status."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                REQUESTS.labels(str(message["status"])).inc()
            await send(message)

        with IN_FLIGHT.track_inprogress():
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
    """Make the topics as soon as Kafka answers; until then events are answered with 503."""
    while True:
        try:
            await asyncio.to_thread(ensure_topics, settings, TOPICS_AGAIN_S)
        except KafkaUnreachable as error:
            logger.warning("%s", error)
            await asyncio.sleep(TOPICS_AGAIN_S)
        else:
            return


def _tell(request: Request, problem: Any) -> Response:
    response: Response = problem.response()
    return response
