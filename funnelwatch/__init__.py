"""Watch the conversion of a sign-up funnel.

An app needs only this::

    from funnelwatch import FunnelProducer

The names are imported when they are first used, so that a command does not load what it has no use for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from funnelwatch.producers.client.asgi import FunnelAsgi
    from funnelwatch.producers.client.asynchronous import AsyncFunnelProducer
    from funnelwatch.producers.client.cookie import FunnelCookie
    from funnelwatch.producers.client.handlers import track_impression, track_verification
    from funnelwatch.producers.client.outcomes import BufferFull, ProducerStats, Undelivered
    from funnelwatch.producers.client.producer import FunnelProducer
    from funnelwatch.producers.client.step import StepShown
    from funnelwatch.producers.client.visit import Request, Visit, current_step, show_step
    from funnelwatch.producers.client.wsgi import FunnelWsgi
    from funnelwatch.schemas.errors import FunnelwatchError
    from funnelwatch.schemas.events import FunnelEvent, Phase, Status
    from funnelwatch.schemas.metrics import Metric, MetricKind

__all__ = [
    "AsyncFunnelProducer",
    "BufferFull",
    "FunnelAsgi",
    "FunnelCookie",
    "FunnelEvent",
    "FunnelProducer",
    "FunnelWsgi",
    "FunnelwatchError",
    "Metric",
    "MetricKind",
    "Phase",
    "ProducerStats",
    "Request",
    "Status",
    "StepShown",
    "Undelivered",
    "Visit",
    "current_step",
    "show_step",
    "track_impression",
    "track_verification",
]

_HOMES = {
    "AsyncFunnelProducer": "funnelwatch.producers.client.asynchronous",
    "BufferFull": "funnelwatch.producers.client.outcomes",
    "FunnelAsgi": "funnelwatch.producers.client.asgi",
    "FunnelCookie": "funnelwatch.producers.client.cookie",
    "FunnelEvent": "funnelwatch.schemas.events",
    "FunnelProducer": "funnelwatch.producers.client.producer",
    "FunnelWsgi": "funnelwatch.producers.client.wsgi",
    "FunnelwatchError": "funnelwatch.schemas.errors",
    "Metric": "funnelwatch.schemas.metrics",
    "MetricKind": "funnelwatch.schemas.metrics",
    "Phase": "funnelwatch.schemas.events",
    "ProducerStats": "funnelwatch.producers.client.outcomes",
    "Request": "funnelwatch.producers.client.visit",
    "Status": "funnelwatch.schemas.events",
    "StepShown": "funnelwatch.producers.client.step",
    "Undelivered": "funnelwatch.producers.client.outcomes",
    "Visit": "funnelwatch.producers.client.visit",
    "current_step": "funnelwatch.producers.client.visit",
    "show_step": "funnelwatch.producers.client.visit",
    "track_impression": "funnelwatch.producers.client.handlers",
    "track_verification": "funnelwatch.producers.client.handlers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
