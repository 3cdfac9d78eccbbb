"""What the notifier tells about itself, at ``/metrics``."""

from __future__ import annotations

import math
import time
from functools import partial

from prometheus_client import Counter, Gauge

from funnelwatch.schemas.process_metrics import process_registry
from funnelwatch.sinks.servers import DATABASE, KAFKA, servers

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

CONTACT = Gauge(
    "funnelwatch_notify_last_contact_age_seconds",
    "Time since a server answered this notifier, or since its start if it never did, s.",
    ["server"],
    registry=REGISTRY,
)
_started = time.monotonic()


def contact_age_s(server: str) -> float:
    """How long ago a server answered this process; since its start where it never did, s."""
    silent_s = servers.silent_s(server)
    return time.monotonic() - _started if math.isnan(silent_s) else silent_s


for _server in (KAFKA, DATABASE):
    CONTACT.labels(_server).set_function(partial(contact_age_s, _server))

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
