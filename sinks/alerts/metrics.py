"""What the notifier tells about itself, at ``/metrics``."""

from __future__ import annotations

import math
import time

from prometheus_client import Counter, Gauge

from funnelwatch.process_metrics import process_registry

REGISTRY = process_registry()
"""Only a notifier shows it."""

DECIDED = Counter(
    "funnelwatch_notifications_total",
    "Messages a route is done with, by what came of them.",
    ["route", "outcome"],
    registry=REGISTRY,
)
PASSED = Counter(
    "funnelwatch_notifications_passed_total",
    "Messages a route does not tell, by why.",
    ["route", "why"],
    registry=REGISTRY,
)
FAILED = Counter(
    "funnelwatch_notify_failures_total", "Attempts after which a message has to wait.", ["route"], registry=REGISTRY
)
WAITING = Gauge(
    "funnelwatch_notifications_waiting", "Messages that a route has still to tell.", ["route"], registry=REGISTRY
)
OLDEST = Gauge(
    "funnelwatch_notifications_oldest_seconds", "How long the oldest of them has waited.", ["route"], registry=REGISTRY
)
LAST = Gauge(
    "funnelwatch_notify_last_success_seconds",
    "When a route last took something, Unix time.",
    ["route"],
    registry=REGISTRY,
)
HOLDS = Gauge(
    "funnelwatch_notify_holds", "1 while this notifier, and no other, serves the route.", ["route"], registry=REGISTRY
)

_waits_since: dict[str, float] = {}


def note_waiting(route: str, number: int | None, oldest_s: float) -> None:
    """Note what a route has still to tell.

    The age is computed at each scrape, so that it grows while nobody can ask the database.

    Args:
        route: its name.
        number: messages; None: the database does not tell.
        oldest_s: how long the oldest has waited, s.
    """
    WAITING.labels(route).set(math.nan if number is None else number)
    if number:
        _waits_since[route] = time.time() - oldest_s
    elif number == 0:
        _waits_since.pop(route, None)
    since = _waits_since.get(route)
    unknown = math.nan if number is None else 0.0
    OLDEST.labels(route).set_function(lambda: unknown if since is None else time.time() - since)
