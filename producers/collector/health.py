"""Liveness, readiness and metrics of the collector."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from funnelwatch.producers.http.problem import Problem

READY_S = 2.0
"""Kafka must answer within this, s."""

router = APIRouter()


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
