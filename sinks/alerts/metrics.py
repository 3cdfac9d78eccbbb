"""The notifier's metrics, at ``/metrics``."""

from __future__ import annotations

import math
import time
from functools import partial

from prometheus_client import Counter, Gauge

from funnelwatch.schemas.process_metrics import process_registry
from funnelwatch.sinks.servers import DATABASE, KAFKA, servers

REGISTRY = process_registry()
"""Only a notifier exposes it."""

DECIDED = Counter(
    "funnelwatch_notifications_total",
    "Messages that a route has finished with, by outcome.",
    ["route", "outcome"],
    registry=REGISTRY,
)
SKIPPED = Counter(
    "funnelwatch_notifications_skipped_total",
    "Messages that a route does not send, by reason.",
    ["route", "reason"],
    registry=REGISTRY,
)
FAILED = Counter(
    "funnelwatch_notify_failures_total", "Failed attempts to deliver a message.", ["route"], registry=REGISTRY
)
WAITING = Gauge("funnelwatch_notifications_waiting", "Messages that wait for a route.", ["route"], registry=REGISTRY)
OLDEST = Gauge(
    "funnelwatch_notifications_oldest_seconds",
    "Time since the oldest waiting message was queued, s.",
    ["route"],
    registry=REGISTRY,
)
LAST = Gauge(
    "funnelwatch_notify_last_success_seconds",
    "Unix time of the last successful delivery, s.",
    ["route"],
    registry=REGISTRY,
)
OWNS = Gauge(
    "funnelwatch_notify_owns_route",
    "1 while this notifier, and no other, serves the route.",
    ["route"],
    registry=REGISTRY,
)

CONTACT = Gauge(
    "funnelwatch_notify_last_contact_age_seconds",
    "Time since a server answered this notifier, or since its start if it never answered, s.",
    ["server"],
    registry=REGISTRY,
)
_started = time.monotonic()


def contact_age_s(server: str) -> float:
    """Time since a server answered this process, or since its start if it never answered, s."""
    silent_s = servers.silent_s(server)
    return time.monotonic() - _started if math.isnan(silent_s) else silent_s


for _server in (KAFKA, DATABASE):
    CONTACT.labels(_server).set_function(partial(contact_age_s, _server))

_waits_since: dict[str, float] = {}


def note_waiting(route: str, number: int | None, oldest_s: float) -> None:
    """Record how many messages wait for a route.

    The age is computed at each scrape, so that it grows while the database is away.

    Args:
        route: its name.
        number: messages; None: unknown, since the database is away.
        oldest_s: time since the oldest was queued, s.
    """
    WAITING.labels(route).set(math.nan if number is None else number)
    if number:
        _waits_since[route] = time.time() - oldest_s
    elif number == 0:
        _waits_since.pop(route, None)
    since = _waits_since.get(route)
    unknown = math.nan if number is None else 0.0
    OLDEST.labels(route).set_function(lambda: unknown if since is None else time.time() - since)
