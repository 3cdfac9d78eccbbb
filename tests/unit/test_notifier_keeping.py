"""What a notifier that starts again does with alerts whose log is deleted."""

from __future__ import annotations

import json

import pytest

from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.alerts.notifier import Notifier
from funnelwatch.sinks.alerts.routes import parse_routes
from tests.alerts import alert

DAY_MS = 86_400_000
NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("keep", "published_days_ago", "route_days_ago", "queued"),
    [
        (30, 31, 100, False),
        (30, 31, 10, True),  # a new route learns what fires, however long it has
        (30, 28, 100, True),
        (0, 3_000, 4_000, True),
    ],
)
def test_what_is_older_than_the_log_is_kept_is_not_sent_again(
    keep: int, published_days_ago: int, route_days_ago: int, queued: bool
) -> None:
    """The topic is compacted and never forgets; the log does, so what it may have forgotten is passed over."""
    routes = parse_routes(json.dumps({"routes": [{"name": "r", "kind": "webhook", "url": "http://h/"}]}), "routes", {})
    notifier = Notifier(Settings(keep_alerts_days=keep), routes, lambda: NOW)
    vars(notifier)["_since"] = {"r": NOW - route_days_ago * DAY_MS}
    wanted = notifier._wanted(alert(), NOW - published_days_ago * DAY_MS)
    assert [one.route for one in wanted] == (["r"] if queued else [])
