"""Watch the conversion of a sign-up funnel.

An app needs only this::

    from funnelwatch import FunnelProducer

The names are imported when they are first used, so that a command does not load what it has no use for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producers.asgi import FunnelAsgi
    from producers.asynchronous import AsyncFunnelProducer
    from producers.handlers import judges, shows
    from producers.producer import BufferFull, FunnelProducer, ProducerStats, Undelivered
    from producers.visits import current_step
    from producers.wsgi import FunnelWsgi
    from schemas.events import FunnelEvent, Phase, Status
    from schemas.metrics import Metric, MetricKind

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
    "AsyncFunnelProducer": "producers.asynchronous",
    "BufferFull": "producers.producer",
    "FunnelAsgi": "producers.asgi",
    "FunnelEvent": "schemas.events",
    "FunnelProducer": "producers.producer",
    "FunnelWsgi": "producers.wsgi",
    "Metric": "schemas.metrics",
    "MetricKind": "schemas.metrics",
    "Phase": "schemas.events",
    "ProducerStats": "producers.producer",
    "Status": "schemas.events",
    "Undelivered": "producers.producer",
    "current_step": "producers.visits",
    "judges": "producers.handlers",
    "shows": "producers.handlers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
