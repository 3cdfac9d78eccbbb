"""What the notifier tells about itself, at ``/metrics``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

DECIDED = Counter(
    "funnelwatch_notifications_total", "Messages a route is done with, by what came of them.", ["route", "outcome"]
)
PASSED = Counter("funnelwatch_notifications_passed_total", "Messages a route does not tell, by why.", ["route", "why"])
FAILED = Counter("funnelwatch_notify_failures_total", "Attempts after which a message has to wait.", ["route"])
WAITING = Gauge("funnelwatch_notifications_waiting", "Messages that a route has still to tell.", ["route"])
OLDEST = Gauge("funnelwatch_notifications_oldest_seconds", "How long the oldest of them has waited.", ["route"])
LAST = Gauge("funnelwatch_notify_last_success_seconds", "When a route last took something, Unix time.", ["route"])
HOLDS = Gauge("funnelwatch_notify_holds", "1 while this notifier, and no other, serves the route.", ["route"])
