"""``funnelwatch funnels show`` against a real database."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from tests.any_dimension import Counted, insert_counts
from tests.command import run, succeed, succeed_json
from tests.filling import MINUTE_MS, count

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

T = 1_794_996_000_000
STEP = "VERIFY_SMS_CODE"


def test_show_tells_how_much_of_the_limits_is_used_and_what_is_folded(settings: Settings) -> None:
    """Series, values and events are those of this funnel; (other) is no value."""
    count(
        settings,
        {
            (T, STEP, "iOS", "Safari", "1.0"): (10, 4, 1),
            (T + MINUTE_MS, STEP, "iOS", "Safari", "1.0"): (10, 4, 1),
            (T, STEP, "Android", "(other)", "1.0"): (5, 3, 2),
        },
    )
    count(settings, {(T, STEP, "iOS", "", "9"): (1_000, 0, 0)}, funnel="shop")
    assert succeed_json(settings, "funnels", "show", "sign_up")["used"] == {
        "series": 2,
        "folded_series": 1,
        "events": 40,
        "folded_events": 10,
        "dimensions": {
            "os": {"values": 2, "folded_events": 0},
            "browser": {"values": 1, "folded_events": 10},
            "app_version": {"values": 1, "folded_events": 0},
        },
    }
    shown = succeed(settings, "funnels", "show", "sign_up")
    assert "series: 2 of 10,000" in shown
    assert "folded: 1 series, 10 of 40 events" in shown


def test_show_before_any_worker_ran_tells_that_there_are_no_tables(settings: Settings) -> None:
    """An empty database is not a funnel without series."""
    found = run(settings, "funnels", "show", "sign_up")
    assert found.exit_code == 0
    assert "has no tables of funnelwatch yet" in found.stderr
    assert "series: unknown" in found.stdout


def test_show_lists_dimensions_of_stored_series_that_are_no_longer_declared(settings: Settings) -> None:
    """Behind the declared ones, without a limit."""
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        insert_counts(database, "sign_up", [Counted(T, STEP, {"os": "iOS", "plan": "free", "country": "DE"}, 3)])
    used = succeed_json(settings, "funnels", "show", "sign_up")["used"]["dimensions"]
    assert list(used) == ["os", "browser", "app_version", "country", "plan"]
    assert used["country"] == {"values": 1, "folded_events": 0}
    shown = succeed(settings, "funnels", "show", "sign_up")
    [line] = [line for line in shown.splitlines() if "country" in line]
    assert "not declared" in line
