"""Watch the conversion of a sign-up funnel.

An app needs only this::

    from funnelwatch import FunnelProducer

The names are imported when they are first used, so that a command does not load what it has no use for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from funnelwatch.producers.asgi import FunnelAsgi
    from funnelwatch.producers.asynchronous import AsyncFunnelProducer
    from funnelwatch.producers.handlers import judges, shows
    from funnelwatch.producers.producer import BufferFull, FunnelProducer, ProducerStats, Undelivered
    from funnelwatch.producers.visits import current_step
    from funnelwatch.producers.wsgi import FunnelWsgi
    from funnelwatch.schemas.events import FunnelEvent, Phase, Status
    from funnelwatch.schemas.metrics import Metric, MetricKind

__all__ = [
    "AsyncFunnelProducer",
    "BufferFull",
    "FunnelAsgi",
    "FunnelEvent",
    "FunnelProducer",
    "FunnelWsgi",
    "Metric",
    "MetricKind",
    "Phase",
    "ProducerStats",
    "Status",
    "Undelivered",
    "current_step",
    "judges",
    "shows",
]

_HOMES = {
    "AsyncFunnelProducer": "funnelwatch.producers.asynchronous",
    "BufferFull": "funnelwatch.producers.producer",
    "FunnelAsgi": "funnelwatch.producers.asgi",
    "FunnelEvent": "funnelwatch.schemas.events",
    "FunnelProducer": "funnelwatch.producers.producer",
    "FunnelWsgi": "funnelwatch.producers.wsgi",
    "Metric": "funnelwatch.schemas.metrics",
    "MetricKind": "funnelwatch.schemas.metrics",
    "Phase": "funnelwatch.schemas.events",
    "ProducerStats": "funnelwatch.producers.producer",
    "Status": "funnelwatch.schemas.events",
    "Undelivered": "funnelwatch.producers.producer",
    "current_step": "funnelwatch.producers.visits",
    "judges": "funnelwatch.producers.handlers",
    "shows": "funnelwatch.producers.handlers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
