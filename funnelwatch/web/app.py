"""The application of the board and the query API."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from funnelwatch.schemas.web_hosts import ANY, Hosts
from funnelwatch.web import health, page, problems
from funnelwatch.web.api import alerts, funnel, funnels, metrics, rates, timers
from funnelwatch.web.board.hub import Hub
from funnelwatch.web.health import Counting, Metrics
from funnelwatch.web.pool import Pool
from funnelwatch.web.security import Guard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from funnelwatch.schemas.settings import Settings

API = "/api/v1"

DESCRIPTION = """\
Rates, counts, durations and alerts of funnels, counters and timers, as JSON or CSV. It reads only.

Times are ISO 8601 in UTC; parameters also accept a span before now (`15m`, `7d`) or `now`. Rates are 0 to 1, and null
for a step without impressions. Errors are problem details (RFC 9457).
"""


def create_app(settings: Settings, *, hosts: Collection[str] | None = None) -> FastAPI:
    """The app; ``app.state`` has ``settings``, ``pool``, ``hub``, ``metrics`` and ``stopping``, an event.

    Args:
        settings: addresses of database and Redis, and limits.
        hosts: the allowed host names, beside addresses and localhost; None: any.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.stopping.set()
        app.state.hub.stop()
        app.state.pool.close()

    app = FastAPI(
        title="funnelwatch",
        version=version("funnelwatch"),
        description=DESCRIPTION,
        openapi_url=f"{API}/openapi.json",
        # FastAPI's pages load their scripts from elsewhere, and the board works without a network.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.pool = Pool(settings.timescale_url)
    app.state.hub = Hub(settings, app.state.pool.database)
    app.state.metrics = Metrics()
    app.state.stopping = threading.Event()
    app.add_middleware(Counting, metrics=app.state.metrics)
    app.add_middleware(Guard, hosts=Hosts([ANY] if hosts is None else hosts))
    problems.install(app)
    for router in (health.router, page.router):
        app.include_router(router)
    for router in (rates.router, funnel.router, timers.router, metrics.router, alerts.router, funnels.router):
        app.include_router(router, prefix=API, responses=problems.RESPONSES)
    app.mount(
        "/static", StaticFiles(directory=str(files("funnelwatch.web") / "static"), check_dir=False), name="static"
    )
    return app
